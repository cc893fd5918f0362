"""Proof of stake: who validates next, in integers only, and the system contract that holds the money."""
