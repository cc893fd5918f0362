"""Hardening and evaluation: attacks, load, fairness, the trust vector."""
