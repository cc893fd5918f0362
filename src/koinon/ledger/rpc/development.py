"""The RPC of a development chain: every method of a node's, and those that need its keys and its clock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from koinon.ledger.development import DevelopmentChain, wallet
from koinon.ledger.rpc.calls import CallLane
from koinon.ledger.rpc.ethereum import ethereum_methods
from koinon.ledger.rpc.koinon import wait_method
from koinon.ledger.rpc.limits import Limits
from koinon.ledger.rpc.server import serve_rpc
from koinon.ledger.rpc.table import Table, table_of
from koinon.ledger.rpc.time_machine import time_methods
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.rpc.wallet import wallet_methods


def development_table(development: DevelopmentChain, lane: CallLane) -> Table:
    """All methods."""
    view = LedgerView(
        chain=development.chain,
        mempool=development.mempool,
        engine=development.engine,
        lane=lane,
        tip=development.tip,
        submit=development.submit,
        clock=development.clock,
        announcements=development.announcements,
    )
    return table_of(
        ethereum_methods(view),
        wallet_methods(view, wallet()),
        time_methods(development),
        (wait_method(development.chain, development.wait_final),),
    )


@asynccontextmanager
async def serve_development(
    development: DevelopmentChain, host: str, port: int, limits: Limits | None = None
) -> AsyncIterator[str]:
    """Answer while the context is open; gives the address as a URL. Raises Unavailable where the port is taken."""
    granted = limits or Limits()
    lane = CallLane(granted)
    try:
        async with serve_rpc(development_table(development, lane), host, port, granted) as url:
            yield url
    finally:
        lane.close()
