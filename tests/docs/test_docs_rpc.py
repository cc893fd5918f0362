"""The page about the RPC names every method there is and no other."""

import re
from pathlib import Path

from koinon.ledger.development import DevelopmentChain
from koinon.ledger.rpc.calls import CallLane
from koinon.ledger.rpc.development import development_table
from koinon.ledger.rpc.koinon import koinon_methods
from koinon.ledger.rpc.limits import Limits

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rpc.md"


async def test_every_method_is_named() -> None:
    methods = PAGE.read_text().partition("## Methods")[2].partition("## Errors")[0]
    named = set(re.findall(r"`([a-z0-9]+_[A-Za-z0-9_]+)`", methods))
    async with DevelopmentChain.open() as chain:
        lane = CallLane(Limits())
        table = development_table(chain, lane)
        lane.close()
        own = koinon_methods(chain.chain, NotImplemented, NotImplemented, chain.wait_final)
    assert named == {*table, *(method.name for method in own)}
