"""Adapters to disks: ordered key-value store and content-addressed blobs."""
