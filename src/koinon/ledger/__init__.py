"""Giskard consensus, execution, state, mempool, JSON-RPC."""
