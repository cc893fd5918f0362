"""Nobody chooses the model at which owners add up: two of three members vouch for it, and sign only what follows."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from federated_owner import STUDY, member, node, roster
from federated_witness import voucher
from test_federated_links import LEADER, OWNERS, PACE, Scripted, wired
from test_federated_newton import FEATURES, owners, plan, pooled

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.effects import Link
from koinon.kernel.errors import KoinonError, ProtocolAbort, Unavailable
from koinon.kernel.quantities import Seconds
from koinon.privacy.federated import training
from koinon.privacy.federated.approvals import ENOUGH_APPROVALS, Voucher, approve
from koinon.privacy.federated.contributing import contribute
from koinon.privacy.federated.encoding import decode_sum
from koinon.privacy.federated.links import coordinate
from koinon.privacy.federated.training import RoundReport
from koinon.privacy.federated.witness import Account, follow, witness
from koinon.privacy.federated.worker import parameters_to
from koinon.privacy.seats import certify
from koinon.wire.catalogue import Done, from_frame, to_frame
from koinon.wire.federated import ModelApproval, RoundTerms, TrainingRound

NAMES = roster(LEADER.node_id, OWNERS, witnesses=3)
AGREED = plan()
STEEP = 1e6 * np.append(np.eye(FEATURES)[0], -0.25)
"""Between two models like this, sums of gradients differ by the rows that lie there: see ``test_federated_newton``."""
Approvals = tuple[ModelApproval, ...]


def model() -> training.TrainedModel:
    return training.check_plan(AGREED, OWNERS)


async def honest(owner: int, link: Link) -> np.ndarray:
    rows = owners(3)[owner]

    async def words(number: int, parameters: np.ndarray) -> np.ndarray:
        return training.contribution(AGREED, model(), parameters, rows, owner, number, SystemRng())

    try:
        return await contribute(AGREED, NAMES, owner, node(owner), link, words, SystemRng(), Seconds(240))
    finally:
        await link.close()


def asked(number: int, parameters: np.ndarray, approvals: Approvals = ()) -> bytes:
    terms = NAMES.terms(AGREED, number, parameters)
    return to_frame(TrainingRound(terms, parameters_to(parameters), approvals))


# ----------------------------------------------------------------------------------------------------- a lying leader

FIRST = model().initial(AGREED.seed)
FOLLOWS = FIRST + 0.125
"""Stands for the model that follows from the first round; honest members sign it and no other."""
STEEP_TERMS, FOLLOWING_TERMS = (NAMES.terms(AGREED, 1, each) for each in (STEEP, FOLLOWS))


def signed(terms: RoundTerms, *positions: int) -> Approvals:
    return tuple(approve(terms, voucher(position)) for position in positions)


def changed(approval: ModelApproval, **changes: Any) -> ModelApproval:
    return msgspec.structs.replace(approval, **changes)


def stranger(position: int) -> ModelApproval:
    """By a key that a member's node has not vouched for, but its own."""
    key = NodeKey.from_seed(bytes([99]) * 32)
    return approve(STEEP_TERMS, Voucher(position, key, certify(key, STUDY, position, key.node_id)))


def of_another_study(position: int) -> ModelApproval:
    """The same worker, certified for another session."""
    key = member(position)
    return approve(STEEP_TERMS, Voucher(position, key, certify(key, bytes(32), position, key.node_id)))


BY_TWO = signed(FOLLOWING_TERMS, 1, 2)
(BY_THIRD,) = signed(STEEP_TERMS, 3)
LIES: dict[str, Approvals] = {
    "no approvals": (),
    "approvals of the model that follows": BY_TWO,
    "approvals of the model that follows, renamed": tuple(changed(each, session=BY_THIRD.session) for each in BY_TWO),
    "one member's": (BY_THIRD,),
    "one member's twice": (BY_THIRD, BY_THIRD),
    "one member's as another's too": (changed(BY_THIRD, position=2), BY_THIRD),
    "one member's and one of the model that follows": (BY_TWO[0], BY_THIRD),
    "one member's and the leader's own": (*signed(STEEP_TERMS, 0), BY_THIRD),
    "one member's and the leader's as another's": (changed(signed(STEEP_TERMS, 0)[0], position=1), BY_THIRD),
    "one member's and a stranger's": (stranger(1), BY_THIRD),
    "one member's and one of another study": (of_another_study(1), BY_THIRD),
    "one member's and one of another round": (*signed(NAMES.terms(AGREED, 2, STEEP), 1), BY_THIRD),
    "one member's and a fifth member's": (changed(BY_THIRD, position=4), BY_THIRD),
    "one member's and a short key": (changed(BY_THIRD, position=1, key=b"k"), BY_THIRD),
    "one member's and a wrong signature": (changed(signed(STEEP_TERMS, 1)[0], signature=bytes(64)), BY_THIRD),
    "two members' and one more": (*signed(STEEP_TERMS, 1, 2), BY_THIRD),
}
"""What a leader can make with one other member on its side, and with what it hears from the honest ones."""


@pytest.mark.parametrize("lie", LIES)
async def test_a_leader_with_another_member_on_its_side_chooses_no_model(lie: str) -> None:
    """It is told this owner's keys for the honest first round, and nothing of the one at its own model."""
    link = Scripted(asked(0, FIRST), asked(1, STEEP, LIES[lie]))
    with pytest.raises(ProtocolAbort, match="approve") as problem:
        await honest(0, link)
    assert problem.value.suspects == {0}
    assert len(link.sent) == 1


@pytest.mark.parametrize("approvals", [(), signed(NAMES.terms(AGREED, 0, STEEP), 1, 2)], ids=["bare", "approved"])
async def test_a_training_begins_at_its_plans_model_whoever_says_otherwise(approvals: Approvals) -> None:
    link = Scripted(asked(0, STEEP, approvals))
    with pytest.raises(ProtocolAbort, match=r"begins at another model|none are due"):
        await honest(0, link)
    assert link.sent == []


async def test_a_model_is_answered_once() -> None:
    """Another model of the same round is not answered, though two members lie for it too."""
    second = asked(1, STEEP, signed(STEEP_TERMS, 2, 3))
    link = Scripted(asked(0, FIRST), asked(1, FOLLOWS, signed(FOLLOWING_TERMS, 1, 2)), second)
    with pytest.raises(ProtocolAbort, match="round 1 after round 1"):
        await honest(0, link)
    assert len(link.sent) == 2


# ----------------------------------------------------------------------------------------------------- four members


class End:
    """One end of a link within this process."""

    def __init__(self, peer: NodeKey, out: "asyncio.Queue[bytes]", arriving: "asyncio.Queue[bytes]") -> None:
        self.peer, self._out, self._in = peer.node_id, out, arriving

    async def send(self, frame: bytes, /) -> None:
        await self._out.put(frame)

    async def receive(self) -> bytes:
        if not (frame := await self._in.get()):
            raise Unavailable("the link was closed")
        return frame

    async def close(self) -> None:
        await self._out.put(b"")


Behaviour = Callable[[int, End], Any]


async def repeats(position: int, link: End) -> None:
    await witness(AGREED, NAMES, voucher(position), link)


async def hangs_up(_: int, link: End) -> None:
    await link.receive()
    await link.close()


async def says_something_else(_: int, link: End) -> None:
    await link.receive()
    await link.send(to_frame(Done()))


async def signs_garbage(position: int, link: End) -> None:
    """An approval of the right session that its worker did not sign."""
    state = training.start(AGREED, model())
    while True:
        message: Any = from_frame(await link.receive())
        state = follow(state, AGREED, NAMES, message)
        following = NAMES.terms(AGREED, state.round, state.joint.parameters)
        await link.send(to_frame(changed(approve(following, voucher(position)), signature=bytes(64))))


async def is_silent(_: int, link: End) -> None:
    while True:
        await link.receive()


async def trained(members: Sequence[Behaviour], reports: list[RoundReport]) -> list[np.ndarray | BaseException]:
    """Every owner's joint model, or what ended its part; the leader's last."""
    async with wired() as (near, far), AsyncExitStack() as stack:
        links, tasks = [], []
        for position, behave in enumerate(members, 1):
            up, down = asyncio.Queue[bytes](), asyncio.Queue[bytes]()
            links.append(End(member(position), down, up))
            tasks.append(asyncio.create_task(behave(position, End(LEADER, up, down))))
        account = await stack.enter_async_context(Account(NAMES, links, PACE.stage))
        parts = [asyncio.create_task(honest(owner, link)) for owner, link in far.items()]

        async def lead() -> np.ndarray:
            state = await coordinate(
                AGREED, NAMES, near, PACE, report=reports.append, ended=account.ended, watch=account.watch,
                vouched=account.vouched,
            )  # fmt: skip
            return training.result(state, AGREED)

        found = await asyncio.gather(*parts, asyncio.create_task(lead()), return_exceptions=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


@pytest.mark.parametrize("other", [repeats, hangs_up, says_something_else, signs_garbage, is_silent])
async def test_one_member_that_does_not_vouch_stops_nobody(other: Behaviour) -> None:
    reports: list[RoundReport] = []
    models = await trained((repeats, other, repeats), reports)
    expected = pooled(owners(3), 1.0)
    assert all(isinstance(each, np.ndarray) and np.abs(each - expected).max() < 1e-4 for each in models), models
    assert len(reports) > 3


@pytest.mark.parametrize("others", [hangs_up, says_something_else, signs_garbage])
async def test_with_two_that_do_not_vouch_the_training_ends_after_its_first_round(others: Behaviour) -> None:
    reports: list[RoundReport] = []
    *told, leader = await trained((others, repeats, others), reports)
    assert isinstance(leader, ProtocolAbort)
    assert "too few members vouch for the model of round 1" in str(leader)
    assert leader.suspects == {1, 3}
    assert all(isinstance(each, Unavailable) and "too few members" in str(each) for each in told)
    assert len(reports) == 1


async def test_a_leader_that_denies_a_sum_is_not_told_another_at_the_same_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the sums at one model over other owners, it could take one owner's."""

    def denies(*_: object) -> None:
        raise ProtocolAbort("no sum came of this round")

    monkeypatch.setattr(training, "finish_round", denies)
    *told, leader = await trained((repeats, repeats, repeats), [])
    assert isinstance(leader, KoinonError)
    assert all(isinstance(each, ProtocolAbort) and "asks again at a model" in str(each) for each in told), told


def test_two_of_three_are_enough() -> None:
    """One honest among them, where at most one member beside the leader is not; and one may be silent."""
    assert ENOUGH_APPROVALS == 2


# ----------------------------------------------------------------------------------------------------- the attack


def edges() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two steep models, and the one row of all owners that lies between them."""
    tables = np.concatenate([part.features for part in owners(3)])
    first = np.sort(tables[:, 0])
    low, middle = (float(first[place : place + 2].mean()) for place in (60, 61))
    (row,) = tables[(low < tables[:, 0]) & (tables[:, 0] < middle)]
    return *(1e6 * np.append(np.eye(FEATURES)[0], -edge) for edge in (low, middle)), row


async def attacked(liars: Sequence[int], monkeypatch: pytest.MonkeyPatch) -> tuple[list[np.ndarray], list[Any]]:
    """A leader asks for sums at two models of its choice; the gradients that it is given, and how owners end."""
    low, middle, _ = edges()
    seen: list[np.ndarray] = []

    def chooses(
        state: training.Coordinator, plan: training.TrainingPlan, survivors: tuple[int, ...], words: np.ndarray
    ) -> training.Coordinator:
        total = decode_sum(words, plan.fraction_bits, training.limit_of(plan), len(survivors)) * plan.most_rows
        seen.append(total[: FEATURES + 1])
        following = replace(state.joint, parameters=(low, middle, FIRST)[state.round])
        return replace(
            state,
            joint=following,
            round=state.round + 1,
            history=(*state.history, RoundReport(state.round, survivors, 0.0, 1.0)),
            finished="read" if len(seen) == 3 else "",
        )

    async def vouched(terms: RoundTerms) -> Approvals:
        # The others sign what follows from the first round, which is another model.
        honest_ones = [position for position in (1, 2, 3) if position not in liars]
        return (*signed(terms, *liars), *signed(FOLLOWING_TERMS, *honest_ones))[:ENOUGH_APPROVALS]

    monkeypatch.setattr(training, "finish_round", chooses)
    async with wired() as (near, far):
        parts = [asyncio.create_task(honest(owner, link)) for owner, link in far.items()]
        ended = await asyncio.gather(
            coordinate(AGREED, NAMES, near, PACE, vouched=vouched), *parts, return_exceptions=True
        )
    return seen, ended[1:]


@pytest.mark.parametrize("liars", [(), (3,)], ids=["alone", "with another member"])
async def test_a_leader_that_asks_at_models_of_its_choice_reads_nothing(
    liars: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, ended = await attacked(liars, monkeypatch)
    assert len(seen) == 1
    assert all(isinstance(each, ProtocolAbort) and "is not approved" in str(each) for each in ended), ended


async def test_the_bound_is_tight_a_leader_with_two_members_reads_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, ended = await attacked((2, 3), monkeypatch)
    *_, row = edges()
    np.testing.assert_allclose(seen[1] - seen[2], np.append(row[:-1], 1.0), atol=1e-5)
    assert all(isinstance(each, np.ndarray) for each in ended)
