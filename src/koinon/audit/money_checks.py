"""Checks of receipts and money: anchored batches, a sample answer, passes, vouchers, and every split to the unit."""

from itertools import pairwise
from typing import Final

from koinon.audit.evidence import ServiceReceipts
from koinon.audit.exhibit import Exhibit
from koinon.audit.facts import Event, text_of
from koinon.audit.model_checks import last
from koinon.audit.receipts import anchor_of, check_batch, verify_receipt
from koinon.audit.study_checks import COMMITTEE_SIZE, study_of, terms_of
from koinon.contracts.eip712 import channels_domain
from koinon.kernel.errors import Forged
from koinon.kernel.ids import ZERO_HASH, Address, to_hex
from koinon.kernel.quantities import ALL_BASIS_POINTS, TokenAmount
from koinon.market.vouchers import Voucher, signer_of

_SECONDS_OF_A_DAY: Final = 86_400
_WORTH: Final = "worth"
"""The output with which a study shares revenue by what owners' rows add; only its result party can open it."""


def check_receipts(exhibit: Exhibit) -> str:
    """Batches are signed, without a gap, as anchored; each sample answer is in one, by these weights, and paid."""
    samples = 0
    for name, shown in exhibit.receipts:
        _check_batches(exhibit, name, shown)
        for proof in shown.samples:
            if proof.signed not in shown.batches:
                raise Forged(f"{name}: the batch of sample {proof.receipt.sequence} is not among the node's batches")
            _check_sample(exhibit, name, shown, proof.receipt.sequence)
            samples += 1
    return f"{sum(len(shown.batches) for _, shown in exhibit.receipts)} batches, {samples} sample answers"


def check_settlements(exhibit: Exhibit) -> str:
    """Each settlement was signed for by the payer and divided exactly as offered; the parts add up to the whole."""
    facts, service = exhibit.facts, exhibit.subject.service
    total = 0
    for opened in facts.all("Market", "ChannelOpened", serviceId=service):
        node_share = _offer_before(exhibit, opened)["nodeShare"]
        claimed = 0
        for settled in facts.all("Market", "ChannelSettled", channelId=opened["channelId"]):
            _check_voucher(exhibit, opened, settled)
            now = settled["claimed"]
            to_node = now * node_share // ALL_BASIS_POINTS - claimed * node_share // ALL_BASIS_POINTS
            if (settled["toNode"], settled["toSplit"]) != (to_node, now - claimed - to_node):
                raise Forged(f"a settlement of channel {to_hex(opened['channelId'])[:18]}… is divided wrongly")
            if to_node:
                _credit(exhibit, settled, "Market", opened["receiver"], to_node, "node share")
            if settled["toSplit"]:
                _check_distribution(exhibit, settled, settled["toSplit"])
            total += now - claimed
            claimed = now
    return f"{total} token units settled and divided exactly"


def check_passes(exhibit: Exhibit) -> str:
    """Each pass was sold at the price offered then, and the price divided exactly."""
    total = 0
    for bought in exhibit.facts.all("Market", "PassBought", serviceId=exhibit.subject.service):
        offer = _offer_before(exhibit, bought)
        period = exhibit.facts.call(bought).values["period"]
        days = -(-period // _SECONDS_OF_A_DAY)
        price = offer["pricePerCall"] * bought["quota"] + offer["pricePerDay"] * days
        if bought["price"] != price:
            raise Forged(f"pass {bought['passId']} cost {bought['price']}; the offer says {price}")
        if price:
            _check_distribution(exhibit, bought, price)
        total += price
    return f"{total} token units for passes divided exactly"


def check_study_fees(exhibit: Exhibit) -> str:
    """Completion paid the four members, every owner and the publisher exactly what the study's terms say."""
    completed = exhibit.facts.one("Studies", "Completed", studyId=exhibit.subject.study)
    proposed, terms = terms_of(exhibit)
    drawn = exhibit.facts.one("Studies", "Drawn", studyId=exhibit.subject.study, attempt=completed["attempt"])
    expected = [(member, terms["committeeFee"], "committee fee") for member in drawn["committee"]]
    for owner in terms["owners"]:
        expected += [(owner, terms["ownerFee"], "owner fee"), (owner, terms["bond"], "bond")]
    escrow = COMMITTEE_SIZE * terms["committeeFee"] + len(terms["owners"]) * (terms["ownerFee"] + terms["bond"])
    expected.append((proposed["publisher"], terms["bond"], "bond"))
    credited = [
        (event["account"], event["amount"], text_of(event["reason"]))
        for event in exhibit.facts.all("Studies", "Credited")
        if event.transaction is completed.transaction
    ]
    if credited != [entry for entry in expected if entry[1]]:
        raise Forged("the completion of the study paid other sums than its terms say")
    return f"{escrow + terms['bond']} token units paid out of escrow"


def check_split(exhibit: Exhibit) -> str:
    """The service's revenue goes to the data owners by the share in the study file, and the shares make a whole."""
    study = study_of(exhibit)
    shares = split_of(exhibit)
    if sum(shares.values()) != ALL_BASIS_POINTS:
        raise Forged(f"the shares of service {exhibit.subject.service} do not add up to the whole")
    if _WORTH in study.outputs:
        together = sum(shares.get(owner.account, 0) for owner in study.owners)
        if together != len(study.owners) * study.owner_revenue:
            raise Forged("the data owners together get another share than the study file says")
        return f"{len(study.owners)} owners together at {together} basis points, by the worth that the study opened"
    for owner in study.owners:
        if shares.get(owner.account, 0) != study.owner_revenue:
            raise Forged(f"owner {to_hex(owner.account)} gets another share than the study file says")
    return f"{len(study.owners)} owners at {study.owner_revenue} basis points each"


def split_of(exhibit: Exhibit) -> dict[Address, int]:
    """Who gets how many basis points of what the service earns."""
    split = exhibit.facts.one("Assets", "SplitSet", assetId=exhibit.subject.service)
    shares: dict[Address, int] = {}
    for payee, share in zip(split["payees"], split["shares"], strict=True):
        shares[payee] = shares.get(payee, 0) + share
    return shares


def _check_batches(exhibit: Exhibit, name: str, shown: ServiceReceipts) -> None:
    if not shown.batches:
        raise Forged(f"{name}: no batch is shown")
    node = last(exhibit, "Providers", "Registered", account=shown.account)["nodeId"]
    for signed in shown.batches:
        if signed.batch.node != node or signed.batch.service != exhibit.subject.service:
            raise Forged(f"{name}: a batch is by another node, or for another service")
        check_batch(signed)
    batches = [signed.batch for signed in shown.batches]
    if batches[0].first_sequence != 0 or any(
        a.first_sequence + a.count != b.first_sequence for a, b in pairwise(batches)
    ):
        raise Forged(f"{name}: the batches have a gap")
    begin = 0
    for event in exhibit.facts.all("Receipts", "Anchored", serviceId=exhibit.subject.service, node=shown.account):
        end = begin
        while end < len(batches) and batches[end].first_sequence < event["firstSequence"] + event["count"]:
            end += 1
        anchor = anchor_of(tuple(batches[begin:end])) if end > begin else None
        on_chain = (event["root"], event["count"], event["firstSequence"])
        if anchor is None or (anchor.root, anchor.count, anchor.first_sequence) != on_chain:
            raise Forged(f"{name}: the batches are not those anchored on the chain")
        begin = end


def _check_sample(exhibit: Exhibit, name: str, shown: ServiceReceipts, sequence: int) -> None:
    proof = next(proof for proof in shown.samples if proof.receipt.sequence == sequence)
    weights = last(exhibit, "Names", "ResolutionSet", modelId=exhibit.subject.model)["weightsHash"]
    receipt = verify_receipt(proof, weights=weights)
    anchored = sum(
        event["count"]
        for event in exhibit.facts.all("Receipts", "Anchored", serviceId=exhibit.subject.service, node=shown.account)
    )
    if sequence >= anchored:
        raise Forged(f"{name}: sample {sequence} is not anchored on the chain yet; {anchored} receipts are")
    if receipt.channel != ZERO_HASH:
        opened = exhibit.facts.one("Market", "ChannelOpened", channelId=receipt.channel)
        if opened["receiver"] != shown.account or opened["serviceId"] != exhibit.subject.service:
            raise Forged(f"{name}: sample {sequence} was paid through a channel to somebody else")
    if receipt.pass_number:
        exhibit.facts.one("Market", "PassBought", passId=receipt.pass_number, serviceId=exhibit.subject.service)


def _check_voucher(exhibit: Exhibit, opened: Event, settled: Event) -> None:
    call = exhibit.facts.call(settled).values
    domain = channels_domain(exhibit.network.chain_id, exhibit.contract("Market"))
    voucher = Voucher(opened["channelId"], TokenAmount(settled["claimed"]), call["signature"])
    if call["cumulative"] != settled["claimed"] or signer_of(domain, voucher) != opened["payer"]:
        raise Forged(f"a settlement of channel {to_hex(opened['channelId'])[:18]}… was not signed by its payer")


def _check_distribution(exhibit: Exhibit, cause: Event, amount: int) -> None:
    """Whether the split of the service was paid ``amount`` exactly, in the transaction of ``cause``."""
    service = exhibit.subject.service
    split = exhibit.facts.one("Assets", "SplitSet", assetId=service)
    publisher = exhibit.facts.one("Assets", "Minted", assetId=service)["publisher"]
    parts = [
        (payee, amount * share // ALL_BASIS_POINTS, "revenue")
        for payee, share in zip(split["payees"], split["shares"], strict=True)
    ]
    remainder = amount - sum(part for _, part, _ in parts)
    expected = [entry for entry in [*parts, (publisher, remainder, "remainder")] if entry[1]]
    credited = [
        (event["account"], event["amount"], text_of(event["reason"]))
        for event in exhibit.facts.all("Assets", "Credited", subject=service)
        if event.transaction is cause.transaction
    ]
    if credited != expected or sum(part for _, part, _ in credited) != amount:
        raise Forged(f"{cause.contract}.{cause.name} in block {cause.transaction.height} was not divided as agreed")


def _credit(exhibit: Exhibit, cause: Event, contract: str, account: Address, amount: int, reason: str) -> None:
    found = [
        event
        for event in exhibit.facts.all(contract, "Credited", account=account, amount=amount)
        if event.transaction is cause.transaction and text_of(event["reason"]) == reason
    ]
    if len(found) != 1:
        raise Forged(f"{to_hex(account)} was not credited the {reason} of {amount} in block {cause.transaction.height}")


def _offer_before(exhibit: Exhibit, event: Event) -> Event:
    latest = None
    for earlier in exhibit.facts.events:
        if earlier is event:
            break
        if (earlier.contract, earlier.name) == ("Market", "OfferSet") and earlier["serviceId"] == event["serviceId"]:
            latest = earlier
    if latest is None:
        raise Forged(f"the bundle does not show the offer of service {event['serviceId']}")
    return latest
