"""The same story on an outside EVM chain over HTTP: its bundle holds, and says that it trusts that chain's RPC."""

from pathlib import Path

import pytest
from audit_world import EXPORTER, PEOPLE, Journey, account

from koinon.audit.bundle import make_bundle, verify_bundle
from koinon.contracts.rpc import HttpRpc
from koinon.kernel.ids import to_hex

pytestmark = pytest.mark.node


async def test_a_bundle_from_an_outside_chain(anvil: str, tmp_path: Path) -> None:
    rpc = HttpRpc([anvil])
    for name in PEOPLE:
        await rpc.request("anvil_setBalance", [to_hex(account(name).address), hex(10**24)])
    evidence = await Journey(tmp_path, rpc, outside=True).evidence()
    await rpc.close()
    bundle = make_bundle(
        evidence.subject, evidence.network, evidence.proof, evidence.documents, evidence.receipts, EXPORTER
    )
    report = verify_bundle(bundle)
    assert report.holds, [(check.identifier, check.detail) for check in report.failures]
    assert "the chain's RPC at export" in report.trusts[0]
