"""A ``study.toml`` to start from: what ``koinon study new`` writes and people edit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from koinon.contracts.tokens import format_amount
from koinon.jobs.study import AGREED, Party, Terms
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import to_hex


@dataclass(frozen=True)
class Draft:
    """The contents of a new study file."""

    title: str
    purpose: str
    columns: tuple[tuple[str, float, float], ...]
    target: str
    sensitive_column: str
    owners: tuple[Party, ...]
    owner_revenue_basis_points: int
    minimum_rows: int
    terms: Terms
    algorithm: str = "logistic-regression/1"
    outputs: tuple[str, ...] = ("coefficients", "intercept")
    settings: Mapping[str, object] = field(default_factory=dict)
    holders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the owners that bring each column, the target among them; empty where each brings all."""
    people: bytes = b""
    epsilon: float = 0.0
    join: str = AGREED
    planted: int = 0
    engine: str = "rep4"


def write_draft(draft: Draft) -> str:
    """The text of the file, with a comment for everything that needs a decision."""
    terms = draft.terms
    split = bool(draft.holders)
    agreed = split and draft.join == AGREED
    beside = split and draft.target in draft.holders and draft.target not in {name for name, _, _ in draft.columns}
    lines = [
        "# A study: what is computed, for what, on whose rows, at what price. Every data owner signs exactly this.",
        f"title = {_text(draft.title)}",
        f"purpose = {_text(draft.purpose)}  # owners' policies look for phrases in it",
        f"algorithm = {_text(draft.algorithm)}",
        f"engine = {_text(draft.engine)}  # how, and so against whom rows are protected: koinon study estimate",
        f"target = {_text(draft.target)}  # the column that is predicted, if there is one",
        f"sensitive_column = {_text(draft.sensitive_column)}  # fairness of a model is measured over its tertiles",
        *([f"target_owner = {_names(draft.holders[draft.target])}"] if beside else []),
        *([f"people = {_text(to_hex(draft.people))}  # root of the ids; see koinon data add"] if agreed else []),
        *([f"join = {_text(draft.join)}  # how rows of the same people meet"] if split and not agreed else []),
        f"outputs = [{', '.join(_text(name) for name in draft.outputs)}]  # nothing else leaves",
        f"epsilon = {draft.epsilon:g}  # 0: exact, if policies allow it; above: noise, paid from every row's budget",
        *(
            [f"planted = {draft.planted}  # rows each owner adds in secret; a model that remembers them stays closed"]
            if draft.planted
            else []
        ),
        f"minimum_rows = {draft.minimum_rows}  # of each owner",
        f"owner_revenue_basis_points = {draft.owner_revenue_basis_points}  # each owner's part of what the model earns",
        "",
        "[terms]  # amounts in tokens, times in seconds",
        f"committee_fee = {_text(format_amount(terms.committee_fee))}  # to each of the four that compute",
        f"owner_fee = {_text(format_amount(terms.owner_fee))}  # to each data owner",
        f"bond = {_text(format_amount(terms.bond))}  # lost by a party that does not reveal its nonce",
        f"consent_seconds = {terms.consent_seconds}",
        f"reveal_seconds = {terms.reveal_seconds}",
        f"run_seconds = {terms.run_seconds}",
        f"challenge_seconds = {terms.challenge_seconds}  # a silent node has so long to answer on the chain",
        f"maximum_attempts = {terms.maximum_attempts}",
    ]
    if draft.settings:
        lines += ["", "[settings]  # of the algorithm"]
        lines += [f"{name} = {_value(value)}" for name, value in draft.settings.items()]
    for owner in draft.owners:
        lines += ["", "[[owners]]", f"name = {_text(owner.name)}"]
        lines += [f"node = {_text(to_hex(owner.node_id))}", f"account = {_text(to_hex(owner.account))}"]
    lines += ["", "# Public ranges: owners map their columns into them and refuse rows outside."]
    for name, low, high in draft.columns:
        lines += ["[[columns]]", f"name = {_text(name)}", f"low = {low!r}", f"high = {high!r}"]
        lines += [f"owner = {_names(draft.holders[name])}"] if split else []
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    """A setting as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case list() | tuple():
            return f"[{', '.join(_value(one) for one in value)}]"
    raise InvalidInput(f"a setting is a number, a text, true or false, or a list of them; got {type(value).__name__}")


def _names(names: Sequence[str]) -> str:
    return _text(names[0]) if len(names) == 1 else f"[{', '.join(map(_text, names))}]"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
