"""Supervised child processes with limits on memory, time and files: where anything heavy or untrusted runs."""
