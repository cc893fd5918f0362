"""The first four rounds: agree on what is run, and on the component keys (REP4-KEYS).

Key kⱼ is known to every position but j. Each of its three holders commits to 32 random bytes, all open them to each
other, and kⱼ is the hash of the session and the three; so no holder can choose it, and position j sees nothing of it.
Every pair of holders then confirms that both derived the same key, and acknowledges by its seal what it was opened.

Who stops here has sent nothing that a key protects, so it can show what it was told (``testimony``): put together,
that names whoever contradicted itself (``contradiction``).
"""

from collections.abc import Generator, Mapping
from typing import Final

from msgspec import structs

from koinon.crypto.commitment import SALT_BYTES, check, commit
from koinon.crypto.hash import tagged_hash
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged
from koinon.privacy.rep4 import abort
from koinon.privacy.rep4.abort import CommitteeAbort
from koinon.privacy.rep4.party import Announcement, Party
from koinon.privacy.rep4.seals import SEAL_BYTES, packed, sealed_by, unpacked
from koinon.privacy.rep4.signing import SIGNATURE_BYTES, Checks
from koinon.wire.committee import POSITIONS, OpenedFrame, Seal

SESSION_ROUND, COMMITMENT_ROUND, OPENING_ROUND, CONFIRMATION_ROUND = range(4)
AGREEMENT_DOMAIN: Final = "koinon/rep4/agreement/1"
_CONTRIBUTION_DOMAIN: Final = "koinon/rep4/key-contribution/1"
_KEY_DOMAIN: Final = "koinon/rep4/component-key/1"
_CONFIRMATION_DOMAIN: Final = "koinon/rep4/key-confirmation/1"
_HASH: Final = 32
_CONTRIBUTION: Final = 32
OPENING_BYTES: Final = _CONTRIBUTION + SALT_BYTES
_ACKNOWLEDGEMENT: Final = 3 * SEAL_BYTES
LENGTHS: Final = (
    (_HASH + SIGNATURE_BYTES,),
    (_HASH, _HASH),
    (OPENING_BYTES, OPENING_BYTES),
    (_HASH, _HASH, _ACKNOWLEDGEMENT),
)
"""Of the announcements of each round; where there are two or more, the first two are about the two components that
both hold, ascending."""


def agree(party: Party, rng: Rng) -> Generator[None, None, None]:
    """Compare sessions, then make and install the component keys: four rounds, about a kilobyte per peer.

    Raises:
        CommitteeAbort: a peer means another session, opens something else than it committed to, or confirms another
            key. Nothing secret has been used by then.
    """
    yield from _compare_sessions(party)
    secrets = {j: (rng.bytes(_CONTRIBUTION), rng.bytes(SALT_BYTES)) for j in POSITIONS if j != party.position}

    commitments = {
        j: committed(party.session, party.position, j, secret + salt) for j, (secret, salt) in secrets.items()
    }
    for peer in party.peers:
        for j in shared(party.position, peer):
            party.tell(peer, commitments[j])
    promised = _heard(party, COMMITMENT_ROUND)
    yield
    commitment_frames = dict(party.heard_from)

    for peer in party.peers:
        for j in shared(party.position, peer):
            party.tell(peer, b"".join(secrets[j]))
    opened = _heard(party, OPENING_ROUND)
    yield

    contributions = {j: {party.position: secret} for j, (secret, _) in secrets.items()}
    for peer in party.peers:
        for place, j in enumerate(shared(party.position, peer)):
            opening = opened[peer][place].content
            if not is_opening(party.session, peer, j, promised[peer][place].content, opening):
                frames = (showing(commitment_frames[peer], j), showing(party.heard_from[peer], j))
                raise _shown(party.complain(abort.INCONSISTENT, peer), *frames)
            contributions[j][peer] = opening[:_CONTRIBUTION]
    keys = {j: component_key(party.session, j, given) for j, given in contributions.items()}
    yield from _confirm(party, keys)
    party.install_keys(keys)


def component_key(session: bytes, j: int, contributions: Mapping[int, bytes]) -> bytes:
    """kⱼ of what its three holders contributed, by position."""
    return tagged_hash(_KEY_DOMAIN, session, bytes([j]), *(contributions[p] for p in sorted(contributions)))


def confirmation(session: bytes, key: bytes, j: int, position: int) -> bytes:
    """How ``position`` confirms that ``key`` is its kⱼ."""
    return tagged_hash(_CONFIRMATION_DOMAIN, session, key, bytes([j, position]))


def committed(session: bytes, position: int, j: int, opening: bytes) -> bytes:
    """The commitment of a position to what it will open of kⱼ, 64 bytes."""
    bound = _bound_to(session, position, j, opening[:_CONTRIBUTION])
    return commit(_CONTRIBUTION_DOMAIN, bound, opening[_CONTRIBUTION:])


def is_opening(session: bytes, position: int, j: int, commitment: bytes, opening: bytes) -> bool:
    """Whether a position's opening of its contribution to kⱼ, 64 bytes, is of its commitment."""
    bound = _bound_to(session, position, j, opening[:_CONTRIBUTION])
    try:
        check(commitment, _CONTRIBUTION_DOMAIN, bound, opening[_CONTRIBUTION:])
    except Forged:
        return False
    return True


def contribution_in(opening: bytes) -> bytes:
    """What an opening contributes to a key."""
    return opening[:_CONTRIBUTION]


def shared(position: int, peer: int) -> tuple[int, ...]:
    """The components whose keys both hold, ascending."""
    return tuple(j for j in POSITIONS if j not in (position, peer))


def acknowledged(session: bytes, position: int, content: bytes) -> dict[int, Seal]:
    """The seals of the openings that ``position`` says it received, by their authors; unchecked."""
    peers = [peer for peer in POSITIONS if peer != position]
    cut = [content[start : start + SEAL_BYTES] for start in range(0, _ACKNOWLEDGEMENT, SEAL_BYTES)]
    return {peer: unpacked(one, session, peer, OPENING_ROUND) for peer, one in zip(peers, cut, strict=True)}


def showing(frame: OpenedFrame, j: int) -> OpenedFrame:
    """The frame with what it says of kⱼ, and of no other key: what protects another key's holders is not shown."""
    shown = shared(frame.sealed.seal.position, frame.receiver)
    contents = [each if place >= len(shown) or shown[place] == j else None for place, each in enumerate(frame.contents)]
    return structs.replace(frame, contents=tuple(contents))


def testimony(party: Party, problem: CommitteeAbort) -> tuple[OpenedFrame, ...]:
    """What this party may show of a run that ended by ``problem``, its own or another's, to say who deviated.

    Frames about a key are shown if the complaint is about that key's three holders: whoever of them lied knows the key
    anyway, and if they are honest nothing was sent that it protects. That is so only before the first value is sent.
    """
    complaint = problem.complaint
    if problem.frames or party.round > CONFIRMATION_ROUND + 1:
        return problem.frames
    named = {complaint.sender, complaint.backup, complaint.receiver}
    if complaint.reason != abort.INCONSISTENT:
        return ()
    # A check is made when its round is over, so the complaint bears the number of the next.
    if complaint.round == SESSION_ROUND + 1:
        return tuple(
            _in_own_session(frame, party.signatures)
            for frame in party.agreed
            if frame.sealed.seal.round == SESSION_ROUND and frame.sealed.seal.position == complaint.sender
        )
    if complaint.round != CONFIRMATION_ROUND + 1 or not named <= set(POSITIONS) or party.position not in named:
        return ()
    (j,) = set(POSITIONS) - named
    return tuple(
        showing(frame, j)
        for frame in party.agreed
        if frame.sealed.seal.round != SESSION_ROUND and {frame.sealed.seal.position, frame.receiver} <= named
    )


def _compare_sessions(party: Party) -> Generator[None, None, None]:
    signature = party.signatures.sign(AGREEMENT_DOMAIN, party.session)
    for peer in party.peers:
        party.tell(peer, party.session + signature)
    meant = _heard(party, SESSION_ROUND)
    yield
    for peer, (announcement,) in meant.items():
        frame = party.heard_from[peer]
        if announcement.content[:_HASH] != party.session:
            raise _shown(party.complain(abort.INCONSISTENT, peer), _in_own_session(frame, party.signatures))
        try:
            party.signatures.check(peer, AGREEMENT_DOMAIN, party.session, announcement.content[_HASH:])
        except Forged:
            raise _shown(party.complain(abort.MALFORMED, peer), frame) from None


def _confirm(party: Party, keys: Mapping[int, bytes]) -> Generator[None, None, None]:
    seals = {peer: frame.sealed.seal for peer, frame in party.heard_from.items()}
    for peer, seal in seals.items():
        if not sealed_by(party.signatures, seal):
            raise party.complain(abort.MALFORMED, peer)
    acknowledgement = b"".join(packed(seals[peer]) for peer in sorted(seals))
    own = party.told[party.peers[0]].sealed.seal
    for peer in party.peers:
        for j in shared(party.position, peer):
            party.tell(peer, confirmation(party.session, keys[j], j, party.position))
        party.tell(peer, acknowledgement)
    confirmed = _heard(party, CONFIRMATION_ROUND)
    yield
    for peer in party.peers:
        *given, last = confirmed[peer]
        for author, seal in acknowledged(party.session, peer, last.content).items():
            mine = own if author == party.position else seals[author]
            # A judge that repeats this part has not its own signature, and checks that which the peer got.
            if seal != mine and not (seal.sent == mine.sent and sealed_by(party.signatures, seal)):
                raise _other_seal(party, peer, author, seal)
        for place, j in enumerate(shared(party.position, peer)):
            if given[place].content != confirmation(party.session, keys[j], j, peer):
                # The peer, or the third holder, who may have opened different contributions to the two of us.
                (third,) = set(POSITIONS) - {party.position, peer, j}
                raise party.complain(abort.INCONSISTENT, peer, third)


def _other_seal(party: Party, peer: int, author: int, seal: Seal) -> CommitteeAbort:
    """The peer acknowledges another seal than ours: its author sealed twice, or the peer made it up."""
    frame = party.heard_from[peer]
    if author == party.position or not sealed_by(party.signatures, seal):
        return _shown(party.complain(abort.INCONSISTENT, peer), frame)
    ours = next(
        one for one in party.agreed if (one.sealed.seal.position, one.sealed.seal.round) == (author, OPENING_ROUND)
    )
    return _shown(party.complain(abort.INCONSISTENT, author, peer), showing(ours, party.position), frame)


def _heard(party: Party, number: int) -> dict[int, list[Announcement]]:
    return {peer: [party.hear(peer, length) for length in LENGTHS[number]] for peer in party.peers}


def _shown(problem: CommitteeAbort, *frames: OpenedFrame) -> CommitteeAbort:
    problem.frames = frames
    return problem


def _in_own_session(frame: OpenedFrame, checks: Checks) -> OpenedFrame:
    """The first frame with its seal as its author signed it, who may mean another session than we do."""
    content, sealed = frame.contents[0], frame.sealed
    if content is None or sealed_by(checks, sealed.seal):
        return frame
    theirs = structs.replace(sealed.seal, session=content[:_HASH])
    return structs.replace(frame, sealed=structs.replace(sealed, seal=theirs)) if sealed_by(checks, theirs) else frame


def _bound_to(session: bytes, position: int, j: int, secret: bytes) -> bytes:
    return session + bytes([position, j]) + secret
