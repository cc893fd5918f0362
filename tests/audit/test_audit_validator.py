"""The story on a validator of our own: real consensus, real RPC, and a bundle that trusts nothing but its key."""

import time
from pathlib import Path

from audit_world import EXPORTER, PEOPLE, Journey, account, node

from koinon.audit.bundle import make_bundle, verify_bundle
from koinon.contracts.rpc import HttpRpc
from koinon.crypto.bls import BlsKey
from koinon.crypto.hash import sha256
from koinon.kernel.quantities import ChainId, Milliseconds, UnixSeconds, Wei
from koinon.ledger.genesis import Genesis, GenesisValidator, Parameters, funded
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.transport import Transport


async def test_a_bundle_from_a_validators_rpc(tmp_path: Path) -> None:
    key, bls = node("validator"), BlsKey.from_seed(sha256(b"validator"))
    async with Transport.open(key, "127.0.0.1", 0) as transport:
        member = GenesisValidator(
            key.node_id,
            account("validator").address,
            bls.public_key,
            bls.prove_possession(),
            "127.0.0.1",
            transport.endpoint.port,
        )
        genesis = Genesis(
            ChainId(20262),
            UnixSeconds(int(time.time())),
            (member,),
            tuple(funded(account(name).address, Wei(10**24)) for name in PEOPLE),
            Parameters(base_timeout=Milliseconds(1000)),
        )
        opening = Validator.open(ValidatorConfig(), bls, transport, key.node_id, tmp_path / "ledger", genesis)
        async with opening as validator:
            assert validator.rpc_url is not None
            rpc = HttpRpc([validator.rpc_url])
            evidence = await Journey(tmp_path, rpc).evidence()
            await rpc.close()
    bundle = make_bundle(
        evidence.subject, evidence.network, evidence.proof, evidence.documents, evidence.receipts, EXPORTER
    )
    report = verify_bundle(bundle)
    assert report.holds, [(check.identifier, check.detail) for check in report.failures]
    assert report.trusts[0].startswith("that the validator set 0x")
