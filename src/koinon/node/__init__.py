"""One organisation as one process: composes roles and supervises worker children."""
