"""A data owner's own rules: which studies its node may sign without asking, and why it refuses the others."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from koinon.contracts.tokens import parse_amount
from koinon.jobs.solvers import least_rows
from koinon.jobs.study import AGREED, StudyFile
from koinon.kernel.errors import InvalidInput, Refused
from koinon.kernel.ids import Address, Hash32, parse_address, parse_hash, to_hex
from koinon.kernel.quantities import TokenAmount
from koinon.privacy.differential.budget import Budget

_KINDS: Final[dict[type, str]] = {list: "list of texts", float: "number"}


@dataclass(frozen=True)
class Policy:
    """What a data owner agrees to in advance.

    Attributes:
        purposes: a study's purpose must contain one of these phrases, whatever the case.
        publishers: accounts whose studies are considered; empty for any.
        minimum_parties: data owners that a study must have, this one included: with fewer, an owner could subtract
        its own part.
        allowed_programs: names of the algorithms that may run on its rows.
        allowed_functions: hashes of the functions that ``function/1`` may run on them: what a function opens is decided
        by whoever wrote it, so each is allowed by itself.
        allowed_engines: how they may be computed; engines differ in whom rows are protected against.
        allowed_outputs: names of outputs that may leave.
        allowed_joins: how rows of the same people may be brought together with other owners' (``jobs.study.JOINS``).
        minimum_group: least people behind any count or mean of a group that may leave.
        allow_exact_outputs: whether outputs without differential-privacy noise may leave.
        privacy_epsilon: ε that all noisy answers from one data set may cost together, for ever.
        privacy_delta: the δ for which that ε is computed.
        minimum_owner_fee: least pay for this owner, smallest token units.
        maximum_bond: most that this owner will lock.
    """

    purposes: tuple[str, ...]
    publishers: tuple[Address, ...]
    minimum_parties: int
    allowed_programs: tuple[str, ...]
    allowed_functions: tuple[Hash32, ...]
    allowed_engines: tuple[str, ...]
    allowed_outputs: tuple[str, ...]
    allowed_joins: tuple[str, ...]
    minimum_group: int
    allow_exact_outputs: bool
    privacy_epsilon: float
    privacy_delta: float
    minimum_owner_fee: TokenAmount
    maximum_bond: TokenAmount


def read_policy(path: Path) -> Policy:
    """Read ``policy.toml``. Raises InvalidInput naming the key that is missing, unknown or of the wrong kind."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as problem:
        raise InvalidInput(f"cannot read the policy file {path.name}: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise InvalidInput(f"{path.name} is not TOML: {problem}") from None
    expected: dict[str, type] = {
        "purposes": list,
        "publishers": list,
        "minimum_parties": int,
        "allowed_programs": list,
        "allowed_functions": list,
        "allowed_engines": list,
        "allowed_outputs": list,
        "allowed_joins": list,
        "minimum_group": int,
        "allow_exact_outputs": bool,
        "privacy_epsilon": float,
        "privacy_delta": float,
        "minimum_owner_fee": str,
        "maximum_bond": str,
    }
    table.setdefault("allowed_functions", [])
    for key in table:
        if key not in expected:
            raise InvalidInput(f"{path.name}: unknown key {key[:80]!r}; the keys are {', '.join(expected)}")
    for key, kind in expected.items():
        if key not in table:
            raise InvalidInput(f"{path.name}: the key {key!r} is missing")
        value = table[key]
        texts = not isinstance(value, list) or all(isinstance(entry, str) for entry in value)
        fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits or not texts:
            raise InvalidInput(f"{path.name}: {key!r} must be a {_KINDS.get(kind, kind.__name__)}")
    try:
        Budget(table["privacy_epsilon"], table["privacy_delta"])
    except InvalidInput as problem:
        raise InvalidInput(f"{path.name}: {problem}") from None
    return Policy(
        purposes=tuple(table["purposes"]),
        publishers=tuple(parse_address(text) for text in table["publishers"]),
        minimum_parties=table["minimum_parties"],
        allowed_programs=tuple(table["allowed_programs"]),
        allowed_functions=tuple(parse_hash(text) for text in table["allowed_functions"]),
        allowed_engines=tuple(table["allowed_engines"]),
        allowed_outputs=tuple(table["allowed_outputs"]),
        allowed_joins=tuple(table["allowed_joins"]),
        minimum_group=table["minimum_group"],
        allow_exact_outputs=table["allow_exact_outputs"],
        privacy_epsilon=float(table["privacy_epsilon"]),
        privacy_delta=float(table["privacy_delta"]),
        minimum_owner_fee=_amount(table, "minimum_owner_fee", path.name),
        maximum_bond=_amount(table, "maximum_bond", path.name),
    )


def _amount(table: dict[str, Any], key: str, where: str) -> TokenAmount:
    try:
        return parse_amount(table[key])
    except InvalidInput as problem:
        raise InvalidInput(f"{where}: {key!r}: {problem}") from None


def _smallest_group(study: StudyFile) -> int | None:
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import decode_settings, smallest_group

    return smallest_group(decode_settings(registry.offer(study.algorithm), study.settings))


def _check_function(study: StudyFile, policy: Policy, own_account: Address, rows: int) -> None:
    """Refuse a function that the policy does not name, or that is for other rows. Raises Refused."""
    from koinon.privacy.graphs.function_code import hash_of
    from koinon.privacy.programs import function, registry
    from koinon.privacy.programs.offer import decode_settings

    if study.algorithm != function.NAME:
        return
    settings: function.Settings = decode_settings(registry.offer(study.algorithm), study.settings)
    named = hash_of(settings.function)
    if named not in policy.allowed_functions:
        raise Refused(
            f"the policy does not allow the function {to_hex(named)}; a function can open anything, so its owner reads"
            " it (koinon study equations) and names it among allowed_functions"
        )
    place = [party.account for party in study.owners].index(own_account)
    written_for = function.code_of(settings).rows[place]
    if study.join == AGREED and written_for != rows:
        raise Refused(f"the function is for {written_for} rows of this owner, which has {rows}")


def agree(study: StudyFile, policy: Policy, own_account: Address, installed_algorithm: Hash32, rows: int) -> None:
    """Return if this owner may sign.

    Args:
        installed_algorithm: hash of the algorithm of that name as installed here: an owner runs only what it can
        read.
        rows: rows of this owner's data set for the study.

    Raises:
        Refused: with the first reason, in a sentence that the publisher will read.
    """
    if own_account not in {party.account for party in study.owners}:
        raise Refused("this organisation is not among the study's data owners")
    if study.algorithm_hash != installed_algorithm:
        raise Refused(f"the study's hash for {study.algorithm} is not that of the program installed here")
    if policy.publishers and study.publisher.account not in policy.publishers:
        raise Refused("the policy accepts no studies from this publisher")
    if not any(phrase.lower() in study.purpose.lower() for phrase in policy.purposes):
        raise Refused(f"the purpose is none the policy accepts ({'; '.join(policy.purposes)})")
    if len(study.owners) < policy.minimum_parties:
        raise Refused(f"it has {len(study.owners)} data owners; the policy asks for {policy.minimum_parties} or more")
    if study.algorithm not in policy.allowed_programs:
        raise Refused(f"the policy does not allow the program {study.algorithm}")
    if study.engine not in policy.allowed_engines:
        raise Refused(f"the policy does not allow the engine {study.engine}")
    _check_function(study, policy, own_account, rows)
    group = _smallest_group(study)
    if group is not None and group < policy.minimum_group:
        raise Refused(f"it shows groups of {group} people; the policy asks for {policy.minimum_group} or more")
    forbidden = [name for name in study.outputs if name not in policy.allowed_outputs]
    if forbidden:
        raise Refused(f"the output {forbidden[0]!r} is not allowed by the policy")
    if study.held and study.join not in policy.allowed_joins:
        raise Refused(f"the policy does not allow owners' people to be brought together by join = {study.join!r}")
    if study.epsilon == 0 and not policy.allow_exact_outputs:
        raise Refused("the output carries no noise and the policy does not allow exact outputs")
    if study.terms.owner_fee < policy.minimum_owner_fee:
        raise Refused("the fee for a data owner is below the policy's minimum")
    if study.terms.bond > policy.maximum_bond:
        raise Refused("the bond is above the policy's maximum")
    if rows < (least := least_rows(study)):
        raise Refused(f"the data set has fewer than the {least} rows the study asks for")
