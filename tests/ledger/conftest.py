"""Fixtures of the ledger's tests."""

import pytest
from eth_account import Account as Wallet
from eth_account.signers.local import LocalAccount


@pytest.fixture
def rich() -> LocalAccount:
    """The account that owns 10^24 wei in every test genesis."""
    return Wallet.from_key(b"\x77" * 32)
