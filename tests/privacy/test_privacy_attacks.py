"""The published attack on deferred checks, what a party sees, and the tamper harness."""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from privacy_scenes import SESSION, new_parties, shared

from koinon.privacy.rep4 import adversary, arithmetic, comparison, lockstep, shuffling
from koinon.privacy.rep4.domain import check_domain
from koinon.privacy.rep4.lies import Lie
from koinon.privacy.rep4.lockstep import Ending
from koinon.privacy.rep4.machine import Rep4Machine
from koinon.privacy.rep4.party import HEADER, Party
from koinon.privacy.rep4.seals import HASH_BYTES, SEAL_BYTES, chained, unpacked
from koinon.privacy.rep4.shares import Shares, summed
from koinon.privacy.rep4.verdict import NAMED
from koinon.privacy.secret import Product, together
from koinon.wire.committee import POSITIONS, FrameDigests, RouteDigest

CHEATER, VICTIM, WITNESS = 2, 1, 3
"""In product (0, 1) the cheater sends to the victim; in product (0, 2) of the next multiplication the victim sends to
the cheater, and the witness sends the hash of the right value."""
DELTA = 1
SECRET = 42


class TrustingParty(Party):
    """A party that puts the comparison of hashes off for later, as the attacked protocols do."""

    def _check(self, received: Mapping[int, Any]) -> None:
        """Not now."""


class DeferredCheckAttack:
    """Adds DELTA to one value of the first product, then tests guesses of a secret with the victim's next message."""

    def __init__(self) -> None:
        self.candidates: list[int] = []
        self._hash = b""
        self._value = b""

    def before(self, party: Party) -> None:
        """Its own state stays right."""

    def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
        if party.position == CHEATER and party.round == 0:
            word = int.from_bytes(frames[VICTIM][HEADER.size : HEADER.size + 8], "little") + DELTA
            changed = (word % 2**64).to_bytes(8, "little")
            return {**frames, VICTIM: frames[VICTIM][: HEADER.size] + changed + frames[VICTIM][HEADER.size + 8 :]}
        if party.round == 1 and party.position == VICTIM:
            self._value = frames[CHEATER][HEADER.size : HEADER.size + 8]
        if party.round == 1 and party.position == WITNESS:
            # The witness sends nothing but this hash to the cheater, after its own values and before its seal.
            self._hash = frames[CHEATER][-HASH_BYTES - SEAL_BYTES : -SEAL_BYTES]
        return frames

    def guess(self, cheater: Party, known: int) -> list[int]:
        """Secrets that fit what was seen; ``known`` is the sum of the cheater's three components of the secret."""
        if not self._value:
            return []
        received = np.frombuffer(self._value, np.uint64)
        cheater.round = 1
        return [
            guess
            for guess in range(200)
            if cheater._digest((VICTIM, WITNESS, CHEATER), [received - np.uint64(DELTA * (guess - known) % 2**64)])
            == self._hash
        ]


def two_products(party: Party, a: Shares, b: Shares, d: Shares) -> Generator[None, None, Shares]:
    c = yield from arithmetic.multiply(party, a, b)
    return (yield from arithmetic.multiply(party, c, d))


def attack(parties: list[Party]) -> tuple[list[int], list[Ending]]:
    inputs = [shared(np.array([value], np.uint64), value) for value in (5, 7, SECRET)]
    attack = DeferredCheckAttack()
    protocols = [two_products(parties[i], *(each[i] for each in inputs)) for i in POSITIONS]
    endings = lockstep.run(parties, protocols, attack)
    known = int(sum(inputs[2][CHEATER].part(j)[0] for j in POSITIONS if j != CHEATER)) % 2**64
    return attack.guess(new_parties()[CHEATER], known), endings


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_deferred_checks_would_give_the_secret_away() -> None:
    """The attack is real: against parties that compare later it finds the secret among two hundred."""
    guesses, _ = attack(new_parties(kind=TrustingParty))
    assert guesses == [SECRET]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_the_attack_on_deferred_checks_gets_nothing_from_us() -> None:
    guesses, endings = attack(new_parties())
    assert guesses == []
    victim = endings[VICTIM]
    assert victim.abort is not None
    assert victim.abort.suspects == {CHEATER, 3}
    assert victim.rounds_sent == [0]


# Guesses, tested with the heads of a link between others.


class KeylessParty(Party):
    """A party whose hashes of values everybody can make: the control."""

    def _digest(self, path: tuple[int, int, int], values: list[np.ndarray]) -> bytes:
        self._hash_keys = dict.fromkeys(POSITIONS, bytes(32))
        return super()._digest(path, values)


class Eavesdropper:
    """Honest; keeps what position 3 receives in the first round."""

    def __init__(self) -> None:
        self.received: dict[int, bytes] = {}

    def before(self, party: Party) -> None:
        """Changes nothing."""

    def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
        if party.round == 0 and 3 in frames:
            self.received[party.position] = frames[3]
        return frames


def guessed(kind: type[Party]) -> list[int]:
    """Secrets below 200 for which position 3 can make the head of the link 0 → 2 while SECRET is truncated.

    It knows c = x + 2⁶² + r and every component but x₃; so a guess of x gives x₂ + r, which 0 sent to 2.
    """
    parties, eavesdropper = new_parties(kind=kind), Eavesdropper()
    views = shared(np.array([SECRET], np.uint64), 1)
    lockstep.run(parties, [arithmetic.truncate(parties[i], views[i], 3) for i in POSITIONS], eavesdropper)
    mine = views[3]
    seal = unpacked(eavesdropper.received[0][-SEAL_BYTES:], SESSION, 0, 0)
    sent = int.from_bytes(eavesdropper.received[1][HEADER.size : HEADER.size + 8], "little")
    masked = sent + sum(int(mine.part(j)[0]) for j in (0, 1, 2))
    outsider = new_parties(kind=kind)[3]
    own = dict(outsider._hash_keys)
    found = []
    for key in (bytes(32), *own.values()):
        outsider._hash_keys = {**own, 3: key}
        for guess in range(200):
            value = np.array([(masked - guess + int(mine.part(2)[0])) % 2**64], np.uint64)
            route = RouteDigest(0, 1, 2, outsider._digest((0, 1, 2), [value]))
            if chained(bytes(HASH_BYTES), FrameDigests((route,), (), ())) == seal.sent[1]:
                found.append(guess)
    return sorted(set(found))


def test_hashes_without_keys_would_let_an_outsider_test_guesses() -> None:
    assert guessed(KeylessParty) == [SECRET]


def test_an_outsider_cannot_test_guesses_with_chain_heads() -> None:
    assert guessed(Party) == []


# What one party sees.


class Recorder:
    """Notes every frame to one position, with its values, hashes, announcements and seal; and the values apart."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.seen: list[bytes] = []
        self.values: list[np.ndarray] = []

    def before(self, party: Party) -> None:
        """Changes nothing."""

    def frames(self, party: Party, frames: dict[int, bytes]) -> dict[int, bytes]:
        for peer in frames:
            if peer == self.position:
                self.seen.append(frames[peer])
                self.values += [value.ravel().copy() for value in party.compose()[peer].values]
        return frames


def everything(party: Party, x: Shares, y: Shares) -> Generator[None, None, Shares]:
    product = yield from arithmetic.multiply_truncate(party, x, y, Product.ELEMENTWISE, 20, None)
    halved = yield from arithmetic.truncate(party, product, 3)
    moved = yield from shuffling.shuffle(party, halved)
    signs = yield from together(comparison.negative(party, moved), comparison.negative(party, moved, 2.0**30))
    return summed(signs, party.position)


def leaky(party: Party, x: Shares, y: Shares) -> Generator[None, None, Shares]:
    """Forgets to mask: the control that shows the test can fail."""
    known = x.part(0) + x.part(1) if party.position in (2, 3) else None
    party.joint(2, 3, 1, known, x.shape, np.uint64)
    yield
    return (yield from everything(party, x, y))


@dataclass(frozen=True)
class View:
    """Of many runs, what one position receives.

    Attributes:
        bits: (runs, n) of all frames, bit by bit.
        pairs: (runs, m) of the difference, the sum and the exclusive or of any two values of one length, bit by bit:
            where a mask is used twice, one of these is free of it.
    """

    bits: np.ndarray
    pairs: np.ndarray


def view(position: int, protocol: Any, secrets: tuple[int, int], runs: int) -> View:
    """Keys are fresh in every run, the position's own shares of x and y fixed."""
    words = [np.full(4, secret % 2**64, np.uint64) for secret in secrets]
    inputs = []
    for number, each in enumerate(words):
        base = shared(np.zeros(4, np.uint64), number)
        # The secret goes into the component that this position lacks.
        parts = [[None if part is None else part.copy() for part in views.parts] for views in base]
        for i in POSITIONS:
            if i != position:
                parts[i][position] = parts[i][position] + each
        inputs.append([Shares(tuple(p), (4,)) for p in parts])
    frames, pairs = [], []
    for run in range(runs):
        recorder = Recorder(position)
        parties = new_parties(b"view" + run.to_bytes(4, "big"))
        lockstep.run(parties, [protocol(parties[i], *(each[i] for each in inputs)) for i in POSITIONS], recorder)
        frames.append(np.frombuffer(b"".join(recorder.seen), np.uint8))
        pairs.append(np.frombuffer(b"".join(combined(recorder.values)), np.uint8))
    return View(*(np.unpackbits(np.stack(each), axis=1) for each in (frames, pairs)))


def combined(values: Sequence[np.ndarray]) -> Iterator[bytes]:
    for one, other in combinations(values, 2):
        if (one.dtype, one.size) == (other.dtype, other.size):
            yield from (each.tobytes() for each in (one - other, one + other, one ^ other))


def largest_bias(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference in how often any bit is set, in standard deviations of a fair coin."""
    runs = len(one)
    return float(np.abs(one.mean(0) - other.mean(0)).max(initial=0.0) / (0.5 * (2 / runs) ** 0.5))


def differ(one: View, other: View) -> bool:
    """Whether some bit of a frame, or of two values together, is set more often with one secret than with the other.

    The largest of some 10⁴ normal deviations exceeds 6 once in 50,000 times, and of 10⁶ exceeds 7 once in 400,000; the
    seeds are fixed.
    """
    return largest_bias(one.bits, other.bits) > 6 or largest_bias(one.pairs, other.pairs) > 7


RUNS = 48
SECRETS = ((3 << 20, 5 << 20), (-(901 << 20), 1 << 11))


@pytest.mark.parametrize("position", POSITIONS)
def test_what_a_party_receives_does_not_depend_on_the_secrets(position: int) -> None:
    one, other = (view(position, everything, secrets, RUNS) for secrets in SECRETS)
    assert one.pairs.shape[1] > 5_000
    assert not differ(one, other)


def square(shares: Shares) -> Shares:
    return shares.rearranged(lambda part: part.reshape(2, 2))


def matrix_product(party: Party, x: Shares, y: Shares) -> Generator[None, None, Shares]:
    return arithmetic.multiply(party, square(x), square(y), Product.MATRIX)


def truncated_matrix_product(party: Party, x: Shares, y: Shares) -> Generator[None, None, Shares]:
    return arithmetic.multiply_truncate(party, square(x), square(y), Product.MATRIX, 20, None)


def gram(party: Party, x: Shares, y: Shares) -> Generator[None, None, Shares]:
    del y
    return arithmetic.multiply(party, square(x), square(x), Product.GRAM)


def positive_part(party: Party, x: Shares, y: Shares) -> Generator[None, None, Shares]:
    del y
    return comparison.positive_part(party, x, 2.0**40, 20, 20)


def opening(party: Party, x: Shares, y: Shares) -> Generator[None, None, np.ndarray]:
    """Opens only the product."""
    product = yield from arithmetic.multiply(party, x, y)
    return (yield from arithmetic.open_to_all(party, product))


def checked(party: Party, x: Shares, y: Shares) -> Generator[None, None, None]:
    """The numbers of x within the range, those of y at its ends."""
    return check_domain(party, [each.rearranged(lambda part: part.reshape(4, 1)) for each in (x, y)], 20, [[], [0]])


ALONE = {
    "matrix product": (matrix_product, SECRETS),
    "truncated matrix product": (truncated_matrix_product, SECRETS),
    "Gram matrix": (gram, SECRETS),
    "positive part": (positive_part, SECRETS),
    # An opening tells its output: what it must not tell is which of the factors with this product they were.
    "opening": (opening, ((6, 35), (-14, -15))),
    "check of ranges": (checked, ((1 << 19, 1 << 20), (-(1 << 18), -(1 << 20)))),
}


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("case", ALONE)
def test_what_a_party_receives_of_one_operation_does_not_depend_on_the_secrets(case: str, position: int) -> None:
    protocol, secrets = ALONE[case]
    one, other = (view(position, protocol, each, RUNS) for each in secrets)
    assert one.bits.size
    assert not differ(one, other)


def bare_opening(party: Party, x: Shares, y: Shares) -> Generator[None, None, np.ndarray]:
    """Opens the factors too: the control of the test above."""
    product = yield from opening(party, x, y)
    yield from arithmetic.open_to_all(party, x)
    return product


def test_the_test_of_openings_notices_one_too_many() -> None:
    one, other = (view(1, bare_opening, secrets, RUNS) for secrets in ALONE["opening"][1])
    assert differ(one, other)


def test_the_test_of_views_notices_a_leak() -> None:
    one, other = (view(1, leaky, secrets, RUNS) for secrets in SECRETS)
    assert largest_bias(one.bits, other.bits) > 6


def twice_masked(party: Party, x: Shares, y: Shares) -> Generator[None, None, Shares]:
    """Masks a secret, and sends the mask in the next round: every message by itself is uniform."""
    mask = party.draw(1, x.shape)
    known = None if party.position in (0, 1) or mask is None else x.part(0) + x.part(1) + mask
    party.joint(2, 3, 1, known, x.shape, np.uint64)
    yield
    party.joint(2, 3, 1, mask if party.position in (2, 3) else None, x.shape, np.uint64)
    yield
    return (yield from everything(party, x, y))


def test_the_test_of_views_notices_a_mask_that_is_used_twice() -> None:
    one, other = (view(1, twice_masked, secrets, RUNS) for secrets in SECRETS)
    assert largest_bias(one.bits, other.bits) < 6
    assert largest_bias(one.pairs, other.pairs) > 7


# The harness.

LOCAL = {"party", "constant", "shape", "add", "scale", "rearrange", "join", "observe"}
"""What a machine has, and does without a message."""


def check(first: int, count: int) -> None:
    verdicts = [adversary.trial(seed) for seed in range(first, first + count)]
    counts = adversary.summary(verdicts)
    assert len(counts) == len(Lie)
    check_each(verdicts)


def check_each(verdicts: Sequence[adversary.Verdict]) -> None:
    for verdict in verdicts:
        assert not verdict.is_broken, verdict
        assert verdict.told, verdict
        # A flipped bit of state that no later message uses is harmless; every other lie is noticed.
        assert verdict.detected or verdict.lie is Lie.STATE, verdict
        # Whoever is promised to be named alone is, whenever the lie is noticed; and evidence always ends with one.
        assert verdict.naming is NAMED[verdict.lie] or not verdict.detected, verdict
        assert verdict.named or not verdict.proved, verdict


def test_who_is_named_is_what_the_specification_says() -> None:
    section = (Path(__file__).parents[2] / "docs/spec/rep4.md").read_text("utf-8").partition("### Who is named")[2]
    rows = re.findall(r"^\| (\w+) \| (\w+) \|$", section, re.MULTILINE)
    assert dict(rows) == {lie.name.lower(): naming.name.lower() for lie, naming in NAMED.items()}


def test_the_session_under_attack_has_every_protocol_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also every kind of product, exact and truncated."""
    reached = set()

    def counted(name: str, protocol: Any) -> Any:
        def run(machine: Rep4Machine, *given: Any) -> Any:
            kinds = [each.name for each in given if isinstance(each, Product)]
            reached.add((name, *kinds))
            return protocol(machine, *given)

        return run

    names = ("multiply", "multiply_truncate", "truncate", "negative", "positive_part", "noise", "shuffle")
    assert {name for name in vars(Rep4Machine) if not name.startswith("_")} - LOCAL == set(names)
    for name in names:
        monkeypatch.setattr(Rep4Machine, name, counted(name, getattr(Rep4Machine, name)))
    adversary._truth.__wrapped__()
    assert {name for name, *_ in reached} == set(names)
    exact = {kind[0] for name, *kind in reached if name == "multiply"}
    assert {"GRAM", "MATRIX"} <= exact | {kind[0] for name, *kind in reached if name == "multiply_truncate"}


def test_no_lie_of_one_party_is_accepted() -> None:
    check(0, 160)


def test_a_view_of_frames_that_nobody_signed_clears_nobody_alone() -> None:
    """Of 9,300 trials the one in which a liar that states another output turns a bit of the last seal it opens."""
    check_each([adversary.trial(252)])


@pytest.mark.long
@pytest.mark.parametrize(
    "first", [pytest.param(1000, id="sample"), *(pytest.param(seed, id=f"{seed}") for seed in range(1300, 4600, 300))]
)
def test_no_lie_of_one_party_is_accepted_in_many_trials(first: int) -> None:
    check(first, 300)
