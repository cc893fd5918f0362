"""Passes, payment channels and vouchers, splits."""
