"""Who takes part, and are they alive: the chain's register beside what nodes answer."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from koinon.gateway.facts import Facts, named
from koinon.gateway.journal import about, keys, last_of
from koinon.gateway.origins import rpc_command, sentence
from koinon.gateway.pages.chain import block_rows
from koinon.gateway.pages.studies import phase_of, study_rows
from koinon.gateway.views.network import MapLink, NetworkPage, Organisation
from koinon.gateway.views.parts import Origin, Sentence

ROLE_BITS: Final = ((1, "compute"), (2, "evaluate"), (4, "serve"))
ROLE_ORDER: Final = ("validator", "owner", "publisher", "compute", "evaluate", "serve")
STATUS_ROLES: Final = {"data": "owner", "evaluator": "evaluate", "service": "serve"}
"""What nodes call their roles, where the chain has another word."""
MAXIMUM_ORGANISATIONS: Final = 200
BLOCKS_SHOWN: Final = 8
STUDIES_SHOWN: Final = 5


async def network_page(facts: Facts) -> NetworkPage:
    """``/``."""
    roles = _parties(facts)
    reporting = (status.account.lower() for status in facts.statuses)
    accounts = dict.fromkeys([*reporting, *keys(facts.journal, "provider"), *roles])
    shown = list(accounts)[:MAXIMUM_ORGANISATIONS]
    found = await asyncio.gather(*(_organisation(facts, account, roles) for account in shown))
    organisations = tuple(sorted(found, key=_order))
    staked = sum(one.stake.value for one in found if one.stake is not None)
    return NetworkPage(
        head=facts.head,
        answer=_answer(organisations, bool(facts.statuses)),
        organisations=organisations,
        links=_links(facts, set(shown)),
        blocks=await block_rows(facts, facts.head.height + 1, BLOCKS_SHOWN),
        studies=study_rows(facts, STUDIES_SHOWN),
        staked=facts.tokens(staked, _sum_of_stakes(facts)),
        node_status_known=bool(facts.statuses),
    )


def _parties(facts: Facts) -> dict[str, str]:
    """Publishers and owners of studies, with the role that made them known."""
    roles: dict[str, str] = {}
    for number in keys(facts.journal, "study"):
        for entry in about(facts.journal, "study", number):
            if entry.event == "Proposed":
                roles.setdefault(entry.values["publisher"].lower(), "publisher")
            elif entry.event == "Consented":
                roles.setdefault(entry.values["owner"].lower(), "owner")
    return roles


async def _organisation(facts: Facts, account: str, roles_in_studies: Mapping[str, str]) -> Organisation:
    status = next((one for one in facts.statuses if one.account.lower() == account), None)
    registered = named(about(facts.journal, "provider", account), "Registered")
    record = None
    if registered:
        since = last_of(facts.journal, "provider", account)
        record = await facts.reader.view("Providers", "providerOf", bytes.fromhex(account[2:]), since=since)
    bits = record["roles"] if record else 0
    roles = [role for bit, role in ROLE_BITS if bits & bit]
    roles += [roles_in_studies[account]] if account in roles_in_studies else []
    roles += [STATUS_ROLES.get(role, role) for role in (status.roles if status else ())]
    alive: Literal["answers", "silent", "unknown"] = "unknown"
    if status is not None:
        alive = "answers" if status.alive else "silent"
    return Organisation(
        account=account,
        name=facts.labels.get(account),
        node_id=status.node_id if status else record["nodeId"] if record else None,
        operator=record["operator"] if record else None,
        roles=tuple(sorted(dict.fromkeys(roles), key=_role_order)),
        stake=facts.from_view(record["stake"], "Providers", "providerOf", bytes.fromhex(account[2:]))
        if record
        else None,
        assignments=record["locks"] if record else 0,
        alive=alive,
        seen_at=status.observed_at if status else None,
        height=status.height if status else None,
        cpu_percent=status.cpu_percent if status else None,
        memory_bytes=status.memory_bytes if status else None,
        children=status.children if status else None,
        last_act_at=facts.journal.last_acts.get(account),
    )


def _links(facts: Facts, shown: set[str]) -> tuple[MapLink, ...]:
    links: dict[tuple[str, str], MapLink] = {}
    by_node = {status.node_id.lower(): status.account.lower() for status in facts.statuses}
    for status in facts.statuses:
        for peer in status.peers:
            other = by_node.get(peer.lower())
            if other is not None:
                _link(links, status.account.lower(), other, "connection")
    for number in _studies_to_draw(facts):
        entries = about(facts.journal, "study", number)
        owners = [entry.values["owner"].lower() for entry in named(entries, "Consented")]
        for drawn in named(entries, "Drawn")[-1:]:
            for member in drawn.values["committee"]:
                for owner in owners:
                    _link(links, owner, member.lower(), "study")
    return tuple(link for link in links.values() if link.source in shown and link.target in shown)


def _link(links: dict[tuple[str, str], MapLink], one: str, other: str, kind: Literal["connection", "study"]) -> None:
    source, target = sorted((one, other))
    if source != target and (kind == "study" or (source, target) not in links):
        links[source, target] = MapLink(source=source, target=target, kind=kind)


def _studies_to_draw(facts: Facts) -> list[int]:
    """Studies under way, or the last one where none is."""
    numbers = sorted(keys(facts.journal, "study"))
    running = [one for one in numbers if phase_of(about(facts.journal, "study", one)) not in ("completed", "ended")]
    return running or numbers[-1:]


def _answer(organisations: Sequence[Organisation], known: bool) -> Sentence:
    if not organisations:
        return sentence("Nobody has registered yet.")
    if not known:
        return sentence(
            "Organisations: {count}. Whether they are alive only their nodes could say, and none reports here.",
            count=len(organisations),
        )
    tally: Mapping[str, int] = {
        state: sum(one.alive == state for one in organisations) for state in ("answers", "silent", "unknown")
    }
    if tally["silent"]:
        return sentence(
            "{answers} of {count} organisations answer; silent: {silent}.",
            answers=tally["answers"],
            count=len(organisations),
            silent=tally["silent"],
        )
    if tally["unknown"]:
        return sentence(
            "{answers} of {count} organisations answer; the others do not report here.",
            answers=tally["answers"],
            count=len(organisations),
        )
    return sentence("All {count} organisations answer.", count=len(organisations))


def _sum_of_stakes(facts: Facts) -> Origin:
    return Origin(
        statement=sentence("Sum of the stakes above; the contract Providers holds at least this much."),
        command=rpc_command(
            facts.reader.public_rpc,
            "eth_call",
            {
                "to": facts.address("Token"),
                "data": facts.reader.call_data("Token", "balanceOf", bytes.fromhex(facts.address("Providers")[2:])),
            },
            "latest",
        ),
    )


def _role_order(role: str) -> tuple[int, str]:
    return (ROLE_ORDER.index(role) if role in ROLE_ORDER else len(ROLE_ORDER), role)


def _order(one: Organisation) -> tuple[int, str, str]:
    return (_role_order(one.roles[0])[0] if one.roles else len(ROLE_ORDER), one.name or "~", one.account)
