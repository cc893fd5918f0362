"""A data owner's side of a study, as a pure step.

Order on the chain: proposed → every owner consents (with a commitment to a nonce) → locked → every party reveals
its nonce → a committee of four is drawn → owners deal shares → result, or another attempt with other members and
fresh shares.

The driver makes the state durable before it performs the effects: a consent whose nonce was lost could not be
revealed, and the bond would be gone.
"""

from dataclasses import dataclass

from koinon.jobs.policy import Policy, agree
from koinon.jobs.study import StudyFile, is_crossed
from koinon.kernel.codec import Record
from koinon.kernel.errors import Refused
from koinon.kernel.ids import Address, Hash32, NodeId


class OwnerState(Record, frozen=True):
    """What this owner must remember of one study. ``phase``: new, refused, consented, revealed, dealt or ended."""

    study: int
    phase: str = "new"
    nonce: bytes = b""
    dataset_hash: bytes = b""
    attempt: int = -1


@dataclass(frozen=True)
class StudyProposed:
    """A study that names this owner stands on the chain and its file has been read and checked against its hash.

    ``rows`` is 0 and ``dataset_hash`` empty where this owner holds no data set with the study's columns.
    """

    file: StudyFile
    installed_algorithm: Hash32
    dataset_hash: bytes
    rows: int
    nonce: bytes
    unaffordable: str = ""
    """Why the data set's privacy budget does not cover it; empty where it does."""
    other_people: bool = False
    """Whether there is a data set with the study's columns, of other people than the study's."""
    common: int | None = None
    """How many people are in all owners' data, where the study has that found out."""
    unfit: str = ""
    """Why the data set's rows cannot be used for the study; empty where they can."""


@dataclass(frozen=True)
class StudyLocked:
    """Every consent is on the chain."""


@dataclass(frozen=True)
class CommitteeDrawn:
    """The committee of one attempt, by position."""

    attempt: int
    members: tuple[NodeId, NodeId, NodeId, NodeId]
    unaffordable: str = ""


@dataclass(frozen=True)
class StudyEnded:
    """Completed, cancelled or refunded."""


OwnerEvent = StudyProposed | StudyLocked | CommitteeDrawn | StudyEnded


@dataclass(frozen=True)
class Consent:
    """Sign the consent and send it to the chain."""

    dataset_hash: bytes
    nonce: bytes


@dataclass(frozen=True)
class Refuse:
    """Tell publisher and chain why this owner does not sign."""

    reason: str


@dataclass(frozen=True)
class RevealNonce:
    """Send the nonce to the chain."""

    nonce: bytes


@dataclass(frozen=True)
class DealShares:
    """Share the rows afresh and hand each member its package."""

    attempt: int
    members: tuple[NodeId, NodeId, NodeId, NodeId]
    dataset_hash: bytes


@dataclass(frozen=True)
class Withhold:
    """Deal no shares to this attempt, and say why."""

    attempt: int
    reason: str


OwnerEffect = Consent | Refuse | RevealNonce | DealShares | Withhold


def step(
    state: OwnerState, event: OwnerEvent, policy: Policy, account: Address
) -> tuple[OwnerState, tuple[OwnerEffect, ...]]:
    """Advance one owner's part in one study. Events that do not fit the phase change nothing."""
    match event:
        case StudyProposed() if state.phase == "new":
            if not event.dataset_hash and event.other_people:
                return _refused(
                    state,
                    "the data set here is not of the study's people; add rows with ids: koinon data add --key",
                )
            if not event.dataset_hash:
                return _refused(
                    state, "no data set here has the study's columns and target; add it with: koinon data add"
                )
            try:
                agree(event.file, policy, account, event.installed_algorithm, event.rows)
            except Refused as refusal:
                return _refused(state, str(refusal))
            if event.common is not None and event.common < event.file.minimum_rows:
                if is_crossed(event.file):
                    return _refused(
                        state,
                        f"of this owner's people fewer than the {event.file.minimum_rows} the study asks for are with"
                        " owners of the other columns",
                    )
                return _refused(
                    state, f"fewer than the {event.file.minimum_rows} people the study asks for are in all owners' data"
                )
            if event.unfit or event.unaffordable:
                return _refused(state, event.unfit or event.unaffordable)
            consented = OwnerState(state.study, "consented", event.nonce, event.dataset_hash)
            return consented, (Consent(event.dataset_hash, event.nonce),)
        case StudyLocked() if state.phase == "consented":
            revealed = OwnerState(state.study, "revealed", state.nonce, state.dataset_hash)
            return revealed, (RevealNonce(state.nonce),)
        case CommitteeDrawn() if state.phase in ("revealed", "dealt") and event.attempt > state.attempt:
            if event.unaffordable:
                return state, (Withhold(event.attempt, event.unaffordable),)
            dealt = OwnerState(state.study, "dealt", state.nonce, state.dataset_hash, event.attempt)
            return dealt, (DealShares(event.attempt, event.members, state.dataset_hash),)
        case StudyEnded():
            return OwnerState(state.study, "ended", b"", state.dataset_hash, state.attempt), ()
    return state, ()


def _refused(state: OwnerState, reason: str) -> tuple[OwnerState, tuple[OwnerEffect, ...]]:
    return OwnerState(state.study, "refused"), (Refuse(reason),)
