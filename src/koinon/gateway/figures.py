"""What the drawings show, as plain values that ``static/charts.js`` draws and a table beside each repeats."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from koinon.gateway.views import Flow, ModelPage, NetworkPage
from koinon.gateway.words import Language, say
from koinon.gateway.writing import exact_decimal

MAXIMUM_LINKS: Final = 400
"""Lines of one drawing; beyond that a picture tells nothing and its table tells all."""


def radar(page: ModelPage, language: Language) -> dict[str, Any]:
    """The trust vector: each criterion on its own scale from worst (0) to best (1,000,000), with its interval."""
    return {
        "axes": [
            {
                "label": say(criterion.label, language),
                "value": criterion.score,
                "low": criterion.score_low,
                "high": criterion.score_high,
                "weak": criterion.weak,
            }
            for criterion in page.criteria
            if criterion.score is not None
        ]
    }


def provenance(page: ModelPage, language: Language) -> dict[str, Any]:
    """Data → study → model → variant → service, left to right."""
    return {
        "nodes": [
            {
                "identifier": node.identifier,
                "label": node.label,
                "column": node.column,
                "kind_label": say(node.kind, language),
                "hash": node.hash,
                "link": node.link,
            }
            for node in page.nodes
        ],
        "edges": [{"source": edge.source, "target": edge.target} for edge in page.edges],
    }


def network(page: NetworkPage, language: Language) -> dict[str, Any]:
    """Organisations on a circle, neighbours by role, with the lines between them."""
    nodes = sorted(page.organisations, key=lambda one: (one.roles, one.name or "", one.account))
    return {
        "nodes": [
            {
                "identifier": one.account,
                "label": (one.name or f"{one.account[:6]}…{one.account[-4:]}")[:32],
                "kind": one.roles[0] if one.roles else "",
                "alive": one.alive,
                "detail": "\n".join(
                    (one.name or one.account, ", ".join(say(role, language) for role in one.roles), say(one.alive, language))
                ),
            }
            for one in nodes
        ],
        "links": [
            {"source": link.source, "target": link.target, "kind": link.kind} for link in page.links[:MAXIMUM_LINKS]
        ],
    }


def sankey(page: Any, language: Language) -> dict[str, Any]:
    """Money from buyer to every payee."""
    return sankey_of(page.flows, page.head.symbol, page.head.decimals, language)


def sankey_of(flows: Sequence[Flow], symbol: str, decimals: int, language: Language) -> dict[str, Any]:
    """Nodes and links of a Sankey. A party that pays in one layer and is paid in another is a node in each: no loops."""
    nodes: dict[str, str] = {}
    links: list[dict[str, Any]] = []
    for flow in [flow for flow in flows if flow.amount.value > 0][:MAXIMUM_LINKS]:
        source, target = f"{flow.layer}:{flow.payer}", f"{flow.layer + 1}:{flow.payee}"
        nodes[source], nodes[target] = say(flow.payer, language), say(flow.payee, language)
        amount = f"{exact_decimal(flow.amount.value, decimals, least=min(2, decimals))} {symbol}"
        links.append(
            {
                "source": source,
                "target": target,
                "value": flow.amount.value,
                "amount": amount,
                "source_label": nodes[source],
                "target_label": nodes[target],
            }
        )
    return {"nodes": [{"identifier": key, "label": label} for key, label in nodes.items()], "links": links}


def history(page: ModelPage, language: Language) -> dict[str, Any]:
    """Each criterion against time, one step per evaluation."""
    return {
        "series": [
            {
                "label": say(criterion.label, language),
                "points": [
                    {"at": point.at, "score": point.values[criterion.identifier], "said": str(point.evaluation)}
                    for point in page.history
                    if criterion.identifier in point.values
                ],
            }
            for criterion in page.criteria
        ]
    }


FIGURES: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "radar": radar,
    "provenance": provenance,
    "network": network,
    "sankey": sankey,
    "history": history,
}
