"""A training over real TLS links: owners as processes, one of them killed; hostile owners and aggregators."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from federated_owner import STUDY, node, roster
from test_federated_training import accuracy, cancer, evenly, plan

from koinon.crypto.hash import blake3
from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.codec import encode
from koinon.kernel.effects import Link
from koinon.kernel.errors import Expired, InvalidInput, KoinonError, MalformedMessage, ProtocolAbort, Unavailable
from koinon.kernel.quantities import Seconds
from koinon.net.transport import Transport
from koinon.privacy.federated import aggregator, training
from koinon.privacy.federated.contributing import contribute
from koinon.privacy.federated.links import Pace, Roster, coordinate, link_label
from koinon.privacy.federated.models import perceptron
from koinon.privacy.federated.session import session_of
from koinon.privacy.federated.training import Rows, TrainingPlan
from koinon.privacy.federated.worker import local_training, parameters_from, parameters_to
from koinon.wire.catalogue import Done, Message, from_frame, to_frame
from koinon.wire.federated import KeyList, MaskedUpdate, RoundFailure, TrainingOver, TrainingRound

LEADER = NodeKey.from_seed(bytes([49]) * 32)
OWNERS = 3
PACE = Pace(Seconds(240), Seconds(240))
TREE = Path(__file__).resolve().parents[2]


def small(**changes: Any) -> TrainingPlan:
    return plan(rounds=3, threshold=2, most_rows=200, **changes)


def names() -> Roster:
    return roster(LEADER.node_id, OWNERS)


@asynccontextmanager
async def wired() -> AsyncIterator[tuple[dict[int, Link], dict[int, Link]]]:
    """Links of the aggregator to each owner, and of each owner to the aggregator, over TLS."""
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(Transport.open(LEADER, "127.0.0.1"))
        near: dict[int, Link] = {}
        far: dict[int, Link] = {}
        for owner in range(OWNERS):
            there = await stack.enter_async_context(Transport.open(node(owner), "127.0.0.1"))
            label = link_label(STUDY)
            far[owner] = await there.link(here.endpoint, label, 60)
            near[owner] = await here.accept_link(node(owner).node_id, label, 60)
        yield near, far


def trainer(agreed: TrainingPlan, rows: Rows, owner: int) -> Callable[[int, np.ndarray], Any]:
    model = training.check_plan(agreed, OWNERS)

    async def words(number: int, parameters: np.ndarray) -> np.ndarray:
        return training.contribution(agreed, model, parameters, rows, owner, number, SystemRng())

    return words


async def honest(agreed: TrainingPlan, owner: int, link: Link) -> np.ndarray:
    words = trainer(agreed, evenly(cancer()[0], OWNERS)[owner], owner)
    return await contribute(agreed, names(), owner, node(owner), link, words, SystemRng(), Seconds(240))


# ----------------------------------------------------------------------------------------------------- processes


async def accepted(transport: Transport, owner: int, process: asyncio.subprocess.Process) -> Link:
    """The link of an owner's process; fails at once if the process ends instead."""
    arriving = asyncio.ensure_future(transport.accept_link(node(owner).node_id, link_label(STUDY), 240))
    ending = asyncio.ensure_future(process.wait())
    await asyncio.wait((arriving, ending), return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if not arriving.done():
        arriving.cancel()
        pytest.fail(f"owner {owner} ended with {process.returncode} before it dialled")
    return arriving.result()


@pytest.mark.long
async def test_owner_processes_train_though_one_is_killed_in_a_round_sample(tmp_path: Path) -> None:
    agreed, (rows, held) = small(), cancer()
    events: dict[int, list[aggregator.AggregatorEvent]] = {}
    processes: list[asyncio.subprocess.Process] = []
    current = 0

    def watch(event: aggregator.AggregatorEvent) -> None:
        events.setdefault(current, []).append(event)
        masked = isinstance(event, aggregator.Received) and isinstance(event.message, MaskedUpdate)
        if current == 1 and masked and event.owner == 1:  # type: ignore[union-attr]
            processes[1].kill()

    def report(done: training.RoundReport) -> None:
        nonlocal current
        current = done.round + 1

    async with Transport.open(LEADER, "127.0.0.1") as transport:
        for owner, part in enumerate(evenly(rows, OWNERS)):
            path = tmp_path / f"{owner}.npz"
            np.savez(path, features=part.features, targets=part.targets)
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(TREE / "tests" / "privacy" / "federated_owner.py"), encode(agreed).hex(),
                str(path), str(owner), str(OWNERS), "0", LEADER.node_id.hex(), str(transport.endpoint.port),
                stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": str(TREE / "src"), "PATH": "/usr/bin:/bin"},
            )  # fmt: skip
            processes.append(process)
        try:
            links = {owner: await accepted(transport, owner, process) for owner, process in enumerate(processes)}
            state = await coordinate(agreed, names(), links, PACE, watch=watch, report=report)
            told = [(await process.communicate())[0].decode().strip() for process in processes]
        finally:
            for process in processes:
                if process.returncode is None:
                    process.kill()
                await process.wait()
    assert [report.survivors for report in state.history] == [(0, 1, 2), (0, 1, 2), (0, 2)]
    assert told == [blake3(parameters_to(state.joint.parameters)).hex(), "", told[0]]
    made = perceptron(30, (), 2)
    assert accuracy(made, state.joint.parameters, held) > 0.93
    first = names().terms(agreed, 0, made.initial(agreed.seed))
    again = aggregator.recompute(first, events[0])
    assert isinstance(again, aggregator.Summed)
    model = training.finish_round(training.start(agreed, made), agreed, again.survivors, again.words)
    assert model.history[0] == state.history[0]


async def test_the_child_trains_as_the_function_does_and_says_why_it_cannot() -> None:
    agreed = small()
    rows = evenly(cancer()[0], OWNERS)[0]
    made = perceptron(30, (), 2, agreed.penalty)
    initial = made.initial(agreed.seed)
    async with local_training(agreed, OWNERS, 0, rows, Seconds(240)) as child:
        words = await child.words(0, initial)
        expected = training.contribution(agreed, made, initial, rows, 0, 0, SystemRng())
        assert np.array_equal(words, expected)
        with pytest.raises(InvalidInput, match="diverged"):
            await child.words(1, np.full(made.size, 1e308))


# ----------------------------------------------------------------------------------------------------- links


async def test_a_training_over_links_gives_everybody_the_same_model() -> None:
    agreed, reports = small(), []
    async with wired() as (near, far):
        models = [asyncio.create_task(honest(agreed, owner, link)) for owner, link in far.items()]
        state = await coordinate(agreed, names(), near, PACE, report=reports.append)
        for model in await asyncio.gather(*models):
            assert np.array_equal(model, state.joint.parameters)
    assert [report.survivors for report in reports] == [(0, 1, 2)] * 3
    assert reports[-1].loss < reports[0].loss


async def garbage(link: Link) -> None:
    await link.send(b"\x09\x01 no message")


async def out_of_turn(link: Link) -> None:
    asked = from_frame(await link.receive())
    assert isinstance(asked, TrainingRound)
    await link.send(to_frame(RoundFailure(session_of(asked.terms), "no")))


async def hang_up(link: Link) -> None:
    await link.receive()
    await link.close()


@pytest.mark.parametrize("behaviour", [garbage, out_of_turn, hang_up])
async def test_an_owner_that_misbehaves_is_left_out_and_the_others_finish(behaviour: Callable[[Link], Any]) -> None:
    agreed = small()
    async with wired() as (near, far):
        models = [asyncio.create_task(honest(agreed, owner, far[owner])) for owner in (0, 2)]
        bad = asyncio.create_task(behaviour(far[1]))
        state = await coordinate(agreed, names(), near, PACE)
        await asyncio.gather(bad, *models)
    assert [report.survivors for report in state.history] == [(0, 2)] * 3


async def test_with_too_few_owners_everybody_is_told_why() -> None:
    agreed = small()
    async with wired() as (near, far):
        waiting = asyncio.create_task(honest(agreed, 0, far[0]))
        for owner in (1, 2):
            await far[owner].close()
        with pytest.raises(Unavailable, match="1 of 3 owners"):
            await coordinate(agreed, names(), near, PACE)
        with pytest.raises(Unavailable, match="1 of 3 owners"):
            await waiting


class Scripted:
    """A link from an aggregator that says what it is given to say, and then nothing."""

    def __init__(self, *frames: bytes) -> None:
        self.peer = LEADER.node_id
        self.sent: list[bytes] = []
        self._frames = list(frames)

    async def send(self, frame: bytes, /) -> None:
        self.sent.append(frame)

    async def receive(self) -> bytes:
        if not self._frames:
            await asyncio.Event().wait()
        return self._frames.pop(0)

    async def close(self) -> None: ...


def opening(number: int = 0, **changes: Any) -> Message:
    agreed = small()
    parameters = perceptron(30, (), 2).initial(agreed.seed)
    terms = msgspec.structs.replace(names().terms(agreed, number, parameters), **changes)
    return TrainingRound(terms, parameters_to(parameters), ())


def other_model() -> Message:
    opened = opening()
    assert isinstance(opened, TrainingRound)
    return TrainingRound(opened.terms, parameters_to(np.ones(62)), ())


HOSTILE: dict[str, tuple[list[bytes], type[KoinonError], str]] = {
    "no message": ([b"\xff"], ProtocolAbort, "no message"),
    "a message that asks": ([to_frame(Done())], ProtocolAbort, "before any round"),
    "a list before a round": ([to_frame(KeyList(bytes(32), ()))], ProtocolAbort, "before any round"),
    "a lower threshold": ([to_frame(opening(threshold=1))], ProtocolAbort, "not those of the study"),
    "other owners": (
        [to_frame(opening(owners=tuple(node(8 + k).node_id for k in range(3))))],
        ProtocolAbort, "not those of the study",
    ),
    "another aggregator": ([to_frame(opening(aggregator=bytes(32)))], ProtocolAbort, "not those of the study"),
    "a wider limit": ([to_frame(opening(limit=1 << 40))], ProtocolAbort, "not those of the study"),
    "another model than its hash": ([to_frame(other_model())], ProtocolAbort, "not those of the study"),
    "a short model": (
        [to_frame(TrainingRound(opening().terms, bytes(8), ()))], MalformedMessage, "62 parameters",  # type: ignore[attr-defined]
    ),
    "a model of nan": (
        [to_frame(TrainingRound(opening().terms, parameters_to(np.full(62, np.nan)), ()))],  # type: ignore[attr-defined]
        MalformedMessage, "not finite",
    ),
    "a round too many": ([to_frame(opening(3))], ProtocolAbort, "round 3 after round -1 of 3"),
    "a round twice": ([to_frame(opening()), to_frame(opening())], ProtocolAbort, "round 0 after round 0"),
    "a failed training": ([to_frame(TrainingOver("no electricity", b""))], Unavailable, "no electricity"),
    "an end with a wrong model": ([to_frame(TrainingOver("", bytes(8)))], MalformedMessage, "62 parameters"),
    "silence": ([], Expired, "said nothing"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_an_owner_ends_at_whatever_no_honest_aggregator_sends(name: str) -> None:
    frames, kind, sentence = HOSTILE[name]
    agreed, link = small(), Scripted(*frames)
    silence = Seconds(0.05 if name == "silence" else 240)
    words = trainer(agreed, evenly(cancer()[0], OWNERS)[0], 0)
    with pytest.raises(kind, match=sentence):
        await contribute(agreed, names(), 0, node(0), link, words, SystemRng(), silence)
    assert len(link.sent) == (name == "a round twice")  # its keys for the first round, and nothing more


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(9), bytes(16), np.full(1, np.inf).tobytes()])
def test_parameters_are_read_whole_or_not_at_all(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parameters_from(data, 1)
    assert parameters_from(parameters_to(np.array([1.5])), 1).tolist() == [1.5]
