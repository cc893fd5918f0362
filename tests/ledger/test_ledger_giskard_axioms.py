"""The proof for any number of validators: that it holds, that it needs what it assumes, and that validators do that.

The axioms of ``proofs/giskard_axioms.py`` are about what one honest validator signs. Here they are checked on all
that honest validators sign in simulated networks with liars, crashes and loss, under the names they have there.
"""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from giskard_axioms import AXIOMS, Block, height, ranks_at_least, view
from giskard_inductive import LEMMAS, prove
from z3 import BoolVal, Consts, IntVal, is_true, simplify, substitute

from koinon.kernel.ids import ZERO_HASH, Hash32
from koinon.kernel.quantities import BlockIndex, Epoch, Height, View
from koinon.ledger.giskard.certificates import rank
from koinon.ledger.giskard.simulation import Scenario, Simulation
from koinon.ledger.types import (
    Header,
    PrepareBlock,
    PrepareVote,
    QuorumCertificate,
    ViewChange,
    bitmap_positions,
    header_hash,
)

SHORT = 5_000
SEEDS = range(1, 5)


def test_the_solver_proves_every_lemma() -> None:
    verdicts = prove()
    assert [verdict.lemma for verdict in verdicts if verdict.proved] == [lemma.name for lemma in LEMMAS]


def test_the_axioms_do_not_contradict_each_other_as_far_as_the_solver_sees() -> None:
    nonsense = type(LEMMAS[0])("nonsense", "nothing is", lambda _: BoolVal(False), 1, tuple(AXIOMS))
    (verdict,) = prove([nonsense], budget=2_000)
    assert not verdict.proved


def test_the_proof_orders_certificates_as_the_code_does() -> None:
    """GISKARD-SAFETY-6."""
    upper, lower = Consts("upper lower", Block)
    claim = ranks_at_least(upper, lower)
    for places in product(range(3), repeat=4):
        heights, views = places[:2], places[2:]
        numbers = [
            (attribute(block), IntVal(value))
            for attribute, values in ((height, heights), (view, views))
            for block, value in zip((upper, lower), values, strict=True)
        ]
        certificates = [
            QuorumCertificate(Epoch(0), View(v), BlockIndex(0), Height(h), ZERO_HASH, b"\x07", b"\x01")
            for h, v in zip(heights, views, strict=True)
        ]
        assert is_true(simplify(substitute(claim, *numbers))) == (rank(certificates[0]) >= rank(certificates[1]))


@pytest.mark.parametrize(
    ("axiom", "lemma"),
    [
        ("quorums share an honest member", "certified parent"),
        ("one vote at a time", "one per place"),
        ("indexes rise within a view", "one per place"),
        ("views never fall", "parents are earlier"),
        ("the parent is certified first", "certified parent"),
        ("later blocks follow in their view", "certified parent"),
        ("first blocks are justified", "heights do not fall"),
        ("reports are no lower than what was voted on", "heights do not fall"),
    ],
)
def test_without_a_rule_there_is_no_proof(axiom: str, lemma: str) -> None:
    last = prove(without=axiom, budget=SHORT)[-1]
    assert (last.lemma, last.proved) == (lemma, False)


@dataclass
class Record:
    """Everything that was sent, in the order of sending."""

    votes: list[tuple[int, PrepareVote]] = field(default_factory=list)
    reports: list[tuple[int, ViewChange]] = field(default_factory=list)
    proposals: list[PrepareBlock] = field(default_factory=list)
    headers: dict[Hash32, Header] = field(default_factory=dict)

    def take(self, sender: int, message: Any) -> None:
        match message:
            case PrepareVote() if (sender, message) not in self.votes[-8:]:
                self.votes.append((sender, message))
            case ViewChange():
                self.reports.append((sender, message))
            case PrepareBlock():
                self.proposals.append(message)
                self.headers[header_hash(message.block.header)] = message.block.header


def recorded(scenario: Scenario, seed: int) -> tuple[Simulation, Record]:
    """A run, with everything that was sent in it."""
    simulation, record = Simulation(scenario, seed), Record()
    send = simulation.network.send

    def listen(sender: int, receiver: int, message: Any) -> None:
        record.take(sender, message)
        send(sender, receiver, message)

    simulation.network.send = listen
    verdict = simulation.run()
    assert verdict.violations == ()
    assert verdict.live, "GISKARD-LIVENESS-1"
    return simulation, record


@pytest.mark.parametrize(("nodes", "liars"), [(4, 1), (7, 2)])
@pytest.mark.parametrize("seed", SEEDS)
def test_simulated_validators_sign_what_the_axioms_say(nodes: int, liars: int, seed: int) -> None:
    simulation, record = recorded(Scenario(nodes=nodes, byzantine=liars), seed)
    genesis = header_hash(simulation.genesis)
    record.headers[genesis] = simulation.genesis
    honest, needed, last = nodes - liars, nodes - 2 * liars, simulation.blocks_per_view - 1
    cast: dict[int, dict[Hash32, PrepareVote]] = {position: {} for position in range(honest)}
    voters: dict[Hash32, set[int]] = {}
    for sender, vote in record.votes:
        if sender >= honest or vote.block in cast[sender]:
            continue
        header = record.headers[vote.block]
        parent = record.headers[header.parent]
        assert vote.view >= 1, "votes are for places"
        assert 0 <= vote.index <= last, "votes are for places"
        before = list(cast[sender].values())
        assert all(other.view <= vote.view for other in before), "views never fall"
        same = [other for other in before if other.view == vote.view]
        assert all(other.index < vote.index for other in same), "indexes rise within a view"
        assert all(other.height < vote.height for other in same), "heights rise within a view"
        certified = header.parent == genesis or len(voters.get(header.parent, set())) >= needed
        assert certified, "the parent is certified first"
        if vote.index:
            assert (parent.view, parent.index) == (vote.view, vote.index - 1), "later blocks follow in their view"
        cast[sender][vote.block] = vote
        voters.setdefault(vote.block, set()).add(sender)
    said: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for sender, report in record.reports:
        if sender < honest:
            said.setdefault((sender, report.view), []).append(rank(report.highest))
            for vote in cast[sender].values():
                parent = record.headers[record.headers[vote.block].parent]
                lower = vote.view <= report.view and rank(report.highest) < (parent.height, parent.view)
                assert not lower, "reports are no lower than what was voted on"
    first = {name for votes in cast.values() for name, vote in votes.items() if vote.index == 0}
    assert all(any(is_justified(simulation, record, said, name, offer) for offer in record.proposals) for name in first)
    assert len(voters) > 6
    assert said


def is_justified(
    simulation: Simulation,
    record: Record,
    said: dict[tuple[int, int], list[tuple[int, int]]],
    name: Hash32,
    offer: PrepareBlock,
) -> bool:
    """First blocks are justified: by the last block of the view before, or by what a quorum reported."""
    header = offer.block.header
    if header_hash(header) != name:
        return False
    parent = record.headers[header.parent]
    if offer.view_change is None:
        return (parent.view, parent.index) == (header.view - 1, simulation.blocks_per_view - 1)
    leavers: set[int] = set()
    for group in offer.view_change.groups:
        if rank(group) > (parent.height, parent.view):
            return False
        signers = bitmap_positions(group.signers, simulation.scenario.nodes)
        leavers |= set(signers)
        honest = [signer for signer in signers if signer < len(simulation.honest)]
        if any(rank(group) not in said.get((signer, header.view - 1), []) for signer in honest):
            return False
    return len(leavers) >= simulation.scenario.nodes - simulation.scenario.byzantine
