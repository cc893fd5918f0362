"""A path of the view-by-view model told as the messages that were sent, with the validators kept apart."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from giskard_views import Certify, Move, Next, Report, State, after, canonical
from giskard_world import GENESIS, World


@dataclass(frozen=True)
class ViewChangeShown:
    """A view-change certificate: what each honest validator in it reported, and what the liars report."""

    left: int
    honest: tuple[tuple[int, int], ...]
    liars: int


@dataclass(frozen=True)
class Certified:
    """A quorum voted: these honest validators and all liars.

    Attributes:
        justification: for a first block that does not follow the last block of the view before.
    """

    block: int
    voters: tuple[int, ...]
    justification: ViewChangeShown | None


@dataclass(frozen=True)
class GaveUp:
    """An honest validator reported and left.

    Attributes:
        shown: block whose certificate, or view change out of the view before, let it enter; None where it was there.
        reported: the highest certified block it knew.
    """

    view: int
    who: int
    shown: int | None
    entrance: ViewChangeShown | None
    reported: int


Act = Certified | GaveUp


@dataclass
class Reports:
    """What honest validators reported, by view that was left; each once."""

    world: World
    known: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def add(self, view: int, who: int, reported: int) -> None:
        self.known.setdefault(view, []).append((who, reported))

    def leading_to(self, view: int, shown: int) -> ViewChangeShown | None:
        """What lets a validator enter ``view`` at ``shown``: a view change, or nothing more than its certificate."""
        header = self.world.headers[shown]
        if header.view == view or self.world.ends_view(shown, view - 1):
            return None
        return self._out_of(view - 1, shown)

    def justifying(self, block: int) -> ViewChangeShown | None:
        """What a first block carries: a view change, or nothing where its parent is the last of the view before."""
        world = self.world
        view, parent = world.headers[block].view, world.parents[block]
        if world.headers[block].index or world.ends_view(parent, view - 1):
            return None
        return self._out_of(view - 1, parent)

    def _out_of(self, left: int, shown: int) -> ViewChangeShown:
        """With the lowest honest reports; where ``shown`` is below them, which only some rules allow, they win."""
        world = self.world
        lowest = sorted(self.known[left], key=lambda report: (world.order(report[1]), report[1]))
        honest = tuple(lowest[: world.bounds.needed])
        return ViewChangeShown(left, honest, max(shown, honest[-1][1], key=world.order))


@dataclass
class _Teller:
    """Keeps the names of the validators while the model sorts them."""

    world: World
    names: list[int]
    reports: Reports

    def tell(self, state: State, move: Move) -> Act | None:
        match move:
            case Certify(who, block):
                return Certified(block, tuple(self.names[one] for one in who), self.reports.justifying(block))
            case Report(one, shown):
                entrance = None if shown is None else self.reports.leading_to(state.view, shown)
                reported = after(self.world, state, move).honest[one].highest
                self.reports.add(state.view, self.names[one], reported)
                return GaveUp(state.view, self.names[one], shown, entrance, reported)
            case Next():
                return None

    def follow(self, state: State, move: Move) -> State:
        moved = after(self.world, state, move)
        order = sorted(range(len(self.names)), key=lambda one: moved.honest[one])
        self.names = [self.names[one] for one in order]
        return canonical(moved)


def tell(world: World, start: State, path: Sequence[Move]) -> list[Act]:
    """The acts of a path of the view-by-view model; honest validators are numbered from 0."""
    teller = _Teller(world, list(range(world.bounds.honest)), Reports(world))
    state, acts = start, []
    for move in path:
        act = teller.tell(state, move)
        if act is not None:
            acts.append(act)
        state = teller.follow(state, move)
    return acts


class Names:
    """Short names of blocks: view.index, with a prime for every rival that came before."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[int, str] = {GENESIS: "genesis"}

    def __call__(self, block: int) -> str:
        if block not in self._known:
            header = self._world.headers[block]
            name = f"{header.view}.{header.index}"
            while name in self._known.values():
                name += "'"
            self._known[block] = name
        return self._known[block]


def sentences(world: World, acts: Sequence[Act], name: Names) -> list[str]:
    """The acts for a reader."""
    lines = []
    for act in acts:
        match act:
            case Certified(block, voters, justification):
                header, parent = world.headers[block], world.parents[block]
                by = ", ".join(f"H{one}" for one in voters)
                lines.append(
                    f"view {header.view}: PrepareBlock {name(block)} (index {header.index}, height {header.height}) "
                    f"on {name(parent)}{_shown(name, justification)}"
                )
                lines.append(f"        PrepareVote {name(block)} by {by} and the liars: certificate of {name(block)}")
            case GaveUp(view, who, shown, entrance, reported):
                way = "" if shown is None else f", shown there by the certificate of {name(shown)}"
                lines.append(
                    f"view {view}: ViewChange of H{who}{way}{_shown(name, entrance)}: reports {name(reported)}"
                )
    return lines


def _shown(name: Names, shown: ViewChangeShown | None) -> str:
    if shown is None:
        return ""
    honest = ", ".join(f"H{one} {name(reported)}" for one, reported in shown.honest)
    return f" with the view change out of view {shown.left} ({honest}, liars {name(shown.liars)})"
