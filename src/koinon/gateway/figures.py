"""What the drawings show, as plain values that ``static/charts.js`` draws and a table beside each repeats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from koinon.gateway.views.budget import BudgetPage
from koinon.gateway.views.models import GraphNode, ModelPage
from koinon.gateway.views.network import NetworkPage
from koinon.gateway.views.parts import Flow
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


@dataclass(frozen=True, slots=True)
class Box:
    """A box of the provenance drawing: its node, the corner it starts at, its lines of text."""

    node: GraphNode
    x: int
    y: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes and lines, in units of the drawing; each line is ``(x1, y1, x2, y2)``."""

    width: int
    height: int
    box_width: int
    box_height: int
    boxes: tuple[Box, ...]
    lines: tuple[tuple[int, int, int, int], ...]


def drawing(page: Any, language: Language, upright: bool) -> Drawing:
    """Data → study → model → variant → service: left to right, or downwards for a narrow screen."""
    columns = sorted({node.column for node in page.nodes})
    placed: dict[str, Box] = {}
    width, height, offset = 0, 0, 0
    box_width, box_height = (112, 56) if upright else (152, 56)
    tallest = max((sum(node.column == column for node in page.nodes) for column in columns), default=1)
    for place, column in enumerate(columns):
        nodes = [node for node in page.nodes if node.column == column]
        for row, node in enumerate(nodes):
            if upright:
                rows = [nodes[i : i + 3] for i in range(0, len(nodes), 3)]
                line = rows[row // 3]
                x = (3 - len(line)) * 60 + (row % 3) * 120
                y = offset + (row // 3) * 72
            else:
                x = place * (box_width + 76)
                y = row * 72 + (tallest - len(nodes)) * 36
            placed[node.identifier] = Box(node, x, y, _lines(say(node.label, language), 14 if upright else 20))
            width, height = max(width, x + box_width), max(height, y + box_height)
        offset = height + 40
    lines = []
    for edge in page.edges:
        one, other = placed[edge.source], placed[edge.target]
        if upright:
            lines.append((one.x + box_width // 2, one.y + box_height, other.x + box_width // 2, other.y - 2))
        else:
            lines.append((one.x + box_width, one.y + box_height // 2, other.x - 2, other.y + box_height // 2))
    return Drawing(352 if upright else width, height, box_width, box_height, tuple(placed.values()), tuple(lines))


def _lines(label: str, letters: int) -> tuple[str, ...]:
    """A label on at most two lines."""
    if len(label) <= letters:
        return (label,)
    cut = max(label.rfind(mark, 0, letters) for mark in " .-_") + 1 or letters
    rest = label[cut:].strip()
    return (label[:cut].strip(), rest if len(rest) <= letters else f"{rest[: letters - 1]}…")


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
                    (
                        one.name or one.account,
                        ", ".join(say(role, language) for role in one.roles),
                        say(one.alive, language),
                    )
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
    """Nodes and links of a Sankey. A party that pays in one layer and is paid in another is two nodes: no loops."""
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


def spending(page: BudgetPage, _: Language) -> dict[str, Any]:
    """ε of everything that had left by each moment, in millionths, oldest first, and what the owner allows."""
    return {
        "allowed": page.allowed.value if page.allowed else 0,
        "points": [
            {"at": row.at, "value": row.together.value}
            for row in reversed(page.answers)
            if row.at is not None and row.together is not None
        ],
    }


def shares(page: BudgetPage, language: Language) -> dict[str, Any]:
    """By how much each study brought ε up, in millionths, and what is left."""
    left = [{"label": say("left", language), "value": page.left.value, "left": True}] if page.left else []
    return {
        "parts": [
            {"label": say(part.label, language), "value": part.grown.value, "left": False}
            for part in page.parts[-MAXIMUM_LINKS:]
        ]
        + left
    }


FIGURES: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "radar": radar,
    "network": network,
    "sankey": sankey,
    "history": history,
    "spending": spending,
    "shares": shares,
}
