"""Typed clients of the Solidity suite, and its compiled artefacts."""
