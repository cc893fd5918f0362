"""A committee member's side of one attempt of a study, as a pure step.

    drawn → worker listens → greet the three others → all greetings and every owner's package here → run → output or
    abort

Who is blamed: a lie inside the joint computation is reported by its receiver only (``Complain``; sender, backup and
receiver leave the study unpaid); a peer that is not there is challenged on the chain (``Challenge``) and loses
stake only if it stays silent there too. Silence between two nodes proves nothing by itself: the link may be at fault.
Where the silent one answers on the chain, its node lives and its worker did not: whoever missed it complains then, so
that others are drawn instead of everybody waiting for the deadline. Nobody loses stake by that.

Who is paid: members exchange their signatures on the output's digest first, and one that has three of them, which pay
everybody, hands its output to the result party. If that does not put them on the chain, the member does.
"""

from dataclasses import dataclass, replace
from typing import Final

from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import Seconds
from koinon.wire.committee import Input, OutputPackage, Peer


@dataclass(frozen=True)
class Waits:
    """How long a member waits for others, in whole seconds.

    Attributes:
        greeting_seconds: for the others' greetings, before it challenges those that are missing.
        shares_seconds: for the owners' packages; a missing owner ends the attempt at its deadline, nobody loses stake.
        silence_seconds: its worker for the frames of one round, before it reports their sender as silent.
        completion_seconds: for the result party to complete the study, before a member that has three signatures does.
    """

    greeting_seconds: int = 6
    shares_seconds: int = 30
    silence_seconds: int = 5
    completion_seconds: int = 20


@dataclass(frozen=True)
class MemberState:
    """One attempt of one study, from the seat ``position``.

    ``phase``: starting, gathering, running, done, aborted or left.
    """

    study: int
    attempt: int
    position: int
    members: tuple[NodeId, ...]
    owners: int
    started: Seconds
    waits: Waits = Waits()
    phase: str = "starting"
    own: Peer | None = None
    greetings: tuple[tuple[int, Peer], ...] = ()
    packages: tuple[tuple[int, Input], ...] = ()
    challenged: frozenset[int] = frozenset()
    missed: int | None = None
    """Whose frames this member's own worker waited for in vain."""
    finished: "WorkerFinished | None" = None
    signatures: "tuple[SignatureArrived, ...]" = ()
    """Of any members on the output's digest, this one's among them."""
    sent: Seconds | None = None
    """When the output was on its way to the result party, about."""


@dataclass(frozen=True)
class WorkerListening:
    greeting: Peer


@dataclass(frozen=True)
class PeerGreeted:
    """A greeting whose signature is that of the node drawn for ``position``."""

    position: int
    greeting: Peer


@dataclass(frozen=True)
class SharesArrived:
    """A package that came over ``owner``'s own authenticated connection."""

    owner: int
    shares: Input


@dataclass(frozen=True)
class WorkerFinished:
    output: OutputPackage
    output_digest: bytes


@dataclass(frozen=True)
class SignatureArrived:
    """A member's signature on the digest of its output; checked to be that of the seat's account."""

    position: int
    output_digest: bytes
    signature: bytes


@dataclass(frozen=True)
class WorkerAborted:
    """The worker stopped.

    ``receiver`` is the position that saw the deviation; None values where nothing names them.
    """

    reason: str
    suspects: frozenset[int]
    sender: int | None
    backup: int | None
    receiver: int | None


@dataclass(frozen=True)
class ChallengedOnChain:
    """Somebody asks this member, on the chain, whether it is alive."""


@dataclass(frozen=True)
class ChallengeAnswered:
    """The member at ``position``, challenged by this one, is alive."""

    position: int


@dataclass(frozen=True)
class Tick:
    now: Seconds


@dataclass(frozen=True)
class AttemptOver:
    """Another attempt was drawn, or the study ended: ``paid`` where three signatures ended it."""

    paid: bool = False


MemberEvent = (
    WorkerListening
    | PeerGreeted
    | SharesArrived
    | WorkerFinished
    | SignatureArrived
    | WorkerAborted
    | ChallengedOnChain
    | ChallengeAnswered
    | Tick
    | AttemptOver
)


@dataclass(frozen=True)
class StartWorker:
    pass


@dataclass(frozen=True)
class Greet:
    """Send the own greeting to the member at ``position``;

    the driver repeats until it is acknowledged or the attempt is over.
    """

    position: int
    greeting: Peer


@dataclass(frozen=True)
class RunWorker:
    """All is here: greetings by position, packages by owner."""

    greetings: tuple[Peer, ...]
    packages: tuple[Input, ...]


@dataclass(frozen=True)
class SignDigest:
    """Check that the output may leave, and sign its digest; the signature comes back as an event."""

    output: OutputPackage
    output_digest: bytes


@dataclass(frozen=True)
class SendSignature:
    """Tell the member at ``position``."""

    position: int
    output_digest: bytes
    signature: bytes


@dataclass(frozen=True)
class SendOutput:
    """Hand components and signature to the result party."""

    output: OutputPackage
    output_digest: bytes
    signature: bytes


@dataclass(frozen=True)
class Complete:
    """Put three members' signatures on the chain; ``signatures`` by position, empty where there is none."""

    output_digest: bytes
    signatures: tuple[bytes, ...]


@dataclass(frozen=True)
class Complain:
    """Name the sender of what was wrong or missing, and its backup where there is one."""

    sender: int
    backup: int | None


@dataclass(frozen=True)
class Challenge:
    position: int


@dataclass(frozen=True)
class AnswerChallenge:
    pass


@dataclass(frozen=True)
class StopWorker:
    pass


@dataclass(frozen=True)
class Say:
    """A sentence for this node's journal."""

    sentence: str


MemberEffect = (
    StartWorker
    | Greet
    | RunWorker
    | SignDigest
    | SendSignature
    | SendOutput
    | Complete
    | Complain
    | Challenge
    | AnswerChallenge
    | StopWorker
    | Say
)

SIGNATURES_NEEDED: Final = 3
"""On one digest, for the contract to pay everybody."""


def begin(
    study: int,
    attempt: int,
    position: int,
    members: tuple[NodeId, ...],
    owners: int,
    now: Seconds,
    waits: Waits = Waits(),
) -> tuple[MemberState, tuple[MemberEffect, ...]]:
    """Take the seat that the draw gave."""
    return MemberState(study, attempt, position, members, owners, now, waits), (StartWorker(),)


def step(state: MemberState, event: MemberEvent) -> tuple[MemberState, tuple[MemberEffect, ...]]:
    """Advance one attempt. What arrives twice counts once; what comes after the end changes nothing."""
    match event:
        case ChallengedOnChain():
            return state, (AnswerChallenge(),)
        case ChallengeAnswered():
            return state, _without(state, event.position)
        case AttemptOver():
            return _leave(state, event)
        case _ if state.phase in ("done", "aborted", "left"):
            return state, ()
        case WorkerListening() if state.phase == "starting":
            others = [position for position in range(len(state.members)) if position != state.position]
            greeted = replace(state, phase="gathering", own=event.greeting)
            return _run_if_complete(greeted, tuple(Greet(position, event.greeting) for position in others))
        case PeerGreeted() if event.position != state.position and event.position not in dict(state.greetings):
            return _run_if_complete(replace(state, greetings=(*state.greetings, (event.position, event.greeting))))
        case SharesArrived() if event.owner not in dict(state.packages) and 0 <= event.owner < state.owners:
            return _run_if_complete(replace(state, packages=(*state.packages, (event.owner, event.shares))))
        case WorkerFinished() if state.phase == "running":
            finished = replace(state, phase="signing", finished=event)
            return finished, (SignDigest(event.output, event.output_digest), StopWorker())
        case SignatureArrived() if event.position not in {one.position for one in state.signatures}:
            return _signed(replace(state, signatures=(*state.signatures, event)), event)
        case WorkerAborted() if state.finished is None:
            return _abort(state, event)
        case Tick() if state.phase == "gathering":
            return _missing(state, event.now)
        case Tick() if state.phase == "sending":
            return _completed_late(state, event.now)
    return state, ()


def _run_if_complete(
    state: MemberState, first: tuple[MemberEffect, ...] = ()
) -> tuple[MemberState, tuple[MemberEffect, ...]]:
    complete = len(state.greetings) == len(state.members) - 1 and len(state.packages) == state.owners
    if state.phase != "gathering" or state.own is None or not complete:
        return state, first
    greetings = {**dict(state.greetings), state.position: state.own}
    packages = dict(state.packages)
    run = RunWorker(
        tuple(greetings[position] for position in range(len(state.members))),
        tuple(packages[owner] for owner in range(state.owners)),
    )
    return replace(state, phase="running"), (*first, run)


def _agreeing(state: MemberState) -> dict[int, bytes]:
    """Signatures on this member's own digest, its own among them, by position."""
    assert state.finished is not None
    return {
        one.position: one.signature for one in state.signatures if one.output_digest == state.finished.output_digest
    }


def _signed(state: MemberState, event: SignatureArrived) -> tuple[MemberState, tuple[MemberEffect, ...]]:
    """The output goes to the result party only with three signatures in hand: nobody opens what nobody is paid for."""
    told: tuple[MemberEffect, ...] = ()
    if event.position == state.position:
        others = [position for position in range(len(state.members)) if position != state.position]
        told = tuple(SendSignature(position, event.output_digest, event.signature) for position in others)
    if state.phase != "signing" or state.finished is None:
        return state, told
    agreeing = _agreeing(state)
    if state.position not in agreeing or len(agreeing) < SIGNATURES_NEEDED:
        return state, told
    return replace(state, phase="sending"), (*told, _output_of(state, state.finished))


def _output_of(state: MemberState, finished: WorkerFinished) -> SendOutput:
    return SendOutput(finished.output, finished.output_digest, _agreeing(state)[state.position])


def _completed_late(state: MemberState, now: Seconds) -> tuple[MemberState, tuple[MemberEffect, ...]]:
    if state.sent is None:
        return replace(state, sent=now), ()
    if now - state.sent < state.waits.completion_seconds:
        return state, ()
    assert state.finished is not None
    agreeing = _agreeing(state)
    signatures = tuple(agreeing.get(position, b"") for position in range(len(state.members)))
    return replace(state, phase="done"), (
        Say("the result party has not completed the study; this member does"),
        Complete(state.finished.output_digest, signatures),
    )


def _leave(state: MemberState, event: AttemptOver) -> tuple[MemberState, tuple[MemberEffect, ...]]:
    left = replace(state, phase="left")
    if state.phase == "left":
        return left, ()
    if event.paid and state.phase == "signing" and state.finished is not None and state.position in _agreeing(state):
        # Paid by the others' signatures before this member had three: the result party is owed its output.
        return left, (_output_of(state, state.finished), StopWorker())
    return left, (StopWorker(),)


def _abort(state: MemberState, event: WorkerAborted) -> tuple[MemberState, tuple[MemberEffect, ...]]:
    aborted = replace(state, phase="aborted")
    effects: tuple[MemberEffect, ...] = (Say(f"stopped before anything was opened: {event.reason}"), StopWorker())
    if event.sender is not None and event.backup is not None:
        # Only the receiver can report what it saw; the two others heard of it from a peer and must not accuse on
        # hearsay.
        if event.receiver == state.position:
            return aborted, (*effects, Complain(event.sender, event.backup))
        return aborted, effects
    silent = sorted(event.suspects - {state.position} - state.challenged)
    missed = event.sender if event.receiver == state.position else None
    challenged = replace(aborted, challenged=state.challenged | set(silent), missed=missed)
    return challenged, (*effects, *(Challenge(position) for position in silent))


def _without(state: MemberState, position: int) -> tuple[MemberEffect, ...]:
    """Nothing comes of this attempt any more: have another committee drawn, without the one that was missed.

    Nobody else took part in a silence between two, so nobody else is named.
    """
    if state.phase != "aborted" or position != state.missed:
        return ()
    return Say(f"seat {position} answered, but its worker took no part"), Complain(position, None)


def _missing(state: MemberState, now: Seconds) -> tuple[MemberState, tuple[MemberEffect, ...]]:
    waited = now - state.started
    here = {*dict(state.greetings), state.position}
    absent = sorted(set(range(len(state.members))) - here - state.challenged)
    if waited >= state.waits.greeting_seconds and absent:
        return replace(state, challenged=state.challenged | set(absent)), tuple(Challenge(seat) for seat in absent)
    if waited >= state.waits.shares_seconds and len(state.packages) < state.owners:
        return replace(state, phase="aborted"), (
            Say(f"gave up: {state.owners - len(state.packages)} of {state.owners} owners sent no shares in time"),
            StopWorker(),
        )
    return state, ()
