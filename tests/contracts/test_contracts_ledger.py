"""The suite on our own ledger: one validator in this process, its JSON-RPC over HTTP."""

import dataclasses
import time
from pathlib import Path

import msgspec
import pytest
from contracts_world import PARAMETERS, PEOPLE, World, key_of
from test_contracts_evaluations import AGREE, play

from koinon.contracts.client import ChainClient
from koinon.contracts.refusals import Reverted
from koinon.contracts.rpc import HttpRpc
from koinon.contracts.staking import EVALUATION_UNITS, STUDY_UNITS, Staking, Work
from koinon.contracts.studies import StudyPhase
from koinon.contracts.suite import Suite
from koinon.crypto.bls import BlsKey
from koinon.crypto.signature import NodeKey
from koinon.kernel.quantities import ChainId, UnixSeconds, Wei
from koinon.ledger.engine import network_engine
from koinon.ledger.epochs import Epochs
from koinon.ledger.genesis import GenesisValidator, funded
from koinon.ledger.staking.precompiles import registration_proof
from koinon.ledger.staking.profiles import PROFILES, found
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.transport import Transport


async def check_useful_work(world: World, study_id: int, request_id: int, evaluators: tuple[str, ...]) -> None:
    """What the suite verified and paid counts for candidates that do not validate."""
    rpc = world.suite.client
    staking = Staking.on(rpc.with_key(key_of("validator")))
    work = await Work.deploy(staking.client, world.suite.studies.address, world.suite.evaluations.address)
    with pytest.raises(Reverted) as refused:
        await work.credit_study(study_id)
    assert refused.value.error == "NotAllowed", "nobody has authorised it yet"
    await staking.propose_authority(work.address, True)
    committee = (await world.suite.studies.study_of(study_id)).committee
    by_account = {key_of(name).address: name for name in PEOPLE}
    members = [by_account[account] for account in committee]
    for name in members:
        key, node, bls = key_of(name), NodeKey.from_seed(key_of(name).secret), BlsKey.from_seed(key_of(name).secret)
        chain_id = await rpc.chain_id()
        proof = registration_proof(chain_id, key.address, node, bls.public_key, bls.prove_possession())
        own = Staking.on(rpc.with_key(key))
        await own.register(node.node_id, bls.public_key, proof, 0, Wei(100 * 10**18))
    await work.credit_study(study_id)
    await work.credit_evaluation(request_id)
    for name in members:
        one = await staking.candidate(await staking.number_of(key_of(name).address))
        assert one.work == STUDY_UNITS + EVALUATION_UNITS * (name in evaluators)
    with pytest.raises(Reverted) as refused:
        await work.credit_study(study_id)
    assert refused.value.error == "AlreadyDone"
    with pytest.raises(Reverted) as refused:
        await work.credit_evaluation(request_id + 1)
    assert refused.value.error == "Unknown"


# The candidates that register below run no node: an election among them would leave the chain without a quorum, so no
# epoch ends while the test runs.
DEV = PROFILES["dev"]
ONE_EPOCH = dataclasses.replace(
    DEV,
    parameters=msgspec.structs.replace(
        DEV.parameters, epochs=Epochs(length=100_000, lead=8, seats=4, least=1, alternates=16, open=True)
    ),
)


async def test_the_main_job_on_our_own_ledger(tmp_path: Path) -> None:
    node, bls = NodeKey.from_seed(b"\x07" * 32), BlsKey.from_seed(b"\x07" * 32)
    people = [key_of(name).address for name in ("deployer", "validator", *PEOPLE)]
    async with Transport.open(node, "127.0.0.1", 0) as transport:
        genesis = found(
            ONE_EPOCH,
            network_engine(),
            ChainId(31337),
            UnixSeconds(int(time.time())),
            (
                GenesisValidator(
                    node_id=node.node_id,
                    account=key_of("validator").address,
                    bls_key=bls.public_key,
                    possession=bls.prove_possession(),
                    host="127.0.0.1",
                    port=transport.endpoint.port,
                ),
            ),
            tuple(funded(address, Wei(10**24)) for address in people),
            treasury=key_of("stranger").address,
        )
        opening = Validator.open(ValidatorConfig(), bls, transport, node.node_id, tmp_path, genesis)
        async with opening as validator:
            assert validator.rpc_url is not None
            rpc = HttpRpc([validator.rpc_url])
            async with ChainClient(rpc, key_of("deployer")) as client:
                suite = await Suite.deploy(client, PARAMETERS)
                await suite.verify()
                world = await World.build(client, suite, rpc)
                study_id = await world.completed()
                assert (await suite.studies.study_of(study_id)).phase == StudyPhase.COMPLETED
                model = await world.model(study_id=study_id)
                request_id, members = await world.evaluating(model)
                await play(world, request_id, members, AGREE)
                await world.by("stranger").evaluations.finalise(request_id)
                assert (await suite.evaluations.vector_of(request_id))[0] == model
                await world.check_money()
                await check_useful_work(world, study_id, request_id, members)
