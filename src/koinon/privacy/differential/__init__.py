"""Differential privacy: noise that is drawn in secret, what it costs, and a budget that runs out."""
