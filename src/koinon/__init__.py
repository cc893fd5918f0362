"""Koinon: train models together without showing a row, and prove afterwards what happened."""

__version__ = "0.1.0"
