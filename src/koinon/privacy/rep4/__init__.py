"""rep4: four parties, one of them arbitrarily malicious; words modulo 2⁶⁴, replicated (docs/spec/rep4.md)."""
