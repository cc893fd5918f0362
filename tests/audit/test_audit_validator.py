"""The story on a validator of our own: real consensus, real RPC, and a bundle that trusts nothing but its key."""

import time
from pathlib import Path

from audit_world import EXPORTER, PEOPLE, Journey, account, node
from msgspec.structs import replace

from koinon.audit.bundle import make_bundle, verify_bundle
from koinon.contracts.rpc import HttpRpc
from koinon.crypto.bls import BlsKey
from koinon.crypto.hash import sha256
from koinon.kernel.quantities import ChainId, UnixSeconds, Wei
from koinon.ledger.engine import network_engine
from koinon.ledger.genesis import GenesisValidator, funded
from koinon.ledger.staking.profiles import PROFILES, found
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
        genesis = found(
            PROFILES["dev"],
            network_engine(),
            ChainId(20262),
            UnixSeconds(int(time.time())),
            (member,),
            tuple(funded(account(name).address, Wei(10**24)) for name in PEOPLE),
            treasury=account("validator").address,
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
    assert len(evidence.network.epochs) >= 2, "the story went over the ends of epochs"
    untold = evidence.network.epochs[:1]
    forgetful = replace(evidence.network, epochs=untold)
    bundle = make_bundle(evidence.subject, forgetful, evidence.proof, evidence.documents, evidence.receipts, EXPORTER)
    failed = verify_bundle(bundle).failures
    assert any("does not show who validates in epoch" in check.detail for check in failed)
