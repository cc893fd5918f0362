"""Hashes, signatures, BLS, Merkle trees, commitments, public-key encryption."""
