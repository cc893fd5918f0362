"""From facts to view models, one module for each question the site answers."""
