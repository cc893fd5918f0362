"""One party of the four, without any input or output: it turns a round into at most one frame per peer and consumes
exactly one frame from each peer it expects one from.

A protocol is a generator over a Party. It queues joint messages (``joint``), announcements (``tell``, ``hear``) and
yields; the driver then moves the frames:

    next(protocol); frames = party.send_frames(); …; party.receive_frames(received)

Every check of a round is made in that very round, before anything more is sent (``REP4-SAME-ROUND``): a joint message
is a value from its sender and a 32-byte hash from its backup in one round. Checking later would let one party learn
secrets from another's next message (ePrint 2026/234).

A frame ends with its sender's seal: the heads of the chains of all it sent, signed once a round (``REP4-SEAL``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from struct import Struct
from typing import Any, Final

import numpy as np
from blake3 import blake3
from msgspec import structs

from koinon.crypto.hash import tagged_hash
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import Forged, MalformedMessage
from koinon.privacy.rep4 import abort
from koinon.privacy.rep4.abort import CommitteeAbort
from koinon.privacy.rep4.seals import (
    HASH_BYTES,
    SEAL_BYTES,
    Heads,
    announced,
    chained,
    covers,
    head_in,
    packed,
    place_of,
    seal,
    sealed_by,
    unpacked,
)
from koinon.privacy.rep4.signing import Signatures
from koinon.privacy.rep4.streams import Tape
from koinon.privacy.rep4.transcript import Transcript
from koinon.wire.committee import (
    NOBODY,
    POSITIONS,
    Complaint,
    FrameDigests,
    OpenedFrame,
    PairEvidence,
    RouteDigest,
    Seal,
    SealedFrame,
)

HEADER: Final = Struct("<4sBBHIQ")
MAGIC: Final = b"rep4"
DATA, COMPLAINT = 1, 2
LONGEST_COMPLAINT: Final = 1024
COMPLAINT_DOMAIN: Final = "koinon/rep4/complaint/1"
_HASH_DOMAIN: Final = "koinon rep4 joint message 2"
_HASH_KEY_DOMAIN: Final = "koinon/rep4/joint-message-key/1"
_JOINED_BYTES: Final = 64 * 1024
"""Up to here it is cheaper to copy values together than to hash them one by one."""
_ALL_POSITIONS: Final = sum(POSITIONS)
KEY_ROUNDS: Final = 4
"""The first rounds: whoever stops in them has sent nothing that the component keys protect."""
_LONGEST_ANNOUNCED: Final = 8192

Path = tuple[int, int, int]
"""(sender, backup, receiver) of joint messages."""


class JointMessage:
    """A value known to the sender and the backup of ``path`` on its way to the receiver, who gets it in ``value``."""

    __slots__ = ("path", "value")

    def __init__(self, path: Path, value: np.ndarray) -> None:
        self.path = path
        self.value = value

    @property
    def sender(self) -> int:
        return self.path[0]

    @property
    def receiver(self) -> int:
        return self.path[2]


@dataclass(slots=True)
class Announcement:
    """Bytes of agreed length from one party to another; whoever hears them finds them in ``content``."""

    sender: int
    receiver: int
    length: int
    content: bytes = b""


@dataclass(slots=True)
class Frame:
    """A frame before it is bytes: values, then announcements, then hashes of backed-up values; the seal comes last.

    ``sent`` are the digests of the values by route, ``hashes`` those that back up another's values.
    """

    round: int
    values: list[np.ndarray] = field(default_factory=list)
    announcements: list[bytes] = field(default_factory=list)
    sent: list[RouteDigest] = field(default_factory=list)
    hashes: list[RouteDigest] = field(default_factory=list)

    def digests(self) -> FrameDigests:
        return FrameDigests(tuple(self.sent), announced(self.announcements), tuple(self.hashes))

    def encoded(self, sealed: bytes) -> bytes:
        others = [*self.announcements, *[backed.digest for backed in self.hashes], sealed]
        length = sum([value.nbytes for value in self.values]) + sum(map(len, others))
        return b"".join(
            [HEADER.pack(MAGIC, DATA, 0, 0, self.round, length), *[value.data for value in self.values], *others]
        )


@dataclass(slots=True)
class _Received:
    """What a peer's frame said, besides the values: hashes of others' values, and its seal, as it came."""

    hashes: list[RouteDigest]
    announcements: list[bytes]
    sealed: bytes


@dataclass(slots=True)
class _Due:
    """What this round's frame from one peer holds, in its order."""

    messages: list[JointMessage] = field(default_factory=list)
    announcements: list[Announcement] = field(default_factory=list)
    backed: list[Path] = field(default_factory=list)

    def length(self) -> int:
        values = sum([message.value.nbytes for message in self.messages])
        return values + sum([each.length for each in self.announcements]) + HASH_BYTES * len(self.backed) + SEAL_BYTES


class Party:
    """State of one position in one session.

    Attributes:
        position: 0 to 3.
        session: 32 bytes all four agreed on; every hash and signature is bound to it.
        signatures: of this session.
        round: number of the current round.
        keys: secret kⱼ for every component j this position holds; empty before key agreement.
        sent, received: BLAKE3 chain heads of the frames to and from each peer.
        bytes_sent: in data frames.
        transcript: where everything this party receives is kept for a judge, if it is kept.
        told, heard_from: frames with announcements by peer, of the last round that had any.
        agreed: those of the rounds in which nothing had been protected by the keys yet.
    """

    def __init__(
        self, position: int, session: bytes, signatures: Signatures, transcript: Transcript | None = None
    ) -> None:
        self.position = position
        self.peers = tuple(peer for peer in POSITIONS if peer != position)
        self.session = session
        self.signatures = signatures
        self.transcript = transcript
        self.round = 0
        self.keys: dict[int, bytes] = {}
        self.sent = dict.fromkeys(self.peers, bytes(HASH_BYTES))
        self.received = dict.fromkeys(self.peers, bytes(HASH_BYTES))
        self.bytes_sent = 0
        self.told: dict[int, OpenedFrame] = {}
        self.heard_from: dict[int, OpenedFrame] = {}
        self._sealed: dict[int, tuple[int, bytes]] = {}
        self.agreed: list[OpenedFrame] = []
        self._tapes: dict[int, Tape] = {}
        self._joint: list[JointMessage] = []
        self._announcements: list[Announcement] = []
        self._heard: list[Announcement] = []

    def __repr__(self) -> str:
        return f"Party({self.position}, round {self.round})"

    # What a protocol uses.

    def install_keys(self, keys: Mapping[int, bytes]) -> None:
        """Use these component keys from now on; each key must be installed once only, as its nonces count from 0."""
        if self.keys:
            raise ValueError("the keys of a session are installed once")
        self.keys = dict(keys)
        self._tapes = {j: Tape(secret) for j, secret in keys.items()}
        self._hash_keys = {j: tagged_hash(_HASH_KEY_DOMAIN, secret) for j, secret in keys.items()}

    def draw(self, index: int, shape: tuple[int, ...], dtype: Any = np.uint64) -> np.ndarray | None:
        """Words that all holders of component ``index`` draw alike; None at the one position that must not.

        All holders must call this in the same order, with the same shapes and types.
        """
        if index == self.position:
            return None
        return self._tapes[index].draw(shape, dtype)

    def joint(
        self, sender: int, backup: int, receiver: int, value: np.ndarray | None, shape: tuple[int, ...], dtype: Any
    ) -> np.ndarray | None:
        """Send a value that ``sender`` and ``backup`` both know to ``receiver``, checked in this round.

        Returns:
            The value at sender and backup; at the receiver an array that holds it after the round; None outside.
        """
        position, path = self.position, (sender, backup, receiver)
        if position not in path:
            return None
        if position == receiver:
            held = np.empty(shape, dtype)
        else:
            if value is None:
                raise ValueError(f"position {self.position} must know what it sends or backs up")
            whole = value if value.shape == shape else np.broadcast_to(value, shape)
            held = np.ascontiguousarray(whole, dtype)
        self._joint.append(JointMessage(path, held))
        return held

    def tell(self, receiver: int, content: bytes) -> None:
        """Announce bytes to one peer in this round; their length must be what the peer expects."""
        self._announcements.append(Announcement(self.position, receiver, len(content), content))

    def hear(self, sender: int, length: int) -> Announcement:
        """Expect ``length`` bytes from one peer in this round."""
        expected = Announcement(sender, self.position, length)
        self._heard.append(expected)
        return expected

    # What a driver uses.

    def outgoing(self) -> list[JointMessage]:
        """The joint messages of this round that this party sends or backs up."""
        return [message for message in self._joint if self.position != message.receiver]

    def announcing(self) -> list[Announcement]:
        """The announcements of this round that this party makes."""
        return self._announcements

    def compose(self) -> dict[int, Frame]:
        """The frames of this round by peer; a peer to whom there is nothing to say gets none."""
        me = self.position
        frames = {peer: Frame(self.round) for peer in self.peers}
        for message in self._joint:
            sender, _, receiver = message.path
            if sender == me:
                frames[receiver].values.append(message.value)
        for announcement in self._announcements:
            frames[announcement.receiver].announcements.append(announcement.content)
        for path, values in self._values():
            sender, backup, receiver = path
            if receiver != me:
                frame, digest = frames[receiver], RouteDigest(sender, backup, receiver, self._digest(path, values))
                (frame.sent if sender == me else frame.hashes).append(digest)
        return {peer: each for peer, each in frames.items() if each.sent or each.hashes or each.announcements}

    def send_frames(self) -> dict[int, bytes]:
        """The frames of this round, entered in the chains, sealed and encoded."""
        frames, before = self.compose(), dict(self.sent)
        for peer, frame in frames.items():
            self.sent[peer] = chained(self.sent[peer], frame.digests())
        if not frames:
            return {}
        made = seal(self.signatures, self.session, self.position, self.round, self.heads())
        if self._announcements:
            self.told = {
                peer: OpenedFrame(
                    SealedFrame(made, before[peer], frame.digests()), peer, tuple(map(bytes, frame.announcements))
                )
                for peer, frame in frames.items()
                if frame.announcements
            }
            self._remember(self.told)
        sealed = packed(made)
        encoded = {peer: frame.encoded(sealed) for peer, frame in frames.items()}
        self.bytes_sent += sum(map(len, encoded.values()))
        return encoded

    def heads(self) -> Heads:
        """The heads of the chains of what this party sent, ascending by peer."""
        first, second, third = self.peers
        return self.sent[first], self.sent[second], self.sent[third]

    def expected(self) -> frozenset[int]:
        """The peers from whom this round needs a frame."""
        me, found = self.position, {each.sender for each in self._heard}
        for message in self._joint:
            if message.path[2] == me:
                found.update(message.path[:2])
        return frozenset(found)

    def receive_frames(self, frames: Mapping[int, bytes]) -> None:
        """Take the frames of this round, one from every expected peer, and check everything in them.

        Raises:
            CommitteeAbort: a frame is missing, malformed, or does not match its hash. Nothing may be sent afterwards
                but the complaint.
        """
        received: dict[int, _Received] = {}
        for peer, due in sorted(self._due().items()):
            frame = frames.get(peer)
            if frame is None:
                raise self.complain(abort.SILENCE, peer)
            received[peer] = self._take(peer, frame, due)
        self._check(received)
        if self.transcript is not None:
            self.transcript.keep({peer: frames[peer] for peer in received})
        self._joint.clear()
        self._heard.clear()
        self._announcements.clear()
        self.round += 1

    def check_seals(self) -> None:
        """Check that every peer signed its last frame to us, and with it all before: from here on our view is theirs.

        Raises:
            CommitteeAbort: one did not.
        """
        for peer, (number, sealed) in self._sealed.items():
            if not sealed_by(self.signatures, unpacked(sealed, self.session, peer, number)):
                raise self.complain(abort.MALFORMED, peer)

    def complain(self, reason: str, sender: int = NOBODY, backup: int = NOBODY) -> CommitteeAbort:
        """Our own signed complaint about a message to us, as the error to raise."""
        return self._signed(Complaint(self.session, self.round, reason, sender, backup, self.position, NOBODY, b""))

    def reject_input(self, number: int) -> CommitteeAbort:
        """Our own signed complaint about the owner of an input, as the error to raise."""
        return self._signed(
            Complaint(self.session, self.round, abort.BAD_INPUT, NOBODY, NOBODY, self.position, number, b"")
        )

    def heard(self, peer: int, frame: bytes) -> CommitteeAbort:
        """What to raise on a complaint frame that came from ``peer``: what it says, if its author signed it."""
        try:
            complaint = decode(Complaint, frame[HEADER.size :], limit=LONGEST_COMPLAINT)
            if not abort.is_possible(complaint, self.session):
                raise MalformedMessage("a complaint about something that cannot happen")
            self.signatures.check(complaint.receiver, COMPLAINT_DOMAIN, abort.statement(complaint), complaint.signature)
        except (MalformedMessage, Forged):
            return self.complain(abort.MALFORMED, peer)
        return CommitteeAbort(complaint, self.position)

    # Inside.

    def _signed(self, blank: Complaint) -> CommitteeAbort:
        signature = self.signatures.sign(COMPLAINT_DOMAIN, abort.statement(blank))
        return CommitteeAbort(structs.replace(blank, signature=signature), self.position)

    def _due(self) -> dict[int, _Due]:
        """What this round's frames hold, by the peers from whom one is needed."""
        me = self.position
        due: dict[int, _Due] = {}
        for message in self._joint:
            sender, backup, receiver = path = message.path
            if receiver == me:
                if sender not in due:
                    due[sender] = _Due()
                due[sender].messages.append(message)
                if backup not in due:
                    due[backup] = _Due()
                backed = due[backup].backed
                if path not in backed:
                    backed.append(path)
        for announcement in self._heard:
            due.setdefault(announcement.sender, _Due()).announcements.append(announcement)
        return due

    def _values(self) -> list[tuple[Path, list[np.ndarray]]]:
        """By route, in their order, what this party sends, backs up or was sent in this round."""
        routes: dict[Path, list[np.ndarray]] = {}
        for message in self._joint:
            if message.path in routes:
                routes[message.path].append(message.value)
            else:
                routes[message.path] = [message.value]
        return sorted(routes.items())

    def _digest(self, path: Path, values: list[np.ndarray]) -> bytes:
        """What a backup sends and both seal: a hash that only the three of the route can make (REP4-UNGUESSED).

        The fourth hears it within chain heads, and could otherwise test guesses of the values with it.
        """
        outsider = _ALL_POSITIONS - sum(path)
        start = self._hash_keys[outsider] + self.session + self.round.to_bytes(4, "little") + bytes(path)
        if sum([value.nbytes for value in values]) <= _JOINED_BYTES:
            whole = b"".join([start, *[value.data for value in values]])
            return blake3(whole, derive_key_context=_HASH_DOMAIN).digest()
        hasher = blake3(start, derive_key_context=_HASH_DOMAIN)
        for value in values:
            if value.size:
                hasher.update(value.reshape(-1).data.cast("B"))
        return hasher.digest()

    def _check(self, received: Mapping[int, _Received]) -> None:
        """Compare every value with its hash and every frame with its seal, and enter the frames in the chains."""
        to_me = [(path, values) for path, values in self._values() if path[2] == self.position]
        digests = [RouteDigest(*path, self._digest(path, values)) for path, values in to_me]
        previous = dict(self.received)
        frames = {
            peer: FrameDigests(
                tuple([each for each in digests if each.sender == peer]),
                announced(said.announcements),
                tuple(said.hashes),
            )
            for peer, said in received.items()
        }
        for peer, frame in frames.items():
            self.received[peer] = chained(previous[peer], frame)
        for mine in digests:
            if mine not in received[mine.backup].hashes:
                problem = self.complain(abort.MISMATCH, mine.sender, mine.backup)
                pair = [
                    SealedFrame(unpacked(received[p].sealed, self.session, p, self.round), previous[p], frames[p])
                    for p in (mine.sender, mine.backup)
                ]
                if all(self._is_sealed(each.seal) for each in pair):
                    problem.evidence = PairEvidence(problem.complaint, *pair)
                raise problem
        for peer, said in received.items():
            if head_in(said.sealed, place_of(peer, self.position)) != self.received[peer]:
                raise self.complain(abort.MALFORMED, peer)
            self._sealed[peer] = self.round, said.sealed
        spoken = {
            peer: OpenedFrame(
                SealedFrame(unpacked(said.sealed, self.session, peer, self.round), previous[peer], frames[peer]),
                self.position,
                tuple(said.announcements),
            )
            for peer, said in received.items()
            if said.announcements
        }
        if spoken:
            self.heard_from = spoken
            self._remember(spoken)

    def _is_sealed(self, sealed: Seal) -> bool:
        """Whether a peer signed the chain of frames as we received it."""
        ours = self.received[sealed.position]
        return sealed.sent[place_of(sealed.position, self.position)] == ours and sealed_by(self.signatures, sealed)

    def _remember(self, frames: Mapping[int, OpenedFrame]) -> None:
        if self.round < KEY_ROUNDS:
            self.agreed.extend(frames.values())

    def _take(self, peer: int, frame: bytes, due: _Due) -> _Received:
        length = due.length()
        header = HEADER.pack(MAGIC, DATA, 0, 0, self.round, length)
        if len(frame) != HEADER.size + length or frame[: HEADER.size] != header:
            raise self._misshapen(peer, frame, due)
        room, offset = memoryview(frame), HEADER.size
        for message in due.messages:
            size = message.value.nbytes
            if size:
                message.value.data.cast("B")[:] = room[offset : offset + size]
            offset += size
        heard = []
        for announcement in due.announcements:
            announcement.content = bytes(room[offset : offset + announcement.length])
            heard.append(announcement.content)
            offset += announcement.length
        hashes = []
        for path in sorted(due.backed):
            hashes.append(RouteDigest(*path, bytes(room[offset : offset + HASH_BYTES])))
            offset += HASH_BYTES
        return _Received(hashes, heard, frame[offset:])

    def _misshapen(self, peer: int, frame: bytes, due: _Due) -> CommitteeAbort:
        """The complaint about a frame of another form; with the frame, where its author sealed what it announced."""
        problem = self.complain(abort.MALFORMED, peer)
        end = len(frame) - SEAL_BYTES
        if due.messages or due.backed or end < HEADER.size or len(frame) > _LONGEST_ANNOUNCED:
            return problem
        made = unpacked(frame[end:], self.session, peer, self.round)
        excess = end - HEADER.size - sum(each.length for each in due.announcements)
        for place in range(len(due.announcements)):
            lengths = [each.length + excess * (at == place) for at, each in enumerate(due.announcements)]
            cuts = [HEADER.size + sum(lengths[:at]) for at in range(len(lengths) + 1)]
            contents = tuple(frame[a:b] for a, b in pairwise(cuts))
            sealed = SealedFrame(made, self.received[peer], FrameDigests((), announced(contents), ()))
            if lengths[place] >= 0 and covers(sealed, self.position) and sealed_by(self.signatures, made):
                problem.frames = (OpenedFrame(sealed, self.position, contents),)
        return problem


def complaint_frame(complaint: Complaint) -> bytes:
    """A signed complaint as a frame; relayed unchanged, so that only its author can be held to it."""
    body = encode(complaint)
    return HEADER.pack(MAGIC, COMPLAINT, 0, 0, complaint.round, len(body)) + body


def is_complaint(frame: bytes) -> bool:
    """Whether a frame claims to be a complaint; ``Party.heard`` judges it."""
    return frame[:5] == MAGIC + bytes([COMPLAINT])
