"""Giskard with every signature an act of its own, in any order: the plain model.

The world is at its worst:

* *Messages* never leave the adversary's hands: a vote or report, once signed, may reach anybody at any later time, or
  never. So the state keeps what was signed and needs no queues.
* *Liars* (f of them) sign anything at any time and tell everybody something else. So a block is certified as soon as
  n − 2f honest validators voted for it, and a view-change certificate exists as soon as n − 2f honest validators
  reported; the liars' reports in it name whatever certificate they like.
* *Proposers* are in the adversary's hands in every view: whatever block an honest validator may vote for is there.
* *Time-outs* are local: an honest validator may give up any view that it can enter, at any moment.

Left out because it only ties honest hands: learning a certificate without acting on it, a second report out of the
same view, and a vote for a block that is certified already. Honest validators are interchangeable, so states that
differ by a permutation of them are one.
"""

from collections.abc import Iterator
from typing import NamedTuple

from giskard_world import GENESIS, Local, World

from koinon.kernel.quantities import View


class State(NamedTuple):
    """What has been signed, and where the honest validators stand.

    Attributes:
        honest: sorted, so that permutations coincide.
        certified: ascending.
        votes: blocks that may still become certified, with how many honest validators voted for them.
        reports: for views left by time-out, the lowest reports.
    """

    honest: tuple[Local, ...]
    certified: tuple[int, ...]
    votes: tuple[tuple[int, int], ...]
    reports: tuple[tuple[int, tuple[int, ...]], ...]


class Vote(NamedTuple):
    """Honest validator ``who`` (place in ``State.honest``) votes; the block's justification shows it into the view."""

    who: int
    block: int


class Report(NamedTuple):
    """Honest validator ``who`` gives up ``view``; ``shown`` is what let it enter, None where it was there."""

    who: int
    view: int
    shown: int | None


def start(world: World) -> State:
    """Everybody is in view 1 and has seen nothing but genesis."""
    return State((Local(View(1), False, (), GENESIS, 0),) * world.bounds.honest, (GENESIS,), (), ())


def moves(world: World, state: State) -> Iterator[tuple[Vote | Report, State]]:
    """Everything that an honest validator may be brought to sign, with the state after it."""
    reports = dict(state.reports)
    reportable = {left + 1: world.reportable(state.certified, lowest) for left, lowest in reports.items()}
    blocks = list(_candidates(world, state, reportable))
    for who, local in enumerate(state.honest):
        if who and local == state.honest[who - 1]:
            continue
        for block in blocks:
            voter = world.vote(local, block)
            if voter is not None:
                yield Vote(who, block), _after_vote(world, state, who, voter, block)
        for view in range(local.view, world.bounds.views):
            shown: list[int] | list[None]
            if view == local.view:
                shown = [] if local.timed_out else [None]
            else:
                shown = world.entrances(view, state.certified, reportable.get(view, []))
            for entrance in shown:
                knowing = local if entrance is None else world.learn(local, entrance)
                yield Report(who, view, entrance), _after_report(world, state, who, view, knowing)


def _candidates(world: World, state: State, reportable: dict[int, list[int]]) -> Iterator[int]:
    """Blocks that somebody may be asked to vote for; of rivals without votes only the first."""
    counted = {block for block, _ in state.votes}
    for view in range(min(local.view for local in state.honest), world.bounds.views + 1):
        for parent, index in world.places(view, state.certified, reportable.get(view, [])):
            for rival in range(world.bounds.rivals):
                block = world.child(parent, view, index, rival)
                if block not in state.certified:
                    yield block
                    if block not in counted:
                        break


def _after_vote(world: World, state: State, who: int, voter: Local, block: int) -> State:
    votes, certified = dict(state.votes), state.certified
    votes[block] = votes.get(block, 0) + 1
    if votes[block] >= world.bounds.needed:
        del votes[block]
        certified = tuple(sorted((*certified, block)))
    return _tidy(world, _put(state.honest, who, voter), certified, votes, dict(state.reports))


def _after_report(world: World, state: State, who: int, view: int, knowing: Local) -> State:
    reports = dict(state.reports)
    reports[view] = world.add_report(reports.get(view, ()), knowing.highest)
    left = Local(View(view), True, (), knowing.highest, knowing.locked_height)
    return _tidy(world, _put(state.honest, who, left), state.certified, dict(state.votes), reports)


def _put(honest: tuple[Local, ...], who: int, local: Local) -> tuple[Local, ...]:
    return tuple(sorted((*honest[:who], local, *honest[who + 1 :])))


def _tidy(
    world: World,
    honest: tuple[Local, ...],
    certified: tuple[int, ...],
    votes: dict[int, int],
    reports: dict[int, tuple[int, ...]],
) -> State:
    """Forget what is about views in which nobody can vote any more."""
    lowest = min(local.view + local.timed_out for local in honest)
    return State(
        honest,
        certified,
        tuple(sorted((block, count) for block, count in votes.items() if world.headers[block].view >= lowest)),
        tuple(sorted((left, lows) for left, lows in reports.items() if left + 1 >= lowest)),
    )
