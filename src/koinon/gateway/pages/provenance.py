"""Where a model comes from: data → study → model → variant → service, read from the assets' own edges."""

from dataclasses import dataclass
from typing import Final

from koinon.gateway.facts import Facts, named
from koinon.gateway.journal import about
from koinon.gateway.origins import sentence, verbatim
from koinon.gateway.views.models import GraphEdge, GraphNode
from koinon.gateway.views.parts import Sentence

KINDS: Final = ("dataset", "model", "service")
COLUMNS: Final = {"dataset": 0, "study": 1, "model": 2, "variant": 3, "service": 4}
MAXIMUM_NODES: Final = 48


@dataclass(frozen=True, slots=True)
class Provenance:
    """The graph, and the content hash of the model asset itself."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    content_hash: str | None


async def provenance_of(facts: Facts, name: str, model: int, weights_hash: str) -> Provenance:
    """The ancestors and services of a model, at most ``MAXIMUM_NODES`` boxes.

    A model made from another model is a variant of it. Where the named model has no such parent, the weights that the
    name promises stand as its one variant.
    """
    nodes: dict[str, GraphNode] = {}
    edges: list[GraphEdge] = []
    content_hash = None
    waiting, seen = [model], {model}
    has_parent_model = False
    while waiting and len(nodes) < MAXIMUM_NODES:
        number = waiting.pop(0)
        asset = await facts.reader.view("Assets", "assetOf", number, since=None)
        kind = KINDS[asset["kind"]] if asset["kind"] < len(KINDS) else "model"
        parents = [(parent, await _kind_of(facts, parent)) for parent in asset["parents"]]
        parent_models = [parent for parent, of in parents if of == "model"]
        if number == model:
            content_hash, has_parent_model = asset["contentHash"], bool(parent_models)
        shown = "variant" if kind == "model" and parent_models else kind
        owner = facts.label(asset["publisher"])
        label = verbatim(owner if shown == "dataset" else f"{name} #{number}")
        _add(nodes, f"asset {number}", label, shown, asset["contentHash"])
        for parent, _ in parents:
            edges.append(GraphEdge(source=f"asset {parent}", target=f"asset {number}"))
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)
        if asset["studyId"] and kind == "model" and not parent_models:
            _add_study(facts, nodes, edges, asset["studyId"], number)
    if not has_parent_model:
        _add(nodes, "weights", sentence("served weights"), "variant", weights_hash)
        edges.append(GraphEdge(source=f"asset {model}", target="weights"))
    last = f"asset {model}" if has_parent_model else "weights"
    for entry in named(about(facts.journal, "made from", model), "Minted"):
        if entry.values["kind"] == KINDS.index("service") and len(nodes) < MAXIMUM_NODES:
            number = entry.values["assetId"]
            _add(
                nodes,
                f"asset {number}",
                sentence("service {number}", number=number),
                "service",
                entry.values["contentHash"],
                f"/settlement/{number}",
            )
            edges.append(GraphEdge(source=last, target=f"asset {number}"))
    kept = [
        edge for edge in dict.fromkeys((e.source, e.target) for e in edges) if edge[0] in nodes and edge[1] in nodes
    ]
    return Provenance(
        nodes=tuple(sorted(nodes.values(), key=lambda node: node.column)),
        edges=tuple(GraphEdge(source=source, target=target) for source, target in kept),
        content_hash=content_hash,
    )


def _add(
    nodes: dict[str, GraphNode],
    identifier: str,
    label: Sentence,
    kind: str,
    content: str | None,
    link: str | None = None,
) -> None:
    nodes[identifier] = GraphNode(
        identifier=identifier,
        label=label,
        kind=kind,  # type: ignore[arg-type]  # one of the keys of COLUMNS
        column=COLUMNS[kind],
        hash=content,
        link=link,
    )


def _add_study(facts: Facts, nodes: dict[str, GraphNode], edges: list[GraphEdge], study: int, model: int) -> None:
    """The study between its data and its model. Data that was minted goes through the study; data that was only
    consented with is shown by the hash in the consent.
    """
    entries = about(facts.journal, "study", study)
    completed = named(entries, "Completed")
    digest = completed[0].values["outputDigest"] if completed else None
    identifier = f"study {study}"
    _add(nodes, identifier, sentence("study {number}", number=study), "study", digest, f"/studies/{study}")
    minted: set[str] = set()
    for edge in [edge for edge in edges if edge.target == f"asset {model}"]:
        entry = named(about(facts.journal, "asset", int(edge.source.split()[1])), "Minted")
        if entry and entry[0].values["kind"] == KINDS.index("dataset"):
            edges.remove(edge)
            edges.append(GraphEdge(source=edge.source, target=identifier))
            minted.add(entry[0].values["contentHash"])
    for consent in named(entries, "Consented"):
        if consent.values["datasetHash"] not in minted:
            place = f"data of {consent.values['owner']}"
            _add(nodes, place, verbatim(facts.label(consent.values["owner"])), "dataset", consent.values["datasetHash"])
            edges.append(GraphEdge(source=place, target=identifier))
    edges.append(GraphEdge(source=identifier, target=f"asset {model}"))


async def _kind_of(facts: Facts, asset: int) -> str:
    kind = (await facts.reader.view("Assets", "assetOf", asset, since=None))["kind"]
    return KINDS[kind] if kind < len(KINDS) else "model"
