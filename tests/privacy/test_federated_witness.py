"""A committee of four: one leads a training, three repeat it; a lying leader gets no three signatures."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest
from federated_owner import STUDY, member, roster
from federated_witness import LABEL, voucher
from test_federated_links import LEADER, OWNERS, PACE, TREE, accepted, honest, names, small, wired
from test_federated_training import accuracy, cancer, evenly

from koinon.kernel.codec import encode
from koinon.kernel.errors import ProtocolAbort
from koinon.kernel.quantities import Seconds
from koinon.net.transport import Transport
from koinon.privacy.federated import aggregator, training, witness
from koinon.privacy.federated.links import coordinate
from koinon.privacy.federated.models import perceptron
from koinon.privacy.federated.training import Coordinator
from koinon.privacy.federated.witness import Account, accept, endorse, follow, result_hash, written
from koinon.wire.catalogue import Done, to_frame
from koinon.wire.federated import MaskedUpdate, RoundEvent, RoundEvents

MEMBERS = tuple(member(position).node_id for position in range(4))
MODEL = perceptron(30, (), 2)


class Told:
    """A witness's link that keeps what it is told, and then answers what it is given."""

    def __init__(self, *answers: bytes) -> None:
        self.peer, self.heard, self._answers = LEADER.node_id, list[bytes](), list(answers)

    async def send(self, frame: bytes, /) -> None:
        self.heard.append(frame)

    async def receive(self) -> bytes:
        if not self._answers:
            await asyncio.Event().wait()
        return self._answers.pop(0)

    async def close(self) -> None: ...


_KEPT: list[tuple[Coordinator, list[RoundEvents]]] = []


async def account_of() -> tuple[Coordinator, list[RoundEvents]]:
    """A training as its leader tells it; the same for all tests."""
    if not _KEPT:
        _KEPT.append(await _account())
    return _KEPT[0]


async def _account() -> tuple[Coordinator, list[RoundEvents]]:
    told, agreed = Told(), small()
    account = Account(names(), [told], PACE.stage)
    async with wired() as (near, far):
        owners = [asyncio.create_task(honest(agreed, owner, link)) for owner, link in far.items()]
        state = await coordinate(agreed, names(), near, PACE, watch=account.watch, ended=account.ended)
        await asyncio.gather(*owners)
    return state, [msgspec.msgpack.decode(frame[2:], type=RoundEvents) for frame in told.heard]


async def test_a_leader_can_neither_end_a_training_early_nor_go_on() -> None:
    _, account = await account_of()
    state = training.start(small(), MODEL)
    for message in account:
        with pytest.raises(ProtocolAbort, match="and the plan does not"):
            follow(state, small(), names(), msgspec.structs.replace(message, is_last=not message.is_last))
        state = follow(state, small(), names(), message)


async def test_witnesses_come_to_the_leaders_result_and_three_signatures_are_enough() -> None:
    led, account = await account_of()
    state = training.start(small(), MODEL)
    for message in account:
        state = follow(state, small(), names(), message)
    assert state.history == led.history
    assert [message.is_last for message in account] == [False, False, True]
    parameters = led.joint.parameters
    signed = [endorse(STUDY, state, small(), position, member(position)) for position in range(4)]
    assert accept(STUDY, parameters, MEMBERS, signed[1:]) == (1, 2, 3)
    for too_few in (signed[:2], [signed[0]] * 4, [*signed[:2], msgspec.structs.replace(signed[2], position=3)]):
        with pytest.raises(ProtocolAbort, match="members vouch"):
            accept(STUDY, parameters, MEMBERS, too_few)
    with pytest.raises(ProtocolAbort, match="0 of 4"):
        accept(STUDY, parameters + 1e-9, MEMBERS, signed)
    with pytest.raises(ProtocolAbort, match="0 of 4"):
        accept(bytes(32), parameters, MEMBERS, signed)


Change = Callable[[RoundEvents], RoundEvents]


def without(count: int) -> Change:
    return lambda told: msgspec.structs.replace(told, events=told.events[:-count])


def foreign(told: RoundEvents) -> RoundEvents:
    return msgspec.structs.replace(told, events=(RoundEvent(7, 0, b""), *told.events))


def garbage(told: RoundEvents) -> RoundEvents:
    return msgspec.structs.replace(told, events=(RoundEvent(0, 0, b"\xff\xff"), *told.events))


def skipped(told: RoundEvents) -> RoundEvents:
    return msgspec.structs.replace(told, round=told.round + 1)


@pytest.mark.parametrize("change", [without(1), without(4), foreign, garbage, skipped])
async def test_an_account_that_does_not_hold_names_the_leader(change: Change) -> None:
    _, account = await account_of()
    with pytest.raises(ProtocolAbort) as problem:
        follow(training.start(small(), MODEL), small(), names(), change(account[0]))
    assert problem.value.suspects == {0}


async def test_a_leader_cannot_put_words_into_an_owners_mouth() -> None:
    """Changed words are not signed, so their owner is out of the witness's sum, and nothing that follows fits."""
    led, account = await account_of()
    events = []
    for event in witness.read(account[0]):
        if isinstance(event, aggregator.Received) and isinstance(event.message, MaskedUpdate) and event.owner == 0:
            forged = msgspec.structs.replace(event.message, words=bytes(len(event.message.words)))
            events.append(aggregator.Received(0, forged))
        else:
            events.append(event)
    state = follow(training.start(small(), MODEL), small(), names(), written(0, events, is_last=False))
    assert led.history[0].survivors == (0, 1, 2)
    assert all(report.survivors != (0, 1, 2) for report in state.history)
    for message in account[1:-1]:
        state = follow(state, small(), names(), message)
    assert result_hash(STUDY, state, small()) != result_hash(STUDY, led, small())
    with pytest.raises(ProtocolAbort, match="the leader ends the training"):
        follow(state, small(), names(), account[-1])


async def test_a_witness_that_hears_something_else_endorses_nothing() -> None:
    link = Told(to_frame(Done()))
    with pytest.raises(ProtocolAbort, match="Done in place of"):
        await witness.witness(small(), names(), voucher(1), link)
    assert link.heard == []


async def test_a_leader_waits_for_no_witness_for_ever() -> None:
    silent, wrong = Told(), Told(b"\xff", to_frame(Done()))
    async with Account(names(), [silent, wrong], Seconds(0.05)) as account:
        await account.ended(0, is_last=True)
        assert await account.endorsements() == []
        assert await account.endorsements() == []


@pytest.mark.long
async def test_three_owners_and_four_members_train_though_an_owner_is_killed_sample(tmp_path: Path) -> None:
    agreed, (rows, held) = small(), cancer()
    owners: list[asyncio.subprocess.Process] = []
    witnesses: list[asyncio.subprocess.Process] = []
    done = 0

    async def start(script: str, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, str(TREE / "tests" / "privacy" / script), *words, stdout=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": str(TREE / "src"), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip

    everybody = roster(LEADER.node_id, OWNERS, witnesses=3)
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(Transport.open(LEADER, "127.0.0.1"))
        place = LEADER.node_id.hex(), str(transport.endpoint.port)
        try:
            for owner, part in enumerate(evenly(rows, OWNERS)):
                path = tmp_path / f"{owner}.npz"
                np.savez(path, features=part.features, targets=part.targets)
                plan = encode(agreed).hex()
                owners.append(await start("federated_owner.py", plan, str(path), str(owner), str(OWNERS), "3", *place))
            for position in (1, 2, 3):
                script = "federated_witness.py"
                witnesses.append(await start(script, encode(agreed).hex(), str(position), str(OWNERS), *place))
            links = {owner: await accepted(transport, owner, process) for owner, process in enumerate(owners)}
            told_of = [await transport.accept_link(MEMBERS[position], LABEL, 240) for position in (1, 2, 3)]
            account = await stack.enter_async_context(Account(everybody, told_of, PACE.stage))

            def watch(event: aggregator.AggregatorEvent) -> None:
                account.watch(event)
                masked = isinstance(event, aggregator.Received) and isinstance(event.message, MaskedUpdate)
                if done == 1 and masked and event.owner == 1:  # type: ignore[union-attr]
                    owners[1].kill()

            async def ended(number: int, is_last: bool) -> None:
                nonlocal done
                done += 1
                await account.ended(number, is_last)

            state = await coordinate(agreed, everybody, links, PACE, watch=watch, ended=ended, vouched=account.vouched)
            endorsements = [endorse(STUDY, state, agreed, 0, member(0)), *await account.endorsements()]
            told = [(await process.communicate())[0].decode().strip() for process in witnesses]
        finally:
            for process in (*owners, *witnesses):
                if process.returncode is None:
                    process.kill()
                await process.wait()
    assert [report.survivors for report in state.history] == [(0, 1, 2), (0, 1, 2), (0, 2)]
    assert told == [result_hash(STUDY, state, agreed).hex()] * 3
    assert accept(STUDY, state.joint.parameters, MEMBERS, endorsements) == (0, 1, 2, 3)
    assert accuracy(MODEL, state.joint.parameters, held) > 0.93
