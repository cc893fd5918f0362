"""One attempt of one study, seen from a committee member's seat, and who may say what to it."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from koinon.jobs import member
from koinon.jobs.sessions import study_key
from koinon.jobs.study import StudyFile
from koinon.kernel.errors import Refused
from koinon.kernel.ids import Address, NodeId
from koinon.kernel.quantities import Seconds
from koinon.wire.committee import Run, ShareManifest

TICK_SECONDS: Final = 0.5
CALL_SECONDS: Final = Seconds(10.0)

FromPeer = member.PeerGreeted | member.SharesArrived


@dataclass
class Seat:
    """One attempt of one study, seen from this node's seat; it lives as long as the attempt."""

    state: member.MemberState
    study: StudyFile
    session: bytes
    accounts: tuple[Address, ...]
    run_seconds: float
    events: "asyncio.Queue[member.MemberEvent]" = field(default_factory=asyncio.Queue)
    to_worker: "asyncio.Queue[Run]" = field(default_factory=asyncio.Queue)
    worker: "asyncio.Task[None] | None" = None
    stage: str = ""


def manifests(seat: Seat) -> tuple[ShareManifest, ...]:
    """The owners' that all four compared, in the study's order."""
    return tuple(shares.manifest for _, shares in sorted(seat.state.packages, key=lambda entry: entry[0]))


def size_of(event: FromPeer) -> int:
    if not isinstance(event, member.SharesArrived):
        return 0
    package = event.shares.package
    return len(event.shares.sealed) + sum(len(one.value) for one in (package.components if package else ()))


def check_sender(seat: Seat, event: FromPeer | member.SignatureArrived, sender: NodeId) -> None:
    """Greetings and signatures come from the node drawn for the seat, shares from the owner of that number.

    Raises Refused.
    """
    if not isinstance(event, member.SharesArrived):
        seats = seat.state.members
        if not 0 <= event.position < len(seats) or seats[event.position] != sender:
            raise Refused("this is not from the node that was drawn for that seat")
        return
    owners = seat.study.owners
    if not 0 <= event.owner < len(owners) or owners[event.owner].node_id != sender:
        raise Refused("the shares are not from the data owner of that number")
    manifest = event.shares.manifest
    if manifest.study != study_key(seat.study, seat.state.study) or manifest.attempt != seat.state.attempt:
        raise Refused("the manifest is of another study or attempt")
