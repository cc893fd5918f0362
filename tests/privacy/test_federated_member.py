"""Four real worker processes that lead and repeat a training over TLS, and owners with links to the leader."""

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from committee_scenes import LIMITS, committee, node
from privacy_scenes import cancer_columns
from test_privacy_programs import cancer

from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, MalformedMessage
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.net.transport import Transport
from koinon.privacy.backend import PlainInput, named_outputs
from koinon.privacy.federated import studies, training
from koinon.privacy.federated.contributing import contribute
from koinon.privacy.federated.links import Roster, link_label
from koinon.privacy.federated.local import LocalFederated
from koinon.privacy.federated.member import agreed
from koinon.privacy.opening import reconstruct
from koinon.privacy.programs import logistic_regression, registry
from koinon.privacy.programs.logistic_regression import in_study
from koinon.privacy.programs.offer import Layout, Parameters, settings_from
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.seats import certify, dialled, endpoint_of
from koinon.privacy.sharing import Dealing, attest, deal
from koinon.wire.catalogue import Failure, Message, from_frame, to_frame
from koinon.wire.committee import POSITIONS, Aborted, Input, Output, Peer, Prepare, Progress, Run
from koinon.worker import Worker

TARGET = "koinon.privacy.federated.member:main"
SESSION = bytes([7]) * 32
DEADLINE = 240.0
PATIENCE = Seconds(120.0)

pytestmark = pytest.mark.filterwarnings("ignore:unclosed")


def owner(number: int) -> NodeKey:
    return NodeKey.from_seed(bytes([200 + number]) * 32)


def study(rows: int = 30) -> tuple[bytes, list[np.ndarray]]:
    parts = [part[:rows, -5:] for part in cancer(1)[0]]
    columns = cancer_columns(np.concatenate(cancer(1)[0])[:, :-1])[-5:]
    given = logistic_regression.Parameters(tuple(len(part) for part in parts), columns)
    return in_study(given), parts


@dataclass(frozen=True)
class Study:
    """A program, its parameters, and every owner's rows."""

    name: str
    parameters: bytes
    parts: list[np.ndarray]

    @property
    def given(self) -> Parameters:
        return decode(Parameters, self.parameters)


LOGISTIC = Study(logistic_regression.NAME, *study())


def run_message(peers: tuple[Peer, Peer, Peer, Peer], what: Study = LOGISTIC, **changes: Any) -> Run:
    parameters, parts = what.parameters, what.parts
    columns = decode(Parameters, parameters).layout.columns
    dealing = Dealing(SESSION, 0, bytes(32))
    made = Run(
        peers=peers,
        program=what.name,
        algorithm=registry.algorithm_hash(what.name, registry.FEDERATED),
        parameters=parameters,
        result_party=bytes(32),
        inputs=tuple(Input(attest(len(part), columns, 20, dealing, owner(i))) for i, part in enumerate(parts)),
        deadline_seconds=DEADLINE,
        silence_seconds=60.0,
    )
    return msgspec.structs.replace(made, **changes)


async def answer(worker: Worker, run: Run) -> Message:
    await worker.send(to_frame(run))
    while isinstance(message := from_frame(await worker.receive()), Progress):
        assert 0 < message.done <= message.total
    return message


async def take_part(
    peers: tuple[Peer, ...], number: int, leave_in: int | None = None, what: Study = LOGISTIC
) -> np.ndarray | None:
    """Owner ``number``'s part, honest until the round in which it hangs up, if any."""
    parameters, parts = what.parameters, what.parts
    plan = studies.plan_of_encoded(what.name, parameters)
    model = training.check_plan(plan, len(parts))
    rows = studies.rows_of(plan, parts[number], decode(Parameters, parameters).layout)
    owners = tuple(owner(i).node_id for i in range(len(parts)))
    roster = Roster(SESSION, NodeId(peers[0].ephemeral), owners, tuple(NodeId(peer.node) for peer in peers[1:]))
    rng = SeededRng(bytes([number]))
    async with Transport.open(owner(number), "127.0.0.1") as transport:
        link = await dialled(transport, endpoint_of(peers[0]), link_label(SESSION), PATIENCE)

        async def train(round_number: int, start: np.ndarray) -> np.ndarray:
            if round_number == leave_in:
                raise InvalidInput("this owner leaves")
            return training.contribution(plan, model, start, rows, number, round_number, rng)

        try:
            return await contribute(plan, roster, number, owner(number), link, train, rng, PATIENCE)
        except InvalidInput:
            return None
        finally:
            await link.close()


async def outcome(runs: list[Run], leaving: dict[int, int], what: Study = LOGISTIC) -> Any:
    async with committee(TARGET, SESSION) as (workers, peers):
        asked = [msgspec.structs.replace(run, peers=peers) for run in runs]
        owners = [asyncio.create_task(take_part(peers, number, leaving.get(number), what)) for number in range(3)]
        answers = await asyncio.gather(*(answer(workers[i], asked[i]) for i in POSITIONS))
        return answers, await asyncio.gather(*owners, return_exceptions=True)


def opened(answers: list[Message]) -> np.ndarray:
    outputs = [each for each in answers if isinstance(each, Output)]
    assert len(outputs) == 4, answers
    assert len({output.output_digest for output in outputs}) == 1
    for three in (outputs[1:], outputs[:3]):
        values, liars = reconstruct([output.package for output in three], SESSION, outputs[0].output_digest)
        assert liars == ()
    return values


def reference(present: tuple[int, ...]) -> np.ndarray:
    parameters, parts = study()
    given = decode(Parameters, parameters)
    kept = [parts[number] for number in present]
    layout = msgspec.structs.replace(given.layout, rows=tuple(len(part) for part in kept))
    program = registry.load(
        logistic_regression.NAME, msgspec.msgpack.encode(msgspec.structs.replace(given, layout=layout))
    )
    found = LocalFederated().run(program, [PlainInput(layout.columns, part) for part in kept], SeededRng(b"r")).outputs
    return np.append(found["coefficients"], found["intercept"])


EMPTY = Peer(b"", b"", b"", "", 0)
FOUR = (EMPTY, EMPTY, EMPTY, EMPTY)


async def test_four_processes_and_three_owners_come_to_one_model() -> None:
    answers, models = await outcome([run_message(FOUR)] * 4, {})
    values = opened(answers)
    assert np.abs(values - reference((0, 1, 2))).max() < 1e-5
    for model in models:
        assert np.abs(model - values).max() < 1e-5


def sums_of(name: str, outputs: tuple[str, ...], epsilon: float = 0.0, **settings: Any) -> Study:
    """Another program on the same rows."""
    rows = Layout(LOGISTIC.given.layout.rows, LOGISTIC.given.layout.columns, LOGISTIC.given.layout.target)
    found = settings_from(registry.offer(name), settings)
    return Study(name, encode(Parameters(rows, found, outputs, epsilon)), LOGISTIC.parts)


SUMMED = {
    "once": sums_of("comparison/1", ("counts", "means", "variances"), minimum_group=1),
    "with noise": sums_of("noisy-network/1", ("hidden", "output"), 8.0, hidden=2, epochs=4),
}


@pytest.mark.long
@pytest.mark.parametrize("case", SUMMED)
async def test_four_processes_come_to_one_result_of_sums_sample(case: str) -> None:
    """What four processes vouch for has the declared shapes, and is what one process computes where nobody adds noise.

    An owner that leaves before the only round is left out of counts and means.
    """
    what = SUMMED[case]
    leaving = {1: 0} if case == "once" else {}
    answers, _ = await outcome([run_message(FOUR, what)] * 4, leaving, what)
    values = opened(answers)
    program = registry.load(what.name, what.parameters)
    outputs = named_outputs(program, values)
    assert list(outputs) == list(what.given.outputs)
    if case == "once":
        kept = np.concatenate([what.parts[0], what.parts[2]])
        ill = kept[:, -1] == 1.0
        assert outputs["counts"].tolist() == [len(kept) - ill.sum(), ill.sum()]
        columns = what.given.layout.columns[:-1]
        middle, half = np.array([((c.low + c.high) / 2, (c.high - c.low) / 2) for c in columns]).T
        assert np.abs(outputs["means"][1] - ((kept[ill, :-1] - middle) / half).mean(0)).max() < 1e-5


@pytest.mark.long
async def test_an_owner_that_leaves_in_a_round_is_survived_sample() -> None:
    """It leaves before the first sum, so that the penalty is that of the others' rows too."""
    answers, models = await outcome([run_message(FOUR)] * 4, {1: 0})
    assert models[1] is None
    assert np.abs(opened(answers) - reference((0, 2))).max() < 1e-4


@pytest.mark.long
async def test_with_too_few_owners_nothing_comes_out_and_nobody_is_accused() -> None:
    answers, _ = await outcome([run_message(FOUR)] * 4, {0: 1, 1: 1})
    assert all(isinstance(each, Aborted) for each in answers)
    leader = answers[0]
    assert isinstance(leader, Aborted)
    assert "owners" in leader.reason
    assert (leader.suspects, leader.sender) == ((), -1)


def foreign_certificate(run: Run) -> Run:
    stranger = msgspec.structs.replace(run.peers[1], certificate=run.peers[2].certificate)
    return msgspec.structs.replace(run, peers=(run.peers[0], stranger, *run.peers[2:]))


def with_manifest(**changes: Any) -> Any:
    def change(run: Run) -> Run:
        first = run.inputs[0]
        manifest = msgspec.structs.replace(first.manifest, **changes)
        return msgspec.structs.replace(run, inputs=(Input(manifest), *run.inputs[1:]))

    return change


def shares_in_place_of_a_manifest(run: Run) -> Run:
    _, parts = study()
    columns = run.inputs[0].manifest.columns
    manifest, packages = deal(parts[0], columns, 20, Dealing(SESSION, 0, bytes(32)), owner(0), SeededRng(b"d"))
    return msgspec.structs.replace(run, inputs=(Input(manifest, packages[0]), *run.inputs[1:]))


def swapped(run: Run) -> Run:
    return msgspec.structs.replace(run, inputs=(run.inputs[1], run.inputs[1], run.inputs[2]))


NONSENSE: dict[str, tuple[Any, type[KoinonError]]] = {
    "rep4's hash": (
        lambda run: msgspec.structs.replace(run, algorithm=registry.algorithm_hash(logistic_regression.NAME)),
        InvalidInput,
    ),
    "another program": (lambda run: msgspec.structs.replace(run, program="k-means/1"), InvalidInput),
    "parameters that are none": (lambda run: msgspec.structs.replace(run, parameters=b"\xc0"), MalformedMessage),
    "no deadline": (lambda run: msgspec.structs.replace(run, deadline_seconds=float("inf")), InvalidInput),
    "a certificate of another seat": (foreign_certificate, Forged),
    "an owner too few": (lambda run: msgspec.structs.replace(run, inputs=run.inputs[:2]), InvalidInput),
    "an owner twice": (swapped, Forged),
    "changed rows": (with_manifest(rows=29), Forged),
    "a short owner": (with_manifest(owner=b"x"), MalformedMessage),
    "dealt shares": (shares_in_place_of_a_manifest, Forged),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_an_order_that_makes_no_sense_is_refused_before_anybody_is_called(case: str) -> None:
    change, kind = NONSENSE[case]
    keys = [NodeKey.from_seed(bytes([i + 1]) * 32) for i in POSITIONS]
    zeroth, first, second, third = (
        Peer(node(i).node_id, keys[i].node_id, certify(node(i), SESSION, i, keys[i].node_id), "127.0.0.1", 1)
        for i in POSITIONS
    )
    prepare, run = Prepare(SESSION, 0, bytes([1]) * 32, "127.0.0.1"), run_message((zeroth, first, second, third))
    assert agreed(prepare, run, keys[0]).plan.features == 5
    with pytest.raises(KoinonError) as problem:
        agreed(prepare, change(run), keys[0])
    assert type(problem.value) is kind


NO_SEAT = [Prepare(SESSION, 4, bytes(32), "127.0.0.1"), Prepare(b"", 0, bytes(32), "127.0.0.1")]


@pytest.mark.parametrize("message", NO_SEAT, ids=["a fifth seat", "no session"])
async def test_a_worker_takes_nothing_but_a_seat(message: Message) -> None:
    async with Worker.start(TARGET, LIMITS) as worker:
        await worker.send(to_frame(message))
        told = from_frame(await worker.receive())
    assert isinstance(told, Failure)
    assert told.kind == "MalformedMessage"
