"""A committee member's side of one attempt of a study, as a pure step.

    drawn → worker listens → greet the three others → all greetings and every owner's package here → run → output or
    abort

Who is blamed: a lie inside the joint computation is reported by its receiver only (``Complain``; sender, backup and
receiver leave the study unpaid); a peer that is not there is challenged on the chain (``Challenge``) and loses
stake only if it stays silent there too. Silence between two nodes proves nothing by itself: the link may be at fault.
Where the silent one answers on the chain, its node lives and its worker did not: whoever missed it complains then, so
that others are drawn instead of everybody waiting for the deadline. Nobody loses stake by that.
"""

from dataclasses import dataclass, replace

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
    """

    greeting_seconds: int = 6
    shares_seconds: int = 30
    silence_seconds: int = 5


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
    """Another attempt was drawn, or the study ended."""


MemberEvent = (
    WorkerListening
    | PeerGreeted
    | SharesArrived
    | WorkerFinished
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
class SendOutput:
    """Sign the digest and hand components and signature to the result party."""

    output: OutputPackage
    output_digest: bytes


@dataclass(frozen=True)
class Complain:
    sender: int
    backup: int


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


MemberEffect = StartWorker | Greet | RunWorker | SendOutput | Complain | Challenge | AnswerChallenge | StopWorker | Say


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
            return replace(state, phase="left"), () if state.phase == "left" else (StopWorker(),)
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
            finished = replace(state, phase="done")
            return finished, (SendOutput(event.output, event.output_digest), StopWorker())
        case WorkerAborted():
            return _abort(state, event)
        case Tick() if state.phase == "gathering":
            return _missing(state, event.now)
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

    A complaint names three. The third, who did nothing, is only left out of the next draw as the complainant is.
    """
    if state.phase != "aborted" or position != state.missed:
        return ()
    third = min(set(range(len(state.members))) - {position, state.position})
    return Say(f"seat {position} answered, but its worker took no part"), Complain(position, third)


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
