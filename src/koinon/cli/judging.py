"""``koinon study judge``: what a committee's evidence proves, and whom a judge names."""

from pathlib import Path
from typing import Any

from koinon.kernel.ids import to_hex
from koinon.node import disputes
from koinon.privacy.rep4.hearing import check_dispute, evidence_hash, hear
from koinon.wire.committee import OpenedView, SealedDispute


def judged(evidence_file: Path, view_file: Path | None) -> dict[str, Any]:
    """The facts that evidence proves, and with a view those that repeating one position's part shows.

    Raises:
        InvalidInput: a file cannot be read, or the program of the study is not installed in the agreed version.
        MalformedMessage: a file is damaged.
        Forged: the evidence proves nothing, or the view is no run of this session.
    """
    sealed = disputes.read(evidence_file, SealedDispute)
    dispute = check_dispute(sealed)
    nodes = [to_hex(peer.node) for peer in sealed.peers]
    facts: dict[str, Any] = {
        "evidence": to_hex(evidence_hash(sealed)),
        "round": dispute.round,
        "sender": nodes[dispute.sender],
        "backup": nodes[dispute.backup],
        "proved": "sender or backup deviated: they sealed different digests of one value",
    }
    if view_file is None:
        return facts
    finding = hear(sealed, disputes.read(view_file, OpenedView))
    return {
        **facts,
        "judged": nodes[finding.position],
        "outcome": finding.outcome.name.lower(),
        "finding": finding.outcome.value,
        "deviated": None if finding.named is None else nodes[finding.named],
    }
