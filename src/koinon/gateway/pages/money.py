"""Receipts, channels, passes, and whether a service's money adds up."""

from collections.abc import Sequence

from koinon.gateway.facts import (
    ROWS_OF_A_PAGE,
    Absent,
    Facts,
    credit_flows,
    credited,
    grouped,
    named,
    total,
)
from koinon.gateway.journal import Entry, about, keys, last_of
from koinon.gateway.origins import sentence
from koinon.gateway.pages.models import name_of_service
from koinon.gateway.views.money import AnchorRow, ChannelRow, PassRow, ReceiptsPage, ServiceRow, SettlementPage
from koinon.gateway.views.parts import Event, Flow, Measure, Quantity, Tone
from koinon.gateway.writing import shorten


async def receipts_page(facts: Facts) -> ReceiptsPage:
    """``/receipts``."""
    services = sorted(keys(facts.journal, "service"), reverse=True)[:ROWS_OF_A_PAGE]
    rows = [_service_row(facts, service) for service in services]
    anchors = sorted((row for service in services for row in _anchors(facts, service)), key=lambda row: -row.height)
    answers, earned = sum(row.answers for row in rows), sum(row.earned.value for row in rows)
    return ReceiptsPage(
        head=facts.head,
        answer=sentence(
            "Answers with a receipt on the chain: {answers}. Paid for calls so far: {amount}.",
            answers=f"{answers:,}",
            amount=facts.amount(earned),
        )
        if rows
        else sentence("No service has answered a call yet."),
        services=tuple(rows),
        anchors=tuple(anchors[:ROWS_OF_A_PAGE]),
        channels=tuple(row for service in services for row in _channels(facts, service))[:ROWS_OF_A_PAGE],
        passes=tuple(row for service in services for row in _passes(facts, service))[:ROWS_OF_A_PAGE],
    )


async def settlement_page(facts: Facts, service: int) -> SettlementPage:
    """``/settlement/{service}``. Raises Absent where the chain has no such service."""
    entries = about(facts.journal, "service", service)
    minted = named(about(facts.journal, "asset", service), "Minted")
    if not entries and not (minted and minted[0].values["kind"] == 2):
        raise Absent(f"There is no service {service} on this chain.")
    flows = _flows(facts, service)
    payees = {flow.payee for flow in flows if flow.layer == 2} | {
        flow.payee for flow in flows if flow.reason == "node share"
    }
    checks = await _checks(facts, service)
    paid = _earned(facts, service).value
    answer = sentence(
        "Buyers paid {amount}; payees: {payees}; {verdict}.",
        amount=facts.amount(paid),
        payees=len(payees),
        verdict=sentence("every check holds" if all(check.holds for check in checks) else "a check does not hold"),
    )
    return SettlementPage(
        head=facts.head,
        service=service,
        name=name_of_service(facts, service),
        answer=answer if paid else sentence("Nothing has been paid for this service yet."),
        flows=flows,
        checks=checks,
        channels=tuple(_channels(facts, service)),
        passes=tuple(_passes(facts, service)),
        anchors=tuple(_anchors(facts, service))[:ROWS_OF_A_PAGE],
        events=_events(facts, service),
    )


def _service_row(facts: Facts, service: int) -> ServiceRow:
    entries = about(facts.journal, "service", service)
    return ServiceRow(
        service=service,
        name=name_of_service(facts, service),
        earned=_earned(facts, service),
        answers=total(named(entries, "Anchored"), "count"),
        channels=len(named(entries, "ChannelOpened")),
    )


def _channel_entries(facts: Facts, service: int) -> tuple[Entry, ...]:
    opened = named(about(facts.journal, "service", service), "ChannelOpened")
    return tuple(entry for one in opened for entry in about(facts.journal, "channel", one.values["channelId"]))


def _earned(facts: Facts, service: int) -> Quantity:
    passes = named(about(facts.journal, "service", service), "PassBought")
    settled = named(_channel_entries(facts, service), "ChannelSettled")
    units = total(passes, "price") + total(settled, "toNode") + total(settled, "toSplit")
    return facts.from_entries(units, (*passes, *settled))


def _anchors(facts: Facts, service: int) -> list[AnchorRow]:
    return [
        AnchorRow(
            service=service,
            node=facts.party(entry.values["node"]),
            root=entry.values["root"],
            first_sequence=entry.values["firstSequence"],
            count=entry.values["count"],
            at=entry.at,
            height=entry.height,
            transaction=entry.transaction,
        )
        for entry in reversed(named(about(facts.journal, "service", service), "Anchored"))
    ]


def _channels(facts: Facts, service: int) -> list[ChannelRow]:
    rows = []
    for opened in reversed(named(about(facts.journal, "service", service), "ChannelOpened")):
        entries = about(facts.journal, "channel", opened.values["channelId"])
        funded = named(entries, "ChannelOpened", "ChannelToppedUp")[-1]
        settled, closed = named(entries, "ChannelSettled"), named(entries, "ChannelClosed")
        state: str
        tone: Tone
        if closed:
            state, tone = "closed", "final"
        elif (
            named(entries, "ChannelCloseRequested", "ChannelToppedUp")[-1:]
            and entries[-1].event == "ChannelCloseRequested"
        ):
            state, tone = "closing", "pending"
        else:
            state, tone = "open", "pending"
        rows.append(
            ChannelRow(
                identifier=opened.values["channelId"],
                service=service,
                payer=facts.party(opened.values["payer"]),
                receiver=facts.party(opened.values["receiver"]),
                deposited=facts.from_entry(funded.values["deposit"], funded),
                settled=facts.from_entry(settled[-1].values["claimed"], settled[-1]) if settled else facts.tokens(0),
                refunded=facts.from_entry(closed[-1].values["refunded"], closed[-1]) if closed else facts.tokens(0),
                state=state,
                tone=tone,
                expires_at=funded.values["expiry"],
            )
        )
    return rows


def _passes(facts: Facts, service: int) -> list[PassRow]:
    rows = []
    for bought in reversed(named(about(facts.journal, "service", service), "PassBought")):
        number = bought.values["passId"]
        updates = named(about(facts.journal, "pass", number), "SubscriptionUpdate")
        rows.append(
            PassRow(
                number=number,
                service=service,
                holder=facts.party(bought.values["buyer"]),
                quota=bought.values["quota"],
                expires_at=updates[-1].values["expiration"] if updates else bought.values["expiresAt"],
                price=facts.from_entry(bought.values["price"], bought),
            )
        )
    return rows


def _flows(facts: Facts, service: int) -> tuple[Flow, ...]:
    """Buyers → passes and channels → service nodes and the split → every payee of the split."""
    passes = named(about(facts.journal, "service", service), "PassBought")
    entries = _channel_entries(facts, service)
    settled = named(entries, "ChannelSettled")
    payers = {entry.values["channelId"]: entry.values for entry in named(entries, "ChannelOpened")}
    flows = [
        Flow(
            payer=facts.label(buyer),
            payee="passes",
            reason="pass",
            amount=facts.from_entries(total(group, "price"), group),
        )
        for (buyer,), group in grouped(passes, "buyer").items()
    ]
    for (channel,), group in grouped(settled, "channelId").items():
        units = total(group, "toNode") + total(group, "toSplit")
        flows.append(
            Flow(
                payer=facts.label(payers[channel]["payer"]),
                payee="channels",
                reason="calls",
                amount=facts.from_entries(units, group),
            )
        )
    for (account,), group in grouped(_node_credits(facts, service), "account").items():
        flows.append(
            Flow(
                payer="channels",
                payee=facts.label(account),
                reason="node share",
                amount=facts.from_entries(total(group), group),
                layer=1,
            )
        )
    for source, part, field_name in (("passes", passes, "price"), ("channels", settled, "toSplit")):
        if part:
            flows.append(
                Flow(
                    payer=source,
                    payee="split of the service",
                    reason="revenue",
                    amount=facts.from_entries(total(part, field_name), part),
                    layer=1,
                )
            )
    flows += credit_flows(facts, _split_credits(facts, service), "split of the service", 2)
    return tuple(flows)


def _node_credits(facts: Facts, service: int) -> tuple[Entry, ...]:
    found = credited(_channel_entries(facts, service), "Market")
    return tuple(entry for entry in found if entry.values["reason"] == "node share")


def _split_credits(facts: Facts, service: int) -> tuple[Entry, ...]:
    return credited(about(facts.journal, "asset", service), "Assets")


async def _checks(facts: Facts, service: int) -> tuple[Measure, ...]:
    entries = _channel_entries(facts, service)
    passes = named(about(facts.journal, "service", service), "PassBought")
    settled = named(entries, "ChannelSettled")
    node_credits, split_credits = _node_credits(facts, service), _split_credits(facts, service)
    to_node, to_split = total(settled, "toNode"), total(settled, "toSplit")
    funding = facts.paid_into(
        "Market", (entry.transaction for entry in named(entries, "ChannelOpened", "ChannelToppedUp"))
    )
    returned = [entry for entry in credited(entries, "Market") if entry.values["reason"] == "deposit returned"]
    held = await _still_held(facts, entries)
    return (
        Measure(
            statement=sentence(
                "Tokens put into channels = settled ({settled}) + given back ({returned}) + still there ({held})",
                settled=facts.amount(to_node + to_split),
                returned=facts.amount(total(returned)),
                held=facts.amount(held),
            ),
            left=facts.from_entries(total(funding, "value"), funding),
            right=facts.from_entries(to_node + to_split + total(returned) + held, settled),
        ),
        Measure(
            statement=sentence("Share of the service nodes = credited to them"),
            left=facts.from_entries(to_node, settled),
            right=facts.from_entries(total(node_credits), node_credits),
        ),
        Measure(
            statement=sentence("Passes + what channels left to the split = credited by the split"),
            left=facts.from_entries(total(passes, "price") + to_split, (*passes, *settled)),
            right=facts.from_entries(total(split_credits), split_credits),
        ),
    )


async def _still_held(facts: Facts, entries: Sequence[Entry]) -> int:
    """What the market contract itself says is left in the channels that are not closed."""
    closed = {entry.values["channelId"] for entry in named(entries, "ChannelClosed")}
    held = 0
    for opened in named(entries, "ChannelOpened"):
        if opened.values["channelId"] in closed:
            continue
        identifier = bytes.fromhex(opened.values["channelId"][2:])
        since = last_of(facts.journal, "channel", opened.values["channelId"])
        channel = await facts.reader.view("Market", "channelOf", identifier, since=since)
        held += channel["deposit"] - channel["claimed"]
    return held


def _events(facts: Facts, service: int) -> tuple[Event, ...]:
    entries = [*about(facts.journal, "service", service), *_channel_entries(facts, service)]
    unique = {(entry.height, entry.index): entry for entry in entries}
    found = [_event(facts, unique[place]) for place in sorted(unique)]
    return tuple(event for event in found if event is not None)[-ROWS_OF_A_PAGE:]


def _event(facts: Facts, entry: Entry) -> Event | None:
    values = entry.values
    actor: str | None = None
    tone: Tone = "neutral"
    match entry.event:
        case "OfferSet":
            said = sentence(
                "Offered at {price} a call; the service node keeps {share} %."
                if values["open"]
                else "The offer was closed.",
                price=facts.amount(values["voucherPrice"]),
                share=f"{values['nodeShare'] / 100:g}",
            )
        case "PassBought":
            actor = values["buyer"]
            said = sentence(
                "bought pass {number} for {quota} calls at {price}",
                number=values["passId"],
                quota=values["quota"],
                price=facts.amount(values["price"]),
            )
        case "ChannelOpened":
            actor = values["payer"]
            said = sentence(
                "opened channel {channel} to {node} with {amount}",
                channel=shorten(values["channelId"]),
                node=facts.label(values["receiver"]),
                amount=facts.amount(values["deposit"]),
            )
        case "ChannelToppedUp":
            said = sentence(
                "Channel {channel} holds {amount} in all.",
                channel=shorten(values["channelId"]),
                amount=facts.amount(values["deposit"]),
            )
        case "ChannelSettled":
            tone = "final"
            said = sentence(
                "Channel {channel} settled: {node} to the service node, {split} to the split.",
                channel=shorten(values["channelId"]),
                node=facts.amount(values["toNode"]),
                split=facts.amount(values["toSplit"]),
            )
        case "ChannelCloseRequested":
            tone = "pending"
            said = sentence("The buyer asked to close channel {channel}.", channel=shorten(values["channelId"]))
        case "ChannelClosed":
            tone = "final"
            said = sentence(
                "Channel {channel} closed; {amount} went back to the buyer.",
                channel=shorten(values["channelId"]),
                amount=facts.amount(values["refunded"]),
            )
        case "Anchored":
            actor = values["node"]
            said = sentence(
                "anchored receipts {first} to {last}",
                first=values["firstSequence"],
                last=values["firstSequence"] + values["count"] - 1,
            )
        case _:
            return None
    return facts.event(entry, said, actor, tone)
