"""The result party's side: four packages, at most one of them from a liar, become the declared output.

Each component is held by three positions. Each component has a digest under a salt that only its holders can make, so
that the one position that lacks it cannot test guesses; Keccak-256 of the four digests is the ``output digest`` that
all four sign for the chain before anything is opened.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np

from koinon.crypto.hash import keccak256, tagged_hash
from koinon.kernel.errors import Forged, MalformedMessage, ProtocolAbort
from koinon.kernel.ids import Hash32
from koinon.wire.committee import POSITIONS, Four, OutputComponent, OutputPackage

SALT_BYTES: Final = 32
_COMPONENT_DOMAIN: Final = "koinon/rep4/output-component/1"
_SALT_DOMAIN: Final = "koinon/rep4/output-salt/1"
_WORD_BYTES: Final = 8
_MOST_OUTPUTS: Final = 1 << 22
_LARGEST_FRACTION: Final = 62

_Stated = TypeVar("_Stated")


def output_salt(component_key: bytes, session: bytes) -> bytes:
    """The salt of a component's digest: known to exactly those who know the component's key."""
    return tagged_hash(_SALT_DOMAIN, component_key, session)


def component_digest(session: bytes, index: int, values: bytes, salt: bytes) -> Hash32:
    """Digest of one output component, its words little-endian."""
    return tagged_hash(_COMPONENT_DOMAIN, session, bytes([index]), salt, values)


def output_digest(digests: Four) -> Hash32:
    """What the committee signs for the chain: Keccak-256 of the four component digests, one after the other."""
    return keccak256(b"".join(digests))


def handed_digests(package: OutputPackage) -> tuple[Hash32, Hash32, Hash32]:
    """Digests of the components that a package holds, as its author signs them; not of those that were agreed on.

    Raises:
        MalformedMessage: they are not the three components of the package's position, in their order.
    """
    if [share.index for share in package.components] != [j for j in POSITIONS if j != package.position]:
        raise MalformedMessage("an output package holds the three components of its position, in their order")
    first, second, third = (_digest(package.session, share) for share in package.components)
    return first, second, third


def public_package(
    session: bytes, position: int, words: np.ndarray, fraction_bits: int, secret: bytes
) -> tuple[OutputPackage, Hash32]:
    """The package and the output digest of an engine whose four members all know the output.

    The words (count,) are the first component and the others are zero; so the same three signatures release the escrow,
    and the result party opens it as it opens any other.

    Args:
        secret: what the four know and nobody else can guess, so that the digest on the chain does not let strangers
            test guesses of the output.
    """
    zeros = bytes(words.size * _WORD_BYTES)
    values = {j: np.ascontiguousarray(words, "<u8").tobytes() if j == 0 else zeros for j in POSITIONS}
    salts = {j: output_salt(tagged_hash(_SALT_DOMAIN, secret, bytes([j])), session) for j in POSITIONS}
    zeroth, first, second, third = (component_digest(session, j, values[j], salts[j]) for j in POSITIONS)
    digests = (zeroth, first, second, third)
    one, two, three = (OutputComponent(j, values[j], salts[j]) for j in POSITIONS if j != position)
    package = OutputPackage(session, position, words.size, fraction_bits, (one, two, three), digests)
    return package, output_digest(digests)


def reconstruct(
    packages: Sequence[OutputPackage], session: bytes, agreed: bytes | None = None
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Join the packages of the four positions into numbers; see ``reconstruct_words``.

    Returns:
        The output as float64 (count,), and the positions whose packages contradict what was opened.
    """
    words, fraction_bits, liars = reconstruct_words(packages, session, agreed)
    return words.view(np.int64) / 2.0**fraction_bits, liars


def reconstruct_words(
    packages: Sequence[OutputPackage], session: bytes, agreed: bytes | None = None
) -> tuple[np.ndarray, int, tuple[int, ...]]:
    """Join the packages of the four positions.

    Args:
        packages: one per position, as far as they arrived; four are wanted, three suffice if none of them lies or if
            ``agreed`` is given.
        session: of the run.
        agreed: the output digest that the chain holds, if it is known; then one right holder of a component suffices.

    Returns:
        The output as words (count,) of uint64, their fraction bits, and the positions whose packages contradict what
        was opened.

    Raises:
        MalformedMessage: packages of another session, of one position twice, or of sizes that do not agree by majority.
        Forged: nothing that was sent matches ``agreed``.
        ProtocolAbort: fewer than two holders of a component agree and no agreed digest settles it.
    """
    positions = [package.position for package in packages]
    if any(position not in POSITIONS for position in positions) or len(set(positions)) != len(positions):
        raise MalformedMessage("output packages must come from different positions 0 to 3")
    form = _majority([(package.count, package.fraction_bits) for package in packages])
    if form is None or not (0 < form[0] <= _MOST_OUTPUTS and 0 <= form[1] <= _LARGEST_FRACTION):
        raise MalformedMessage("the output packages do not agree on what they hold; ask the committee again")
    count, fraction_bits = form
    sound = [package for package in packages if _is_sound(package, session, count, fraction_bits)]
    digests = _agreed_digests(sound, agreed)
    total = np.zeros(count, np.uint64)
    for index in POSITIONS:
        total += np.frombuffer(_component(sound, session, index, digests), "<u8")
    liars = {package.position for package in packages if package not in sound}
    liars |= {package.position for package in sound if package.digests != digests}
    for package in sound:
        if any(_digest(session, share) != digests[share.index] for share in package.components):
            liars.add(package.position)
    return total, fraction_bits, tuple(sorted(liars))


def _agreed_digests(packages: Sequence[OutputPackage], agreed: bytes | None) -> Four:
    if agreed is not None:
        for package in packages:
            if output_digest(package.digests) == agreed:
                return package.digests
        raise Forged("no output package matches the digest that the committee signed")
    chosen = _majority([package.digests for package in packages])
    if chosen is None:
        raise ProtocolAbort("no two positions state the same output digests", [p.position for p in packages])
    return chosen


def _component(packages: Sequence[OutputPackage], session: bytes, index: int, digests: Four) -> bytes:
    for package in packages:
        for share in package.components:
            if share.index == index and _digest(session, share) == digests[index]:
                return share.values
    holders = [package.position for package in packages if package.position != index]
    raise ProtocolAbort(f"no holder opened component {index} of the output", holders)


def _digest(session: bytes, share: OutputComponent) -> Hash32:
    return component_digest(session, share.index, share.values, share.salt)


def _is_sound(package: OutputPackage, session: bytes, count: int, fraction_bits: int) -> bool:
    expected = tuple(j for j in POSITIONS if j != package.position)
    return (
        package.session == session
        and (package.count, package.fraction_bits) == (count, fraction_bits)
        and tuple(share.index for share in package.components) == expected
        and all(len(share.values) == count * _WORD_BYTES for share in package.components)
        and all(len(share.salt) == SALT_BYTES for share in package.components)
        and all(len(digest) == 32 for digest in package.digests)
    )


def _majority(values: Sequence[_Stated]) -> _Stated | None:
    for value in values:
        if sum(other == value for other in values) >= 2:
            return value
    return None
