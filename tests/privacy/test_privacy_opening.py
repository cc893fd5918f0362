"""The result party: one liar, one absentee, an agreed digest."""

from itertools import combinations

import msgspec
import numpy as np
import pytest

from koinon.kernel.errors import Forged, KoinonError, MalformedMessage, ProtocolAbort
from koinon.privacy.opening import component_digest, output_digest, reconstruct
from koinon.privacy.rep4.adversary import SeededRng
from koinon.wire.committee import POSITIONS, Four, OutputComponent, OutputPackage

SESSION = bytes([5]) * 32
NUMBERS = np.array([1.5, -2.25, 0.0, 1000.0])
BITS = 20


def packages() -> tuple[list[OutputPackage], bytes]:
    rng = SeededRng(b"opening")
    words = np.round(NUMBERS * 2.0**BITS).astype(np.int64).view(np.uint64)
    components = [np.frombuffer(rng.bytes(words.nbytes), np.uint64) for _ in range(3)]
    components.append(words - components[0] - components[1] - components[2])
    shares = [OutputComponent(j, components[j].astype("<u8").tobytes(), rng.bytes(32)) for j in POSITIONS]
    zeroth, first, second, third = (component_digest(SESSION, s.index, s.values, s.salt) for s in shares)
    digests: Four = (zeroth, first, second, third)

    def package(position: int) -> OutputPackage:
        one, two, three = (share for share in shares if share.index != position)
        return OutputPackage(SESSION, position, len(words), BITS, (one, two, three), digests)

    return [package(i) for i in POSITIONS], output_digest(digests)


def lying(package: OutputPackage, place: int) -> OutputPackage:
    """A consistent lie: another value, and the digest that fits it."""
    share = package.components[place]
    other = msgspec.structs.replace(share, values=bytes(len(share.values)))
    components = list(package.components)
    components[place] = other
    digests = list(package.digests)
    digests[share.index] = component_digest(SESSION, other.index, other.values, other.salt)
    return msgspec.structs.replace(package, components=tuple(components), digests=tuple(digests))


def test_four_honest_packages() -> None:
    sent, agreed = packages()
    for known in (None, agreed):
        values, liars = reconstruct(sent, SESSION, known)
        assert (values == NUMBERS).all()
        assert liars == ()


@pytest.mark.parametrize("liar", POSITIONS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_liar_is_outvoted_and_named(liar: int, place: int) -> None:
    sent, agreed = packages()
    sent[liar] = lying(sent[liar], place)
    for known in (None, agreed):
        values, liars = reconstruct(sent, SESSION, known)
        assert (values == NUMBERS).all()
        assert liars == (liar,)


@pytest.mark.parametrize("liar", POSITIONS)
def test_a_liar_that_leaves_its_digests_alone_is_named_too(liar: int) -> None:
    sent, _ = packages()
    digests = sent[liar].digests
    sent[liar] = msgspec.structs.replace(lying(sent[liar], 1), digests=digests)
    values, liars = reconstruct(sent, SESSION)
    assert (values == NUMBERS).all()
    assert liars == (liar,)


@pytest.mark.parametrize("absent", POSITIONS)
def test_any_three_suffice(absent: int) -> None:
    sent, _ = packages()
    del sent[absent]
    values, liars = reconstruct(sent, SESSION)
    assert (values == NUMBERS).all()
    assert liars == ()


def test_two_suffice_with_the_agreed_digest_alone() -> None:
    sent, agreed = packages()
    for pair in combinations(sent, 2):
        values, _ = reconstruct(list(pair), SESSION, agreed)
        assert (values == NUMBERS).all()
    with pytest.raises(ProtocolAbort, match="component 0"):
        reconstruct([sent[0], lying(sent[1], 0)], SESSION, agreed)


def test_nothing_is_opened_against_the_agreed_digest() -> None:
    sent, _ = packages()
    with pytest.raises(Forged, match="committee signed"):
        reconstruct(sent, SESSION, bytes(32))


BAD_PACKAGES = {
    "twice the same position": lambda p: [p[0], p[0], p[1]],
    "a position that does not exist": lambda p: [msgspec.structs.replace(p[0], position=7), p[1], p[2]],
    "none": lambda p: p[:0],
    "one": lambda p: p[:1],
    "all of another session": lambda p: [msgspec.structs.replace(each, session=bytes(32)) for each in p],
    "a count that is too large": lambda p: [msgspec.structs.replace(each, count=2**40) for each in p],
    "a negative count": lambda p: [msgspec.structs.replace(each, count=-1) for each in p],
    "impossible fraction bits": lambda p: [msgspec.structs.replace(each, fraction_bits=4000) for each in p],
}


@pytest.mark.parametrize("case", BAD_PACKAGES)
def test_unusable_packages_give_a_clear_error(case: str) -> None:
    sent, _ = packages()
    with pytest.raises(KoinonError):
        reconstruct(BAD_PACKAGES[case](sent), SESSION)


DEVIATIONS = {
    "another session": {"session": bytes(32)},
    "another count": {"count": 3},
    "other fraction bits": {"fraction_bits": 19},
    "short digest": {"digests": (b"", b"", b"", b"")},
    "no components": {"components": (OutputComponent(0, b"", b""),) * 3},
}


@pytest.mark.parametrize("case", DEVIATIONS)
def test_one_misshapen_package_is_named_and_ignored(case: str) -> None:
    sent, agreed = packages()
    sent[2] = msgspec.structs.replace(sent[2], **DEVIATIONS[case])
    for known in (None, agreed):
        values, liars = reconstruct(sent, SESSION, known)
        assert (values == NUMBERS).all()
        assert liars == (2,)


def test_two_positions_disagreeing_is_an_error() -> None:
    sent, _ = packages()
    with pytest.raises((ProtocolAbort, MalformedMessage)):
        reconstruct([sent[0], lying(sent[1], 0)], SESSION)
