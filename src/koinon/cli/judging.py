"""``koinon study judge``, ``accuse``, ``plead``, ``case``: what evidence proves, and what the chain makes of it."""

import asyncio
import datetime
from pathlib import Path
from typing import Any

import click

from koinon.cli.options import ChainAccess, chain_access, open_suite
from koinon.cli.ordering import operator_of, order
from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Address, to_hex
from koinon.node import disputes, orders
from koinon.wire.committee import OpenedView, SealedDispute


def judged(evidence_file: Path, view_file: Path | None) -> dict[str, Any]:
    """The facts that evidence proves, and with a view those that repeating one position's part shows.

    Raises:
        InvalidInput: a file cannot be read, or the program of the study is not installed in the agreed version.
        MalformedMessage: a file is damaged.
        Forged: the evidence proves nothing, or the view is no run of this session.
    """
    from koinon.privacy.rep4.hearing import check_dispute, evidence_hash, hear

    sealed = disputes.read(evidence_file, SealedDispute)
    dispute = check_dispute(sealed)
    nodes = [to_hex(peer.node) for peer in sealed.peers]
    facts: dict[str, Any] = {
        "evidence": to_hex(evidence_hash(sealed)),
        "round": dispute.round,
    }
    accused_nodes = [nodes[position] for position in dispute.accused]
    if dispute.alone is None:
        facts |= dict(zip(_sides(), accused_nodes, strict=True))
        facts["proved"] = "sender or backup deviated: they sealed different digests of one value"
    else:
        facts |= {"deviated": accused_nodes[0], "proved": dispute.alone.ground.value}
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


def accused(folder: Path, number: int, evidence_file: Path | None, *, quiet: bool) -> dict[str, Any]:
    """Open a case with the node in ``folder``; who is accused, and until when they may plead.

    Raises:
        InvalidInput: there is no such file or study, or a case about the attempt already.
        Forged: the evidence proves nothing, or nothing about this study; nothing was sent.
    """
    from koinon.contracts.tokens import format_amount

    given = "" if evidence_file is None else str(evidence_file.resolve())
    opened = order(folder, "case.accuse", orders.Accuse(number, given), orders.CaseOpened, "accuse", quiet=quiet)
    if opened.case == 0:
        return {
            "study": opened.study,
            "attempt": opened.attempt + 1,
            **_shown_accused(opened.accused),
            "proved": "it handed over another output than it had agreed on",
            "stake_taken_tokens": format_amount(opened.taken),
        }
    return {
        "case": opened.case,
        "study": opened.study,
        "attempt": opened.attempt + 1,
        "evidence": to_hex(opened.evidence_hash),
        **_shown_accused(opened.accused),
        "paid_tokens": format_amount(opened.paid),
        "may_plead_until": shown_time(opened.deadline),
    }


def pleaded(
    folder: Path, case: int, view_file: Path | None, *, anyway: bool, agreed: bool, quiet: bool
) -> dict[str, Any]:
    """Say what it costs, then have judges drawn for the node in ``folder``.

    Args:
        agreed: not to ask whether the cost is agreed to.

    Raises:
        Refused: the cost is not agreed to, or there is nothing to plead in.
        InvalidInput: there is no such case or view.
        Forged: judges would take the view for none.
    """
    from koinon.contracts.judgements import JUDGES
    from koinon.contracts.tokens import format_amount

    operator_of(folder)
    fee, deadline = asyncio.run(_cost(chain_access(folder, (), None), case))
    if not agreed:
        if quiet:
            raise InvalidInput("with --json nobody is asked; agree to the cost with --yes")
        cost = (
            f"{JUDGES} judges cost {format_amount(fee)} tokens each, {format_amount(JUDGES * fee)} in all; who does not"
            " vote is not paid."
            if fee
            else "Who accused this node paid for its judges."
        )
        question = f"{cost} They will see what this node received and drew. Plead, by {shown_time(deadline)}?"
        if not click.confirm(question):
            raise Refused(
                "nothing was sent; who does not plead pays if the other accused is cleared, or if it is accused alone"
            )
    given = "" if view_file is None else str(view_file.resolve())
    plea = orders.Plead(case, given, anyway)
    entered = order(folder, "case.plead", plea, orders.PleaEntered, "plead", quiet=quiet)
    return {
        "case": entered.case,
        "side": _sides()[entered.side],
        "own_finding": entered.finding.lower(),
        "paid_tokens": format_amount(entered.paid),
        "judges_drawn_after_block": entered.draw_height,
    }


def case_facts(access: ChainAccess, number: int) -> dict[str, Any]:
    """What the chain holds about a case. Raises Refused where there is none."""
    return asyncio.run(_case(access, number))


async def _cost(access: ChainAccess, number: int) -> tuple[int, int]:
    """What one judge costs the accused, and until when it may plead."""
    async with open_suite(access) as suite:
        case = await suite.judgements.case_of(number)
        if case.is_about_one:
            return 0, max(int(case.deadline), int((await suite.judgements.hearing_of(number, 0)).deadline))
        return int(await suite.judgements.judge_fee()), int(case.deadline)


async def _case(access: ChainAccess, number: int) -> dict[str, Any]:
    from koinon.contracts.judgements import Convicted, HearingStage
    from koinon.contracts.tokens import format_amount

    async with open_suite(access) as suite:
        case = await suite.judgements.case_of(number)
        sides = (0,) if case.is_about_one else (0, 1)
        heard = [await suite.judgements.hearing_of(number, side) for side in sides]
        convicted = await suite.judgements.events(Convicted, case_id=number)
    facts: dict[str, Any] = {
        "case": number,
        "study": case.study_id,
        "attempt": case.attempt + 1,
        "evidence": to_hex(case.evidence_hash),
        "state": "closed" if case.closed else "open",
    }
    pleading = any(hearing.stage is HearingStage.NONE for hearing in heard)
    if pleading and not case.closed:
        facts["may_plead_until"] = shown_time(case.deadline)
    for side, hearing in enumerate(heard):
        taken = sum(one.event.slashed for one in convicted if one.event.member == case.accused[side])
        facts["accused" if case.is_about_one else _sides()[side]] = {
            "account": to_hex(case.accused[side]),
            "stage": "has not pleaded" if hearing.stage is HearingStage.NONE else hearing.stage.name.lower(),
            **({"until": shown_time(hearing.deadline)} if hearing.deadline else {}),
            "votes": {
                to_hex(judge): vote.name.lower() for judge, vote in zip(hearing.judges, hearing.votes, strict=False)
            },
            "outcome": case.outcomes[side].name.lower(),
            "stake_taken_tokens": format_amount(taken),
        }
    return facts


def _shown_accused(accused: tuple[Address, ...]) -> dict[str, str]:
    names = _sides() if len(accused) > 1 else ("accused",)
    return dict(zip(names, map(to_hex, accused), strict=True))


def shown_time(seconds: int) -> str:
    """A Unix second as people read it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _sides() -> tuple[str, str]:
    from koinon.jobs.cases import SIDES

    return SIDES
