"""Adapters to the network: TLS transport with pinned keys, discovery."""
