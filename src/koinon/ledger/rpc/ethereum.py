"""The methods that Ethereum's tools know, all together."""

import time
from collections.abc import Callable

from koinon.ledger.rpc.access_list import access_list_methods
from koinon.ledger.rpc.accounts import account_methods
from koinon.ledger.rpc.blocks import block_methods
from koinon.ledger.rpc.debug import debug_methods
from koinon.ledger.rpc.fees import fee_methods
from koinon.ledger.rpc.filters import filter_methods
from koinon.ledger.rpc.network import network_methods
from koinon.ledger.rpc.pool import pool_methods
from koinon.ledger.rpc.simulate import simulation_methods
from koinon.ledger.rpc.subscriptions import subscription_methods
from koinon.ledger.rpc.table import Method, constant
from koinon.ledger.rpc.transactions import transaction_methods
from koinon.ledger.rpc.view import LedgerView


def ethereum_methods(view: LedgerView, now: Callable[[], float] = time.monotonic) -> tuple[Method, ...]:
    """The methods without those that need the node to hold keys."""
    methods = (
        *network_methods(view),
        *block_methods(view),
        *transaction_methods(view),
        *account_methods(view),
        *access_list_methods(view),
        *fee_methods(view),
        *filter_methods(view, now),
        *subscription_methods(view),
        *pool_methods(view),
        *debug_methods(view),
        *simulation_methods(view),
    )
    spaces = sorted({method.name.split("_")[0] for method in methods})
    return (*methods, constant("rpc_modules", dict.fromkeys(spaces, "1.0")))
