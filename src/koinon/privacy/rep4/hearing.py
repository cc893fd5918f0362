"""From a worker's order to the judge: a position opens its view, a judge hears it (REP4-JUDGE)."""

from collections.abc import Sequence
from typing import Final

from koinon.crypto.hash import tagged_hash
from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, InvalidInput
from koinon.kernel.ids import Hash32
from koinon.privacy.programs import registry
from koinon.privacy.rep4 import abort
from koinon.privacy.rep4.contradiction import is_sealed
from koinon.privacy.rep4.judge import Dispute, Finding, Replay, dispute_about_one, dispute_of, find
from koinon.privacy.rep4.order import accepted_input, terms_of, workers_of
from koinon.privacy.rep4.party import KEY_ROUNDS
from koinon.privacy.rep4.signing import NodeChecks
from koinon.privacy.rep4.transcript import Transcript
from koinon.privacy.seats import check_certificates
from koinon.wire.committee import POSITIONS, Complaint, Four, OpenedFrame, OpenedView, Run, SealedDispute

VIEW_DOMAIN: Final = "koinon/rep4/opened-view/1"
_EVIDENCE_DOMAIN: Final = "koinon/rep4/pair-evidence/1"


MOST_TOLD: Final = 12
"""Frames in one member's testimony: three rounds, both directions, two others."""


def is_disputed(complaint: Complaint, position: int) -> bool:
    """Whether a complaint is about what ``position`` sent or backed up, and a judge could repeat.

    Who finds itself alone with its digest of the output complains of another's (``abort.INCONSISTENT``), after the
    keys were agreed on, and may be accused by them.
    """
    if complaint.reason == abort.INCONSISTENT:
        return complaint.receiver == position and complaint.round > KEY_ROUNDS
    return complaint.reason in (abort.MISMATCH, abort.ODD_DIGEST) and position in (complaint.sender, complaint.backup)


def open_view(key: NodeKey, identity: bytes, position: int, run: Run, transcript: Transcript) -> OpenedView:
    """What a position hands to its own node, to be kept for its judge.

    Args:
        key: the worker's ephemeral one.
        identity: of the run.
    """
    rounds = tuple(_by_position(frames) for frames in transcript.rounds)
    signatures, randomness = tuple(transcript.signatures), tuple(transcript.randomness)
    blank = OpenedView(identity, position, run, rounds, signatures, randomness, b"")
    signature = key.sign(VIEW_DOMAIN, _statement(blank))
    return OpenedView(identity, position, run, rounds, signatures, randomness, signature)


def evidence_hash(dispute: SealedDispute) -> Hash32:
    """What names a dispute, on the chain too."""
    return tagged_hash(_EVIDENCE_DOMAIN, encode(dispute))


def check_dispute(sealed: SealedDispute) -> Dispute:
    """Check, knowing only the nodes' keys, that one of two deviated, or that one did.

    Raises:
        Forged: it does not show that, or the nodes do not vouch for the workers.
        InvalidInput: the four positions are not four different nodes and workers.
    """
    check_certificates(sealed.identity, sealed.peers)
    checks = NodeChecks(workers_of(sealed.peers))
    if sealed.evidence is None:
        return dispute_about_one(sealed.frames, checks)
    if sealed.frames:
        raise Forged("evidence is about two positions or about one, not about both")
    return dispute_of(sealed.evidence, checks)


def names_one(sealed: SealedDispute) -> bool:
    """Whether frames that members show name one of them."""
    try:
        return check_dispute(sealed).alone is not None
    except Forged:
        return False


def joined_testimony(told: Sequence[SealedDispute]) -> SealedDispute:
    """Evidence about one member, of what members show of one run.

    Each member's is tried as the beginning, since another may say that other workers took part; frames that its four
    workers did not seal are left out.

    Raises:
        InvalidInput: nobody is named.
    """
    for first in told:
        try:
            check_certificates(first.identity, first.peers)
        except (Forged, InvalidInput):
            continue
        checks = NodeChecks(workers_of(first.peers))
        frames: dict[bytes, OpenedFrame] = {}
        for one in (first, *told):
            for frame in one.frames[:MOST_TOLD]:
                if is_sealed(frame, checks):
                    frames.setdefault(encode(frame), frame)
        joined = SealedDispute(first.identity, first.peers, None, tuple(frames.values()))
        if names_one(joined):
            return joined
    raise InvalidInput("what members were told names none of them; ask those that are away to start their nodes")


def hear(sealed: SealedDispute, view: OpenedView) -> Finding:
    """Judge one position by the view it opened.

    Raises:
        Forged: the evidence proves nothing, or the view is not one that its position opened of this run. It
            is then as if it had not been opened.
        InvalidInput: this installation has another version of the program, or the view is of another position.
    """
    dispute = check_dispute(sealed)
    if not dispute.is_heard:
        raise InvalidInput("its own signatures contradict each other; no view of the position changes that")
    run = view.run
    if view.position not in POSITIONS or len(run.inputs) == 0:
        raise Forged("the opened view has no position from 0 to 3, or no inputs")
    session = terms_of(view.identity, run).digest()
    if session != dispute.session or view.identity != sealed.identity:
        raise Forged("the opened view is of another run than the evidence")
    workers = workers_of(run.peers)
    if workers != workers_of(sealed.peers):
        raise Forged("the opened view names other workers than the evidence")
    worker = workers[view.position]
    verify_node_signature(worker, VIEW_DOMAIN, _statement(view), view.signature)
    if run.algorithm != registry.algorithm_hash(run.program):
        raise InvalidInput(f"this judge's {run.program} is not the algorithm of the study; install the agreed version")
    program = registry.load(run.program, run.parameters)
    if len(run.inputs) != len(program.shapes):
        raise Forged("the opened view has other inputs than the study has owners")
    try:
        inputs = [accepted_input(each, program, number, view.position) for number, each in enumerate(run.inputs)]
    except InvalidInput as problem:
        raise Forged(f"the opened view holds no input that a member takes: {problem}") from None
    received = [{peer: frame for peer, frame in enumerate(frames) if frame} for frames in view.rounds]
    replay = Replay(received, view.signatures, view.randomness)
    return find(dispute, view.position, replay, NodeChecks(workers), view.identity, program, inputs)


def _by_position(frames: dict[int, bytes]) -> Four:
    zeroth, first, second, third = (frames.get(peer, b"") for peer in POSITIONS)
    return zeroth, first, second, third


def _statement(view: OpenedView) -> bytes:
    content = encode([list(view.rounds), list(view.signatures), list(view.randomness)])
    return view.identity + bytes([view.position]) + tagged_hash(VIEW_DOMAIN, content)
