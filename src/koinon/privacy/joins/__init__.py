"""Who is in both: private set intersection between two owners."""
