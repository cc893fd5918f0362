"""Private computation: one Backend interface, several engines."""
