"""Who takes part, and are they alive: the chain's register beside what nodes answer."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from koinon.gateway.facts import Facts, named
from koinon.gateway.journal import Entry, about, keys
from koinon.gateway.origins import sentence
from koinon.gateway.pages.chain import block_rows
from koinon.gateway.pages.studies import phase_of, study_rows
from koinon.gateway.status import NodeStatus
from koinon.gateway.views import MapLink, NetworkPage, Organisation, Quantity, Sentence

ROLE_BITS: Final = ((1, "compute"), (2, "evaluate"), (4, "serve"))
ROLE_ORDER: Final = ("validator", "owner", "publisher", "compute", "evaluate", "serve")
STATUS_ROLES: Final = {"data": "owner", "evaluator": "evaluate", "service": "serve"}
"""What nodes call their roles, where the chain has another word."""
MAXIMUM_ORGANISATIONS: Final = 200
BLOCKS_SHOWN: Final = 8
STUDIES_SHOWN: Final = 5


async def network_page(facts: Facts) -> NetworkPage:
    """``/``."""
    statuses = {status.account.lower(): status for status in facts.statuses}
    accounts = dict.fromkeys([*statuses, *(str(key).lower() for key in keys(facts.journal, "provider")), *_parties(facts)])
    shown = list(accounts)[:MAXIMUM_ORGANISATIONS]
    organisations = tuple(
        sorted((_organisation(facts, account, statuses.get(account)) for account in shown), key=_order)
    )
    return NetworkPage(
        head=facts.head,
        answer=_answer(organisations, bool(facts.statuses)),
        organisations=organisations,
        links=_links(facts, set(shown)),
        blocks=await block_rows(facts, facts.head.height + 1, BLOCKS_SHOWN),
        studies=study_rows(facts, STUDIES_SHOWN),
        staked=_staked(facts, shown),
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


def _organisation(facts: Facts, account: str, status: NodeStatus | None) -> Organisation:
    entries = about(facts.journal, "provider", account)
    registered = named(entries, "Registered")
    stakes = named(entries, "Staked", "UnstakeRequested", "Slashed")
    bits = registered[-1].values["roles"] if registered else 0
    roles = [role for bit, role in ROLE_BITS if bits & bit]
    roles += [_parties(facts)[account]] if account in _parties(facts) else []
    roles += [STATUS_ROLES.get(role, role) for role in (status.roles if status else ())]
    alive: Literal["answers", "silent", "unknown"] = "unknown"
    if status is not None:
        alive = "answers" if status.alive else "silent"
    return Organisation(
        account=account,
        name=facts.labels.get(account),
        node_id=status.node_id if status else registered[-1].values["nodeId"] if registered else None,
        operator=registered[-1].values["operator"] if registered else None,
        roles=tuple(sorted(dict.fromkeys(roles), key=lambda role: (ROLE_ORDER.index(role) if role in ROLE_ORDER else 99, role))),
        stake=facts.from_entries(_stake(entries), [stakes[-1]]) if stakes else None,
        assignments=_assignments(facts, account, entries),
        alive=alive,
        seen_at=status.observed_at if status else None,
        height=status.height if status else None,
        cpu_percent=status.cpu_percent if status else None,
        memory_bytes=status.memory_bytes if status else None,
        children=status.children if status else None,
        last_act_at=facts.journal.last_acts.get(account),
    )


def _stake(entries: Sequence[Entry]) -> int:
    """Stake that counts now. ``Staked`` tells the sum; later requests and losses are taken off.

    A loss may fall partly on money already being withdrawn, so that the remaining stake is at least what is shown.
    """
    stake = 0
    for entry in entries:
        match entry.event:
            case "Staked":
                stake = entry.values["stake"]
            case "UnstakeRequested" | "Slashed":
                stake -= entry.values["amount"]
    return max(0, stake)


def _assignments(facts: Facts, account: str, entries: Sequence[Entry]) -> int:
    """Work assigned now: drawn and not yet released, as the last release states it."""
    released = named(entries, "Unlocked")
    after = released[-1] if released else None
    count = after.values["locks"] if after else 0
    for key in keys(facts.journal, "sampled"):
        for entry in about(facts.journal, "sampled", key):
            later = after is None or (entry.height, entry.index) > (after.height, after.index)
            if later and account in map(str.lower, entry.values["chosen"]):
                count += 1
    return int(count)


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


def _staked(facts: Facts, accounts: Sequence[str]) -> Quantity:
    entries: list[Entry] = []
    units = 0
    for account in accounts:
        own = about(facts.journal, "provider", account)
        units += _stake(own)
        entries += named(own, "Staked")
    return facts.from_entries(units, entries)


def _answer(organisations: Sequence[Organisation], known: bool) -> Sentence:
    if not organisations:
        return sentence("Nobody has registered yet.")
    if not known:
        return sentence(
            "{count} organisations take part. Whether they are alive only their nodes could say, and none reports here.",
            count=len(organisations),
        )
    tally: Mapping[str, int] = {
        state: sum(one.alive == state for one in organisations) for state in ("answers", "silent", "unknown")
    }
    if tally["silent"]:
        return sentence(
            "{answers} of {count} organisations answer; {silent} do not.",
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


def _order(one: Organisation) -> tuple[int, str, str]:
    first = ROLE_ORDER.index(one.roles[0]) if one.roles and one.roles[0] in ROLE_ORDER else len(ROLE_ORDER)
    return (first, one.name or "~", one.account)
