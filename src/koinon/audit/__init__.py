"""Receipts and evidence bundles that a stranger can check offline."""
