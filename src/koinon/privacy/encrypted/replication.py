"""Work given to strangers, each piece to several, until enough of them say the same.

Answers are compared by digest: evaluating a ciphertext is deterministic, so honest strangers send the same bytes. A
piece is settled when ``agree`` of them do; whoever said something else about it is named, and gets nothing more. Who is
silent or fails is replaced and not named: silence proves nothing.

Who is asked about a piece, and in which order, is drawn by the client and told to nobody, so strangers who would lie
together must be ``agree`` among those drawn. With a share p of liars who all work together, a wrong piece is accepted
with a probability of about pᵃᵍʳᵉᵉ for each piece.

Where the pieces are of several parts of a model, each stranger has one part at least that it is never asked about,
whoever fails or lies: it never sees the whole. Strangers and parts then stand in two circles that are drawn once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput, Unavailable

MOST_PIECES: Final = 100_000


@dataclass(frozen=True)
class Piece:
    """What is known about one piece.

    Attributes:
        order: the strangers in the order in which they are asked.
        asked: how many of them have been.
        answers: stranger and digest, of those who answered.
        lost: strangers who were asked and will not answer.
        settled: the digest that enough of them sent.
    """

    order: tuple[int, ...]
    asked: int = 0
    answers: tuple[tuple[int, bytes], ...] = ()
    lost: frozenset[int] = frozenset()
    settled: bytes | None = None


@dataclass(frozen=True)
class State:
    """The whole work. ``wrong`` holds stranger and piece; ``silent`` those who failed to answer once."""

    agree: int
    pieces: tuple[Piece, ...]
    wrong: frozenset[tuple[int, int]] = frozenset()
    silent: frozenset[int] = frozenset()

    @property
    def liars(self) -> frozenset[int]:
        return frozenset(stranger for stranger, _ in self.wrong)

    @property
    def is_done(self) -> bool:
        return all(piece.settled is not None for piece in self.pieces)


@dataclass(frozen=True)
class Begin:
    """Nothing has been asked yet."""


@dataclass(frozen=True)
class Answered:
    """A stranger's answer to a piece."""

    stranger: int
    piece: int
    digest: bytes


@dataclass(frozen=True)
class Lost:
    """A stranger will not answer: it refused, failed, is gone or was too slow."""

    stranger: int
    piece: int


Event = Begin | Answered | Lost


@dataclass(frozen=True)
class Ask:
    """Give a piece to a stranger."""

    stranger: int
    piece: int


@dataclass(frozen=True)
class Settled:
    """A piece is done; this stranger's answer is one of those that agree."""

    piece: int
    stranger: int


@dataclass(frozen=True)
class Named:
    """A stranger said something else than enough others."""

    stranger: int
    piece: int


Effect = Ask | Settled | Named


@dataclass
class _Change:
    """A step under way."""

    state: State
    effects: list[Effect] = field(default_factory=list)

    def put(self, number: int, piece: Piece) -> None:
        pieces = list(self.state.pieces)
        pieces[number] = piece
        self.state = replace(self.state, pieces=tuple(pieces))


def is_enough(strangers: int, agree: int, parts: int) -> bool:
    """Whether each stranger can miss one of the parts, and enough are left to agree on every one."""
    return parts == 1 or strangers - -(-strangers // parts) >= agree


def begin(pieces: int, strangers: int, agree: int, rng: Rng, parts: int = 1) -> State:
    """Work of so many pieces for so many strangers.

    Args:
        agree: how many must say the same; 2 is enough where liars do not work together.
        parts: of the model; piece i is of part i modulo ``parts``.

    Raises:
        InvalidInput: too few strangers, or no work.
    """
    if not 1 <= pieces <= MOST_PIECES:
        raise InvalidInput(f"work has 1 to {MOST_PIECES} pieces, not {pieces}")
    if not 2 <= agree <= strangers:
        raise InvalidInput(f"of {strangers} strangers {agree} cannot agree; name at least as many, and at least two")
    if parts == 1:
        return State(agree, tuple(Piece(_drawn(strangers, rng)) for _ in range(pieces)))
    circle = _drawn(strangers, rng)
    orders = [asking_order(circle, part, parts) for part in range(parts)]
    if not is_enough(strangers, agree, parts):
        raise InvalidInput(
            f"where each of {strangers} strangers misses one of {parts} parts, {agree} cannot agree on all of them;"
            " name more strangers or cut the model into more parts"
        )
    return State(agree, tuple(Piece(orders[number % parts]) for number in range(pieces)))


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """Advance the work.

    Raises:
        Unavailable: too few strangers are left for a piece to be settled.
    """
    change = _Change(state)
    match event:
        case Begin():
            for number, piece in enumerate(state.pieces):
                if piece.asked == 0:
                    _ask(change, number)
        case Answered() if _is_awaited(state, event.stranger, event.piece):
            piece = state.pieces[event.piece]
            change.put(event.piece, replace(piece, answers=(*piece.answers, (event.stranger, event.digest))))
            _settle(change, event.piece)
            _ask(change, event.piece)
        case Lost() if _is_awaited(state, event.stranger, event.piece):
            piece = state.pieces[event.piece]
            change.put(event.piece, replace(piece, lost=piece.lost | {event.stranger}))
            change.state = replace(change.state, silent=change.state.silent | {event.stranger})
            _ask(change, event.piece)
    return change.state, tuple(change.effects)


def _is_awaited(state: State, stranger: int, number: int) -> bool:
    if not 0 <= number < len(state.pieces):
        return False
    piece = state.pieces[number]
    done = {answered for answered, _ in piece.answers} | piece.lost
    return stranger in piece.order[: piece.asked] and stranger not in done


def _settle(change: _Change, number: int) -> None:
    """Settle a piece that enough strangers agree on, and name those who said something else about it."""
    piece = change.state.pieces[number]
    if piece.settled is None:
        digests = [digest for _, digest in piece.answers]
        agreed = next((digest for digest in digests if digests.count(digest) >= change.state.agree), None)
        if agreed is None:
            return
        piece = replace(piece, settled=agreed)
        change.put(number, piece)
        change.effects.append(Settled(number, next(who for who, digest in piece.answers if digest == agreed)))
    for stranger, digest in piece.answers:
        if digest != piece.settled and (stranger, number) not in change.state.wrong:
            change.state = replace(change.state, wrong=change.state.wrong | {(stranger, number)})
            change.effects.append(Named(stranger, number))


def _ask(change: _Change, number: int) -> None:
    """Ask as many strangers as could settle the piece if all who are still out agreed with the most common answer."""
    piece = change.state.pieces[number]
    if piece.settled is not None:
        return
    digests = [digest for _, digest in piece.answers]
    most = max((digests.count(digest) for digest in digests), default=0)
    out = piece.asked - len(piece.answers) - len(piece.lost)
    asked = piece.asked
    order = list(piece.order)
    # Who lied about another piece is asked last, if at all.
    order[asked:] = sorted(order[asked:], key=lambda stranger: stranger in change.state.liars)
    while most + out < change.state.agree:
        if asked == len(order):
            raise Unavailable(
                f"piece {number + 1} was answered by {len(piece.answers)} of {len(order)} strangers, of whom no"
                f" {change.state.agree} agree; name more of them and begin again"
            )
        change.effects.append(Ask(order[asked], number))
        asked, out = asked + 1, out + 1
    change.put(number, replace(piece, asked=asked, order=tuple(order)))


def _drawn(count: int, rng: Rng) -> tuple[int, ...]:
    """A random order."""
    keys = [rng.bytes(16) for _ in range(count)]
    return tuple(sorted(range(count), key=keys.__getitem__))


def asking_order(circle: Sequence[int], part: int, parts: int) -> tuple[int, ...]:
    """Who is asked about a part: those that come after its place, but for those that stand at it."""
    places = [(part + 1 + step) % len(circle) for step in range(len(circle))]
    return tuple(circle[place] for place in places if place % parts != part)


def shares(state: State, strangers: int) -> Sequence[int]:
    """How many pieces each stranger is to be paid for: those it answered as enough others did, if it never lied."""
    counts = [0] * strangers
    for piece in state.pieces:
        for stranger, digest in piece.answers:
            counts[stranger] += digest == piece.settled
    return [0 if stranger in state.liars else count for stranger, count in enumerate(counts)]
