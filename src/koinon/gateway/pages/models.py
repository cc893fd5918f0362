"""Can I rely on this model? From its name, its evaluations, its provenance and its offers."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from koinon.gateway.facts import ROWS_OF_A_PAGE, Absent, Facts, credited, moment, named, reason, total
from koinon.gateway.journal import Entry, about, keys, last_of
from koinon.gateway.origins import of_entry, sentence
from koinon.gateway.pages.calling import ways_to_call
from koinon.gateway.pages.provenance import provenance_of
from koinon.gateway.pages.vectors import criteria_of, grade_of, weakest
from koinon.gateway.views.models import (
    Criterion,
    Endpoint,
    EvaluatorRow,
    HistoryPoint,
    ModelPage,
    ModelRow,
    ModelsPage,
    Share,
)
from koinon.gateway.views.parts import Quantity, Sentence, Tone
from koinon.gateway.writing import exact_decimal, shorten

GRADE_RULE: Final = sentence(
    "The grade is the worst of the graded measures, each judged by the worse end of its interval."
)


async def models_page(facts: Facts) -> ModelsPage:
    """``/models``."""
    names = [name for name in keys(facts.journal, "name") if _resolution(facts, name)]
    rows = await asyncio.gather(*(_row(facts, name) for name in reversed(names[-ROWS_OF_A_PAGE:])))
    measured = sum(row.grade is not None for row in rows)
    answer = sentence("Models with a name: {count}. Measured: {measured}.", count=len(rows), measured=measured)
    return ModelsPage(
        head=facts.head,
        answer=answer if rows else sentence("No model has a name yet, so there is nothing to call."),
        models=tuple(rows),
    )


async def _row(facts: Facts, name: str) -> ModelRow:
    resolution = _resolution(facts, name)
    assert resolution is not None, "only resolved names are listed"
    criteria = await _vector(facts, resolution.values["evaluationId"])
    offer = _offer(facts, _service_of(facts, resolution.values["modelId"]))
    return ModelRow(
        name=name,
        grade=grade_of(criteria),
        publisher=facts.party(_owner(facts, name)),
        price=None if offer is None else facts.from_entry(offer.values["voucherPrice"], offer),
        since=resolution.at,
    )


async def model_page(facts: Facts, name: str) -> ModelPage:
    """``/models/{name}``. Raises Absent where the name resolves to nothing."""
    resolution = _resolution(facts, name)
    if resolution is None:
        raise Absent(f"The name {name} stands for no model on this chain.")
    model, evaluation = resolution.values["modelId"], resolution.values["evaluationId"]
    resolved = (await facts.reader.view("Names", "resolve", name, since=last_of(facts.journal, "name", name)))[
        "resolution"
    ]
    criteria = await _vector(facts, evaluation)
    provenance = await provenance_of(facts, name, model, resolution.values["weightsHash"])
    service = _service_of(facts, model)
    offer = _offer(facts, service)
    evaluated = named(about(facts.journal, "evaluation", evaluation), "Finalised") if evaluation else ()
    since = max([resolution.at, *(entry.at for entry in evaluated)])
    grade = grade_of(criteria)
    reported = named(about(facts.journal, "evaluation", evaluation), "Revealed") if evaluation else ()
    endpoints = _endpoints(facts, service, resolved["endpoints"])
    return ModelPage(
        head=facts.head,
        name=name,
        owner=facts.party(_owner(facts, name)),
        answer=_answer(grade, criteria, len(reported), since),
        grade=grade,
        grade_rule=GRADE_RULE if criteria else None,
        weak=tuple(criterion.label for criterion in criteria if criterion.weak),
        since=since,
        model=model,
        weights_hash=resolution.values["weightsHash"],
        content_hash=provenance.content_hash,
        criteria=criteria,
        evaluation=evaluation or None,
        evaluators=await _evaluators(facts, evaluation, criteria),
        history=await _history(facts, name, model),
        nodes=provenance.nodes,
        edges=provenance.edges,
        endpoints=endpoints,
        calls=ways_to_call(name, [endpoint.url for endpoint in endpoints]),
        shares=_shares(facts, service),
        service=service,
        price=None if offer is None else facts.from_entry(offer.values["voucherPrice"], offer),
        node_share=None if offer is None else offer.values["nodeShare"],
    )


def name_of_service(facts: Facts, service: int) -> str | None:
    """The name under which a service's model is known, if any."""
    minted = named(about(facts.journal, "asset", service), "Minted")
    parents = set(minted[-1].values["parents"]) if minted else set()
    for name in keys(facts.journal, "name"):
        resolution = _resolution(facts, name)
        if resolution is not None and resolution.values["modelId"] in parents:
            return str(name)
    return None


def _resolution(facts: Facts, name: str) -> Entry | None:
    """The resolution in force: a transfer of the name clears it."""
    changes = named(about(facts.journal, "name", name), "ResolutionSet", "NameTransferred")
    return changes[-1] if changes and changes[-1].event == "ResolutionSet" else None


def _owner(facts: Facts, name: str) -> str:
    changes = named(about(facts.journal, "name", name), "NameRegistered", "NameTransferred")
    last = changes[-1].values if changes else {}
    return str(last.get("to", last.get("owner", "")))


def _service_of(facts: Facts, model: int) -> int | None:
    """The newest service made from a model; one with an open offer before one without."""
    services: list[int] = [
        entry.values["assetId"]
        for entry in about(facts.journal, "made from", model)
        if entry.event == "Minted" and entry.values["kind"] == 2
    ]
    offered = [service for service in services if (offer := _offer(facts, service)) and offer.values["open"]]
    return next(reversed(offered or services), None)


def _offer(facts: Facts, service: int | None) -> Entry | None:
    offers = named(about(facts.journal, "service", service), "OfferSet")
    return offers[-1] if offers else None


async def _vector(facts: Facts, evaluation: int) -> tuple[Criterion, ...]:
    finalised = named(about(facts.journal, "evaluation", evaluation), "Finalised") if evaluation else ()
    if not finalised:
        return ()
    terms = await facts.reader.view("Evaluations", "termsOf", evaluation, since=None)
    return criteria_of(
        terms["criteria"], finalised[-1].values["vector"], of_entry(finalised[-1], facts.reader.public_rpc)
    )


def _answer(grade: str | None, criteria: Sequence[Criterion], evaluators: int, since: int) -> Sentence:
    if not criteria:
        return sentence("Nobody has measured it. There is no reason to rely on it yet.")
    worst = weakest(criteria)
    measured = sentence(
        "Evaluators drawn by the chain who reported: {count}. Unchanged since {since}.",
        count=evaluators,
        since=moment(since),
    )
    if worst is None or grade is None:
        return sentence("Too little was measured for a grade. {measured}", measured=measured)
    found = sentence(
        "{label} {value} ({unit})",
        label=sentence(worst.label),
        value=exact_decimal(worst.value.value, 6, least=3),
        unit=sentence(worst.unit),
    )
    if any(criterion.weak for criterion in criteria):
        return sentence("Grade {grade}. Weak: {found}. {measured}", grade=grade, found=found, measured=measured)
    return sentence(
        "Grade {grade}: no measure falls below it. Weakest: {found}. {measured}",
        grade=grade,
        found=found,
        measured=measured,
    )


async def _evaluators(facts: Facts, evaluation: int, criteria: Sequence[Criterion]) -> tuple[EvaluatorRow, ...]:
    entries = about(facts.journal, "evaluation", evaluation) if evaluation else ()
    drawn = named(entries, "Drawn")
    if not drawn:
        return ()
    terms = await facts.reader.view("Evaluations", "termsOf", evaluation, since=None)
    return tuple(_evaluator(facts, account, entries, terms, criteria) for account in drawn[-1].values["evaluators"])


def _evaluator(
    facts: Facts, account: str, entries: Sequence[Entry], terms: Mapping[str, Any], criteria: Sequence[Criterion]
) -> EvaluatorRow:
    own = [entry for entry in entries if entry.values.get("evaluator") == account]
    revealed, lost = named(own, "Revealed"), named(own, "Outlier", "Absent")
    fees = [
        entry
        for entry in credited(entries, "Evaluations")
        if entry.values["account"] == account and entry.values["reason"] == "evaluation fee"
    ]
    state: str
    tone: Tone
    if named(own, "Outlier"):
        state, tone = "outlier, lost stake", "failed"
    elif named(own, "Absent"):
        state, tone = "stayed away, lost stake", "failed"
    elif fees:
        state, tone = "agreed", "final"
    elif revealed:
        state, tone = "revealed", "pending"
    else:
        state, tone = ("committed", "pending") if named(own, "Committed") else ("drawn", "pending")
    found: dict[str, Quantity] = {}
    if revealed:
        origin = of_entry(revealed[-1], facts.reader.public_rpc)
        for name, score in zip(terms["criteria"], revealed[-1].values["scores"], strict=False):
            found[name] = Quantity(value=score["value"], unit="ppm", origin=origin)
    return EvaluatorRow(
        party=facts.party(account),
        state=state,
        tone=tone,
        values=tuple(found.get(criterion.identifier) for criterion in criteria),
        evidence_hash=revealed[-1].values["evidenceHash"] if revealed else None,
        paid=facts.from_entries(total(fees), fees) if fees else None,
        lost=facts.from_entries(total(lost, "slashed"), lost) if lost else None,
    )


async def _history(facts: Facts, name: str, model: int) -> tuple[HistoryPoint, ...]:
    points = []
    for requested in about(facts.journal, "evaluations of", model)[-32:]:
        number = requested.values["requestId"]
        for entry in named(about(facts.journal, "evaluation", number), "Finalised", "Ended"):
            criteria = await _vector(facts, number)
            said = (
                sentence("Evaluation {number} gave grade {grade}.", number=number, grade=grade_of(criteria) or "–")
                if entry.event == "Finalised"
                else sentence(
                    "Evaluation {number} gave no vector: {reason}.",
                    number=number,
                    reason=reason(entry.values["reason"]),
                )
            )
            values = {criterion.identifier: criterion.score for criterion in criteria if criterion.score is not None}
            points.append(HistoryPoint(at=entry.at, evaluation=number, sentence=said, values=values))
    before: Mapping[str, Any] = {}
    for entry in named(about(facts.journal, "name", name), "ResolutionSet"):
        if entry.values["weightsHash"] != before.get("weightsHash"):
            said = sentence("The name stands for weights {hash}.", hash=shorten(entry.values["weightsHash"]))
        elif entry.values["evaluationId"] != before.get("evaluationId"):
            said = sentence("The name points to evaluation {number}.", number=entry.values["evaluationId"])
        else:
            said = sentence("The endpoints of the name were set anew.")
        points.append(HistoryPoint(at=entry.at, evaluation=entry.values["evaluationId"], sentence=said, values={}))
        before = entry.values
    return tuple(sorted(points, key=lambda point: point.at))


def _endpoints(facts: Facts, service: int | None, resolved: Sequence[Mapping[str, Any]]) -> tuple[Endpoint, ...]:
    anchors = named(about(facts.journal, "service", service), "Anchored")
    statuses = {status.account.lower(): status for status in facts.statuses}
    rows = []
    for endpoint in resolved:
        node = endpoint["node"].lower()
        status = statuses.get(node)
        own = [entry.at for entry in anchors if entry.values["node"].lower() == node]
        rows.append(
            Endpoint(
                url=endpoint["url"],
                node=facts.party(endpoint["node"]),
                alive="unknown" if status is None else "answers" if status.alive else "silent",
                last_anchor_at=own[-1] if own else None,
            )
        )
    return tuple(rows)


def _shares(facts: Facts, service: int | None) -> tuple[Share, ...]:
    splits = named(about(facts.journal, "asset", service), "SplitSet") if service is not None else ()
    if not splits:
        return ()
    values = splits[-1].values
    return tuple(
        Share(party=facts.party(account), basis_points=share)
        for account, share in zip(values["payees"], values["shares"], strict=True)
    )
