"""The suite on our own ledger: one validator in this process, its JSON-RPC over HTTP."""

import time
from pathlib import Path

from contracts_world import PARAMETERS, PEOPLE, World, key_of
from test_contracts_evaluations import AGREE, play

from koinon.contracts.client import ChainClient
from koinon.contracts.rpc import HttpRpc
from koinon.contracts.studies import StudyPhase
from koinon.contracts.suite import Suite
from koinon.crypto.bls import BlsKey
from koinon.crypto.signature import NodeKey
from koinon.kernel.quantities import ChainId, Milliseconds, UnixSeconds, Wei
from koinon.ledger.genesis import Genesis, GenesisValidator, Parameters, funded
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.transport import Transport


async def test_the_main_job_on_our_own_ledger(tmp_path: Path) -> None:
    node, bls = NodeKey.from_seed(b"\x07" * 32), BlsKey.from_seed(b"\x07" * 32)
    people = [key_of(name).address for name in ("deployer", *PEOPLE)]
    async with Transport.open(node, "127.0.0.1", 0) as transport:
        genesis = Genesis(
            chain_id=ChainId(31337),
            timestamp=UnixSeconds(int(time.time())),
            validators=(
                GenesisValidator(
                    node_id=node.node_id,
                    account=key_of("validator").address,
                    bls_key=bls.public_key,
                    possession=bls.prove_possession(),
                    host="127.0.0.1",
                    port=transport.endpoint.port,
                ),
            ),
            accounts=tuple(funded(address, Wei(10**24)) for address in people),
            parameters=Parameters(base_timeout=Milliseconds(1000)),
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
