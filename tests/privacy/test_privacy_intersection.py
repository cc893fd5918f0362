"""Private set intersection: what is right, what each side sees, and what a hostile other side can do."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koinon.crypto.random import SystemRng
from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import Expired, Forged, InvalidInput, KoinonError, MalformedMessage, Refused, Unavailable
from koinon.kernel.quantities import Seconds
from koinon.net.transport import Transport
from koinon.privacy.joins import codes, consistency, oblivious_transfer
from koinon.privacy.joins.bits import transposed
from koinon.privacy.joins.cuckoo import EMPTY, bins_for, place
from koinon.privacy.joins.intersection import begin, step
from koinon.privacy.joins.session import intersect
from koinon.privacy.joins.states import (
    ITEMS_AT_ONCE,
    AwaitingChoices,
    AwaitingCorrections,
    Begin,
    Greeting,
    Learned,
    Received,
    State,
    Terms,
)
from koinon.privacy.rep4.adversary import SeededRng
from koinon.wire.catalogue import Done, Message
from koinon.wire.joins import (
    Corrections,
    CorrectionsChallenge,
    CorrectionsProof,
    IntersectionOpening,
    Members,
    TransferChoices,
    TransferOffer,
    Values,
)

SESSION = bytes(range(32))
ASKS = Terms(SESSION, asks=True, both_learn=True)
ANSWERS = Terms(SESSION, asks=False, both_learn=True)


class Pair:
    """Both owners in one process, with every message between them. ``change`` may put another in its place."""

    def __init__(self, asker: Greeting, other: Greeting, seed: bytes = b"pair") -> None:
        self.states: list[State] = [asker, other]
        self.rngs = [SeededRng(seed + b"0"), SeededRng(seed + b"1")]
        self.said: list[tuple[int, Message]] = []
        self.learned: list[np.ndarray | None] = [None, None]
        self._waiting: deque[tuple[int, Message]] = deque()

    def run(self, change: Any = lambda _side, message: message) -> "Pair":
        for side in (0, 1):
            self._do(side, Begin(), change)
        while self._waiting:
            side, message = self._waiting.popleft()
            self._do(1 - side, Received(message), change)
        return self

    def _do(self, side: int, event: Begin | Received, change: Any) -> None:
        self.states[side], effects = step(self.states[side], event, self.rngs[side])
        for effect in effects:
            if isinstance(effect, Learned):
                self.learned[side] = effect.members
            else:
                message = change(side, effect.message)
                self.said.append((side, message))
                self._waiting.append((side, message))


def pair(first: Sequence[str], second: Sequence[str], seed: bytes = b"pair", *, both_learn: bool = True) -> Pair:
    sides = [replace(terms, both_learn=both_learn) for terms in (ASKS, ANSWERS)]
    rng = SeededRng(seed)
    return Pair(begin(sides[0], first, rng), begin(sides[1], second, rng), seed)


names = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), min_size=1, max_size=60, unique=True)


@settings(max_examples=8, deadline=None)
@given(names, names, st.integers(0, 60), st.booleans())
def test_both_learn_who_is_in_both_and_nothing_else(
    first: list[str], second: list[str], shared: int, both_learn: bool
) -> None:
    second = list(dict.fromkeys(second + first[:shared]))
    result = pair(first, second, both_learn=both_learn).run()
    common = set(first) & set(second)
    assert result.learned[0] is not None
    assert [first[number] for number in result.learned[0]] == [name for name in first if name in common]
    if both_learn:
        assert result.learned[1] is not None
        assert [second[number] for number in result.learned[1]] == [name for name in second if name in common]
    else:
        assert result.learned[1] is None


def test_several_batches() -> None:
    count = ITEMS_AT_ONCE + 1000
    first = [str(number) for number in range(count)]
    second = [str(number) for number in range(70, count + 70)]
    result = pair(first, second).run()
    assert result.learned[0] is not None
    assert result.learned[1] is not None
    np.testing.assert_array_equal(result.learned[0], np.arange(70, count))
    np.testing.assert_array_equal(result.learned[1], np.arange(0, count - 70))


def test_nothing_in_common() -> None:
    result = pair(["a", "b"], ["c"]).run()
    assert [len(learned) for learned in result.learned if learned is not None] == [0, 0]


def test_what_the_other_sees_does_not_depend_on_the_askers_set() -> None:
    """Corrections are masked by bits that only the asker knows: every bit is fair, whatever is in the set."""
    for items in (["alone"], [f"item {number}" for number in range(40)]):
        counts = np.zeros(8 * 64, np.int64)
        total = 0
        for seed in range(6):
            said = pair(items, ["x"], str(seed).encode()).run().said
            batches = [message.rows for _, message in said if isinstance(message, Corrections)]
            rows = np.concatenate([np.frombuffer(batch, np.uint8).reshape(512, -1) for batch in batches], axis=1)
            bits = np.unpackbits(rows, axis=1)
            counts += bits.sum(axis=1, dtype=np.int64)
            total += bits.shape[1]
        assert np.abs(counts - total / 2).max() < 5 * np.sqrt(total / 4)


def test_what_the_other_is_told_depends_on_nothing_that_only_the_asker_has() -> None:
    """Which bins an asker's own items crowd shows in where it puts the others; the other is told nothing of that."""
    shared = [f"shared {number}" for number in range(200)]
    told = []
    for others in ("a", "b"):
        result = pair([*shared, *(f"{others} {number}" for number in range(200))], shared).run()
        told.append([message for _, message in result.said if isinstance(message, Members)])
        bins = {message.places for message in told[-1]}
        assert bins == {np.arange(200, dtype="<u4").tobytes()}
    assert told[0] == told[1]


def test_an_asker_that_breaks_the_rules_is_caught_before_it_is_told_anything() -> None:
    """The attack on semi-honest protocols of this kind: who asks turns bits over in the codewords of items that it
    knows the other to have, and would read as many bits of the other's secret off the values of these items.
    """
    items = [f"item {number}" for number in range(64)]
    attacked = pair(items, items)

    def turn(_side: int, message: Message) -> Message:
        if isinstance(message, Corrections) and message.batch == 0:
            columns = np.frombuffer(message.rows, np.uint8).reshape(512, -1).copy()
            columns[:64, 0] ^= 0xFF  # every of the first 64 bits of secret, in the codewords of the first eight bins
            return Corrections(0, columns.tobytes())
        return message

    with pytest.raises(Forged, match="more than one item in a bin"):
        attacked.run(turn)
    assert any(isinstance(message, CorrectionsProof) for _, message in attacked.said)
    assert not any(isinstance(message, Values) for _, message in attacked.said)


def test_a_turned_bit_is_a_guess_of_one_bit_of_the_secret() -> None:
    """What the proof leaves to an asker: each bit of the secret that it wants to know ends every second session."""
    outcomes = set()
    for seed in range(6):
        cheating = pair(["a", "b"], ["b", "c"], str(seed).encode())
        secrets: list[bool] = []

        def turn(_side: int, message: Message) -> Message:
            if isinstance(message, Corrections) and message.batch == 0:
                other = cheating.states[1]  # noqa: B023  # called within this turn of the loop
                assert isinstance(other, AwaitingCorrections)
                secrets.append(bool(other.secret[100]))  # noqa: B023
                columns = np.frombuffer(message.rows, np.uint8).reshape(512, -1).copy()
                columns[100, 0] ^= 1
                return Corrections(0, columns.tobytes())
            return message

        try:
            cheating.run(turn)
        except Forged:
            assert secrets == [True]
        else:
            assert secrets == [False]
            assert cheating.learned[0] is not None
            assert list(cheating.learned[0]) == [1], "and it learns what it asked for"
        outcomes.add(secrets[0])
    assert outcomes == {False, True}


def test_the_other_owner_cannot_choose_where_identifiers_are_put() -> None:
    """Bins depend on what the asker offers once it has seen the other's salt."""
    sessions = set()
    for seed in (b"one", b"two"):
        sides = begin(ASKS, ["a"], SeededRng(b"salt 0")), begin(ANSWERS, ["a"], SeededRng(b"salt 1"))
        result = Pair(*sides, seed)
        seen: list[bytes] = []

        def note(_side: int, message: Message) -> Message:
            if isinstance(message, TransferChoices):
                state = result.states[0]  # noqa: B023
                assert isinstance(state, AwaitingChoices)
                seen.append(state.session)  # noqa: B023
            return message

        result.run(note)
        sessions.update(seen)
    assert len(sessions) == 2


def test_what_the_asker_sees_of_items_it_does_not_have_changes_with_every_session() -> None:
    """The same two sets, twice: no value of the second session was in the first, so nothing can be looked up."""
    seen = []
    for seed in (b"one", b"two"):
        said = pair(["a", "b"], ["a", "c"], seed).run().said
        encoded = b"".join(message.values for _, message in said if isinstance(message, Values))
        seen.append({encoded[at : at + 12] for at in range(0, len(encoded), 12)})
    assert len(seen[0]) == len(seen[1]) == 6
    assert not seen[0] & seen[1]


def test_guessing_is_bounded_by_what_the_other_accepts() -> None:
    """Whoever can list all identifiers can ask for all of them; the owner's limit is what stops it."""
    everybody = [f"{number:04d}" for number in range(3000)]
    assert pair(everybody, ["0815"]).run().learned[0] is not None, "without a limit a guess is answered"
    limited = begin(replace(ANSWERS, most=100), ["0815"], SeededRng(b""))
    with pytest.raises(Refused, match="brings 3000 identifiers; this one accepts 1 to 100"):
        Pair(begin(ASKS, everybody, SeededRng(b"")), limited).run()


@pytest.mark.parametrize("both_learn", [True, False])
def test_an_item_sent_twice_does_not_tell_whether_the_asker_has_it(both_learn: bool) -> None:
    """An asker that ended the session over a value it knows twice would tell the other that it has the item."""

    def twice(_side: int, message: Message) -> Message:
        if isinstance(message, Values):
            return msgspec.structs.replace(message, values=message.values[:12] * 3)
        return message

    for seed in range(3):
        for first in (["a", "b", "c"], ["d", "e", "f"]):
            result = pair(first, ["c", "b", "a"], str(seed).encode(), both_learn=both_learn).run(twice)
            assert result.learned[0] is not None
            assert len(result.learned[0]) == (1 if "a" in first else 0)
            if both_learn:
                assert result.learned[1] is not None
                assert len(result.learned[1]) == len(result.learned[0])


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("identifiers", "reason"),
    [
        ([], "takes 1 to"),
        (["a", ""], "the identifier of row 2 has 0 bytes"),
        (["a" * 257], "has 257 bytes"),
        (["secret-name", "b", "secret-name"], "1 identifiers occur more than once"),
    ],
)
def test_unusable_identifiers_are_refused_and_not_quoted(identifiers: list[str], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as refused:
        begin(ASKS, identifiers, SeededRng(b""))
    assert "secret-name" not in str(refused.value)


def opening(**changes: Any) -> IntersectionOpening:
    return msgspec.structs.replace(IntersectionOpening(SESSION, bytes(32), 3, asks=False, learns=True), **changes)


OPENINGS: dict[str, tuple[IntersectionOpening, type[KoinonError]]] = {
    "another occasion": (opening(session=bytes(32)), Refused),
    "both ask": (opening(asks=True), Refused),
    "who learns": (opening(learns=False), Refused),
    "nothing": (opening(count=0), Refused),
    "less than nothing": (opening(count=-5), Refused),
    "too many": (opening(count=2**40), Refused),
    "short salt": (opening(salt=b"salt"), Forged),
}


@pytest.mark.parametrize("name", OPENINGS)
def test_an_opening_that_does_not_fit_is_refused(name: str) -> None:
    message, kind = OPENINGS[name]
    with pytest.raises(kind):
        step(begin(ASKS, ["a"], SeededRng(b"")), Received(message), SeededRng(b""))


def test_a_reflected_opening_is_refused() -> None:
    side = begin(ASKS, ["a"], SeededRng(b""))
    with pytest.raises(Forged, match="salt"):
        step(side, Received(opening(salt=side.salt)), SeededRng(b""))


def shortened(message: Any) -> Any:
    return msgspec.structs.replace(message, rows=message.rows[:-64])


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


LIES: dict[str, tuple[type[Message], Any, type[KoinonError]]] = {
    "no point": (TransferOffer, lambda m: msgspec.structs.replace(m, sum=b"\x02" + b"\xff" * 32), Forged),
    "uncompressed point": (TransferOffer, lambda m: msgspec.structs.replace(m, power=b"\x04" + bytes(64)), Forged),
    "too few points": (TransferChoices, lambda m: TransferChoices(m.points[:-33]), Forged),
    "a point that is none": (TransferChoices, lambda m: TransferChoices(bytes(33) + m.points[33:]), Forged),
    "another batch": (Corrections, lambda m: msgspec.structs.replace(m, batch=1), MalformedMessage),
    "short rows": (Corrections, lambda m: msgspec.structs.replace(m, rows=m.rows[:-1]), MalformedMessage),
    "short masks": (Corrections, lambda m: shortened(m) if m.batch else m, MalformedMessage),
    "a short challenge": (CorrectionsChallenge, lambda m: CorrectionsChallenge(m.seed[:-1]), MalformedMessage),
    "a proof too short": (CorrectionsProof, lambda m: msgspec.structs.replace(m, messages=b""), Forged),
    "a proof too long": (CorrectionsProof, lambda m: msgspec.structs.replace(m, columns=m.columns * 2), Forged),
    "a proof of other rows": (CorrectionsProof, lambda m: CorrectionsProof(flipped(m.columns), m.messages), Forged),
    "a proof of other items": (CorrectionsProof, lambda m: CorrectionsProof(m.columns, flipped(m.messages)), Forged),
    "another choice": (Values, lambda m: msgspec.structs.replace(m, choice=m.choice + 1), MalformedMessage),
    "another place": (Values, lambda m: msgspec.structs.replace(m, first=7), MalformedMessage),
    "too many values": (Values, lambda m: msgspec.structs.replace(m, values=m.values + bytes(12)), MalformedMessage),
    "a place beyond": (Members, lambda _: Members((9).to_bytes(4, "little"), is_last=True), Forged),
    "a place twice": (Members, lambda _: Members((1).to_bytes(4, "little") * 2, is_last=True), Forged),
    "half a place": (Members, lambda _: Members(b"\0\0", is_last=True), MalformedMessage),
    "something else": (Members, lambda _: Done(), MalformedMessage),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_ends_the_session(name: str) -> None:
    kind, change, error = LIES[name]
    told = []

    def lie(_side: int, message: Message) -> Message:
        if isinstance(message, kind):
            told.append(message)
            return change(message)  # type: ignore[no-any-return]
        return message

    with pytest.raises(error):
        pair(["a", "b", "c"], ["c", "b", "a"]).run(lie)
    assert told


def test_the_point_that_would_tell_both_keys_is_refused() -> None:
    offer = oblivious_transfer.offer(SeededRng(b"offer"))
    with pytest.raises(Forged, match="both keys"):
        oblivious_transfer.keys_of(offer, offer.sum, 1, SESSION)


def test_messages_out_of_turn_change_nothing() -> None:
    side = begin(ASKS, ["a"], SeededRng(b""))
    for message in (Values(0, 0, b""), Members(b"", is_last=True), TransferOffer(b"", b""), Done()):
        with pytest.raises(MalformedMessage, match="is not due while Greeting"):
            step(side, Received(message), SeededRng(b""))


# ------------------------------------------------------------------------------------------------------- the parts


def test_a_receiver_of_transfers_gets_the_chosen_keys_only() -> None:
    rng = SeededRng(b"transfers")
    offer = oblivious_transfer.offer(rng)
    choices = [False, True, True, False, True]
    points, keys = oblivious_transfer.choose(offer.sum, offer.power, choices, SESSION, rng)
    pairs = oblivious_transfer.keys_of(offer, points, len(choices), SESSION)
    assert keys == [both[choice] for both, choice in zip(pairs, choices, strict=True)]
    assert len({key for both in pairs for key in both}) == 2 * len(choices)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_a_transpose_turns_every_bit(rows: int, width: int, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2, (8 * rows, 8 * width), np.uint8)
    turned = transposed(np.packbits(bits, axis=1, bitorder="little"))
    np.testing.assert_array_equal(np.unpackbits(turned, axis=1, bitorder="little"), bits.T)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_every_item_finds_one_of_its_bins(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    bins = bins_for(count)
    assert bins % 8 == 0
    choices = random.integers(0, bins, (count, 3))
    table, chosen = place(choices, bins, random)
    np.testing.assert_array_equal(table[choices[np.arange(count), chosen]], np.arange(count))
    assert (table != EMPTY).sum() == count


def test_the_generator_of_the_code_has_the_roots_that_make_its_words_differ() -> None:
    """Of 511 bits, with 170 powers of α in a row as roots: by the bound of Bose, Ray-Chaudhuri and Hocquenghem no word
    but zero has fewer than 171 bits, and a bit more makes every weight even.
    """
    polynomial = codes.generator()
    powers = [1]
    for _ in range(510):
        powers.append(powers[-1] << 1 ^ (0x211 if powers[-1] >> 8 else 0))
    assert len(set(powers)) == 511, "α is primitive"
    exponents = [exponent for exponent in range(polynomial.bit_length()) if polynomial >> exponent & 1]
    for root in range(1, 171):
        total = 0
        for exponent in exponents:
            total ^= powers[root * exponent % 511]
        assert total == 0
    assert polynomial.bit_length() - 1 + codes.MESSAGE_BITS == 511
    rows = codes.encoded(np.packbits(np.eye(76, 80, dtype=np.uint8), axis=1, bitorder="little"))
    for bit, row in enumerate(rows):
        word = int.from_bytes(row.tobytes(), "little")
        assert word & (1 << 511) - 1 == polynomial << bit
        assert word.bit_count() % 2 == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2**76 - 1), st.integers(0, 2**76 - 1))
def test_words_of_the_code_add_up_and_differ_in_172_places(difference: int, first: int) -> None:
    numbers = (first, first ^ difference, difference)
    messages = np.frombuffer(b"".join(n.to_bytes(10, "little") for n in numbers), np.uint8).reshape(3, 10)
    left, right, between = codes.encoded(messages)
    np.testing.assert_array_equal(left ^ right, between)
    assert np.bitwise_count(between).sum() >= codes.DISTANCE


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**32), st.integers(1, 40))
def test_hashes_of_columns_add_up_and_masks_hide_all_of_them(challenge: bytes, seed: int, width: int) -> None:
    random = np.random.default_rng(seed)
    first, second = (random.integers(0, 256, (2, 5, width)).astype(np.uint8) for _ in range(2))
    masks, others = random.integers(0, 256, (2, 5, 16)).astype(np.uint8)
    one, two = consistency.hashed(first, masks, challenge), consistency.hashed(second, others, challenge)
    np.testing.assert_array_equal(consistency.hashed(first ^ second, masks ^ others, challenge), one ^ two)
    np.testing.assert_array_equal(consistency.hashed(first, others, challenge) ^ one, masks ^ others)
    assert (consistency.hashed(first, masks, bytes(32)) != consistency.hashed(first[::-1], masks, bytes(32))).any()


def test_a_changed_bit_changes_a_hash_wherever_it_is() -> None:
    columns, masks = np.zeros((2, 1, 8 * 1024), np.uint8), np.zeros((1, 16), np.uint8)
    nothing = consistency.hashed(columns, masks, bytes(32))
    seen = {nothing.tobytes()}
    for batch, byte in ((0, 0), (0, 8191), (1, 0), (1, 4000)):
        changed = columns.copy()
        changed[batch, 0, byte] = 1
        seen.add(consistency.hashed(changed, masks, bytes(32)).tobytes())
    assert len(seen) == 5


def test_items_that_fit_nowhere_are_told() -> None:
    with pytest.raises(Unavailable, match="begin again"):
        place(np.zeros((3, 3), np.int64), 8, np.random.default_rng(1))


# ------------------------------------------------------------------------------------------------------- on a link


async def test_two_owners_over_a_link() -> None:
    rng = SystemRng()
    keys = [NodeKey.generate(rng), NodeKey.generate(rng)]
    first, second = [f"person {n}" for n in range(500)], [f"person {n}" for n in range(300, 900)]
    async with Transport.open(keys[0], "127.0.0.1", 0) as here, Transport.open(keys[1], "127.0.0.1", 0) as there:
        label = f"intersection {SESSION.hex()}"
        accepting = asyncio.create_task(there.accept_link(keys[0].node_id, label))
        links = (await here.link(there.endpoint, label), await accepting)
        sides = (begin(ASKS, first, rng), begin(ANSWERS, second, rng))
        mine, theirs = await asyncio.gather(
            *(intersect(link, side, rng, Seconds(120)) for link, side in zip(links, sides, strict=True))
        )
    assert [first[number] for number in mine] == first[300:]  # type: ignore[union-attr]
    assert [second[number] for number in theirs] == second[:200]  # type: ignore[union-attr]


class Silent:
    """A link whose other end takes everything and says what it is given to say, and then nothing."""

    def __init__(self, *frames: bytes) -> None:
        self.peer = NodeKey.from_seed(bytes(32)).node_id
        self._frames = list(frames)

    async def send(self, frame: bytes, /) -> None: ...

    async def receive(self) -> bytes:
        if not self._frames:
            await asyncio.Event().wait()
        return self._frames.pop(0)

    async def close(self) -> None: ...


async def test_a_silent_owner_holds_nobody_up() -> None:
    with pytest.raises(Expired, match="begin again with more time"):
        await intersect(Silent(), begin(ASKS, ["a"], SeededRng(b"")), SeededRng(b""), Seconds(0.05))


@pytest.mark.parametrize(
    "frame", [b"", b"\x0a", b"\xff\xff", b"\x0a\x01", b"\x0a\x01" + b"\xc1" * 50, b"\x0a\x04" + b"\0" * 40]
)
async def test_garbage_on_the_link_ends_the_session(frame: bytes) -> None:
    with pytest.raises(MalformedMessage):
        await intersect(Silent(frame), begin(ASKS, ["a"], SeededRng(b"")), SeededRng(b""), Seconds(60))
