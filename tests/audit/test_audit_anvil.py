"""The same story on an outside EVM chain over HTTP: its bundle holds, and says that it trusts that chain's RPC."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit_world import EXPORTER, PEOPLE, Journey, account

from koinon.audit.bundle import make_bundle, verify_bundle
from koinon.contracts.rpc import HttpRpc
from koinon.kernel.ids import to_hex

pytestmark = pytest.mark.node

NODE_MODULES = Path(__file__).resolve().parents[2] / "contracts" / "node_modules"


@pytest.fixture
def anvil() -> Iterator[str]:
    """Address of a fresh anvil chain."""
    found = sorted(NODE_MODULES.glob("@foundry-rs/anvil-*/bin/anvil*"))
    if not found:
        pytest.skip("anvil is not installed; run npm ci in contracts/")
    process = subprocess.Popen(
        [str(found[0]), "--host", "127.0.0.1", "--port", "0", "--chain-id", "31337"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        address = next((line for line in process.stdout if line.startswith("Listening on ")), None)
        if address is None:
            pytest.fail("anvil did not start")
        yield "http://" + address.removeprefix("Listening on ").strip()
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


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
