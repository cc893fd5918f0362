"""Who is in both: private set intersection between two owners, and joins that show it to nobody."""
