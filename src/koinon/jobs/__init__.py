"""Studies: proposal, policy, consent, committee work, re-runs, result."""
