"""Giskard view by view: the same acts as in the plain model, in one order out of the many that come to the same.

An act of view v depends on nothing but acts of views up to v: a vote on the certificate of its parent and on reports
out of view v − 1, a report on the certificates its sender knows. So whatever set of blocks can be certified can be
certified with the acts sorted by view, in each view the votes first, and the votes for one block together (its earlier
voters may wait for the last one: until it is certified nothing they may do depends on it). Votes for blocks that never
are certified only use up their voters' slots and are left out, as are votes beyond the quorum, and a validator that is
shown into a view only to give it up is shown the lowest certificate that will do. A test compares the sets of certified
blocks with those of the plain model wherever that can be searched whole.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Final, NamedTuple

from giskard_world import GENESIS, Local, World

from koinon.kernel.quantities import View

ELSEWHERE: Final = View(0)
"""View of a validator that has not entered the view being played."""


class State(NamedTuple):
    """Attributes:
    view: the one being played.
    reporting: whether its votes are over.
    honest: sorted, so that permutations coincide.
    certified: ascending.
    before: the lowest reports out of the view before.
    reports: the lowest reports out of this view.
    """

    view: int
    reporting: bool
    honest: tuple[Local, ...]
    certified: tuple[int, ...]
    before: tuple[int, ...]
    reports: tuple[int, ...]


class Certify(NamedTuple):
    """These honest validators (places in ``State.honest``) vote for the block, and a quorum is full."""

    who: tuple[int, ...]
    block: int


class Report(NamedTuple):
    """Honest validator ``who`` gives up the view; ``shown`` is what let it enter, None where it was there."""

    who: int
    shown: int | None


class Next(NamedTuple):
    """The next view is played."""


Move = Certify | Report | Next


def start(world: World) -> State:
    """Everybody is in view 1 and has seen nothing but genesis."""
    fresh = Local(View(1), False, (), GENESIS, 0)
    return State(1, False, (fresh,) * world.bounds.honest, (GENESIS,), (), ())


def moves(world: World, state: State) -> Iterator[tuple[Move, State]]:
    """Everything that honest validators may be brought to sign now, with the state after it."""
    reportable = world.reportable(state.certified, state.before)
    if not state.reporting:
        for move in _certifications(world, state, reportable):
            yield move, canonical(after(world, state, move))
    if state.view < world.bounds.views:
        for report in _reports(world, state, reportable):
            yield report, canonical(after(world, state, report))
        yield Next(), canonical(after(world, state, Next()))


def canonical(state: State) -> State:
    """The same state with the honest validators sorted."""
    return state._replace(honest=tuple(sorted(state.honest)))


def after(world: World, state: State, move: Move) -> State:
    """The state after a move, every honest validator in the place it had before."""
    honest = list(state.honest)
    match move:
        case Certify(who, block):
            for one in who:
                voter = world.vote(honest[one], block)
                assert voter is not None, "a move of this state"
                honest[one] = voter
            return state._replace(honest=tuple(honest), certified=tuple(sorted((*state.certified, block))))
        case Report(one, shown):
            knowing = honest[one] if shown is None else world.learn(honest[one], shown)
            honest[one] = Local(View(state.view), True, (), knowing.highest, knowing.locked_height)
            return state._replace(
                reporting=True,
                honest=tuple(local._replace(voted=()) for local in honest),
                reports=world.add_report(state.reports, knowing.highest),
            )
        case Next():
            elsewhere = (Local(ELSEWHERE, False, (), local.highest, local.locked_height) for local in honest)
            return State(state.view + 1, False, tuple(elsewhere), state.certified, state.reports, ())


def _certifications(world: World, state: State, reportable: list[int]) -> Iterator[Certify]:
    for parent, index in world.places(state.view, state.certified, reportable):
        rivals = (world.child(parent, state.view, index, rival) for rival in range(world.bounds.rivals))
        block = next((rival for rival in rivals if rival not in state.certified), None)
        if block is None:
            continue
        willing = [who for who, local in enumerate(state.honest) if world.vote(local, block) is not None]
        seen = set()
        for who in combinations(willing, world.bounds.needed):
            voters = tuple(state.honest[one] for one in who)
            if voters not in seen:
                seen.add(voters)
                yield Certify(who, block)


def _reports(world: World, state: State, reportable: list[int]) -> Iterator[Report]:
    entrances = world.entrances(state.view, state.certified, reportable)
    lowest = min((world.order(block) for block in entrances), default=())
    for who, local in enumerate(state.honest):
        if local.timed_out or (who and local == state.honest[who - 1]):
            continue
        if local.view == state.view:
            yield Report(who, None)
        else:
            yield from (Report(who, block) for block in entrances if world.order(block) == lowest)
