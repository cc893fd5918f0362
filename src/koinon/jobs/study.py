"""The study file: one agreed private computation, as its publisher signs it and every data owner reads it.

Two forms of one content: ``study.toml``, which people write, and ``StudyFile``, whose canonical encoding is hashed
(``specification_hash``, on the chain) and signed. Column ranges are public: owners map their columns into them
before sharing, and refuse rows outside them, so that nothing in the joint computation can overflow.
"""

import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from koinon.contracts.tokens import parse_amount
from koinon.crypto.hash import keccak256
from koinon.crypto.signature import NodeKey, verify_node_signature
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, InvalidInput, KoinonError
from koinon.kernel.ids import Address, Hash32, NodeId, parse_address, parse_node_id
from koinon.kernel.quantities import ALL_BASIS_POINTS, BasisPoints, TokenAmount
from koinon.wire.committee import Column

SIGNATURE_DOMAIN: Final = "koinon study file 1"
MAXIMUM_COLUMNS: Final = 1000
MAXIMUM_OWNERS: Final = 16
LEAST_EPSILON: Final = 0.01
LARGEST_EPSILON: Final = 50.0
AGREED: Final = "agreed"
"""Owners of different columns know beforehand that they hold the same people."""
MATCHED: Final = "psi"
"""Their nodes find out who is in all owners' data, and share the rows of those."""
OBLIVIOUS: Final = "oblivious"
"""The committee puts rows of the same people side by side without anybody learning who they are."""
JOINS: Final = (AGREED, MATCHED, OBLIVIOUS)


class Party(Record, frozen=True):
    """A party of a study: its node on the network and its account on the chain."""

    name: str
    node_id: NodeId
    account: Address


class Terms(Record, frozen=True):
    """Money and time. Amounts in smallest token units, durations in seconds."""

    committee_fee: TokenAmount
    """To each of the four committee members."""
    owner_fee: TokenAmount
    """To each data owner."""
    bond: TokenAmount
    """Posted by each owner and the publisher; lost by a party that does not reveal its nonce."""
    consent_seconds: int
    reveal_seconds: int
    run_seconds: int
    challenge_seconds: int
    maximum_attempts: int


class StudyFile(Record, frozen=True):
    """The agreed computation.

    ``target`` is a 0/1 column beside the others, one of the columns, or empty, as the algorithm has it; only with a 0/1
    target is there a ``sensitive_column``. ``epsilon`` is what the output costs every row's privacy budget, at a δ of
    10⁻⁶ and for one row replaced by another; 0 declares an exact, noiseless output.
    """

    version: int
    title: str
    purpose: str
    algorithm: str
    algorithm_hash: Hash32
    columns: tuple[Column, ...]
    target: str
    sensitive_column: str
    outputs: tuple[str, ...]
    epsilon: float
    minimum_rows: int
    owners: tuple[Party, ...]
    publisher: Party
    owner_revenue: BasisPoints
    """Share of the model's later revenue that each owner receives; the publisher receives the rest."""
    terms: Terms
    chain_id: int
    studies_contract: Address
    settings: bytes = b""
    """Encoding of the algorithm's own settings record; empty for its defaults."""
    held: tuple[tuple[str, ...], ...] = ()
    """Names of the columns, the target's among them, that each owner brings, where owners hold different columns of the
    same people; empty where each brings all columns of its own people. In a join several owners may bring the same
    columns of different people."""
    people: bytes = b""
    """With ``held`` and people agreed on: their root, see ``data.people``."""
    join: str = AGREED
    """With ``held``: how rows of the same people come together; one of ``JOINS``."""
    planted: int = 0
    """Rows with random labels that each owner adds to its own in secret; a model that gives those labels back is not
    opened, see ``differential.canaries``."""
    engine: str = "rep4"
    """How it is computed, and so against whom rows are protected; see ``privacy.engines``."""


def is_crossed(study: StudyFile) -> bool:
    """Whether rows and columns are both split, and owners of different columns find out in pairs whom both have."""
    return study.join == MATCHED and len(set(study.held)) < len(study.held)


class SignedStudy(Record, frozen=True):
    """A study file with its publisher's node signature."""

    study: bytes
    signature: bytes


def specification_hash(study: StudyFile) -> Hash32:
    """keccak256 of the canonical encoding: the study's name on the chain."""
    return keccak256(encode(study))


def escrow(study: StudyFile) -> TokenAmount:
    """What the publisher locks besides its bond: four committee fees and every owner's fee."""
    return TokenAmount(4 * study.terms.committee_fee + len(study.owners) * study.terms.owner_fee)


def sign_study(study: StudyFile, key: NodeKey) -> SignedStudy:
    """Sign as the publisher. Raises InvalidInput where ``study`` breaks a rule or names another publisher."""
    check_study(study)
    if study.publisher.node_id != key.node_id:
        raise InvalidInput("the study names another publisher than the node that signs it")
    body = encode(study)
    return SignedStudy(body, key.sign(SIGNATURE_DOMAIN, body))


def open_study(signed: SignedStudy) -> StudyFile:
    """Read a signed study, whole or not at all.

    Raises:
        InvalidInput: it breaks a rule.
        Forged: the signature is not the named publisher's.
    """
    study = decode(StudyFile, signed.study)
    check_study(study)
    verify_node_signature(study.publisher.node_id, SIGNATURE_DOMAIN, signed.study, signed.signature)
    return study


def open_study_named(signed: SignedStudy, expected: Hash32) -> StudyFile:
    """As ``open_study``, and refuse a file other than the one whose hash is on the chain. Raises Forged."""
    study = open_study(signed)
    if specification_hash(study) != expected:
        raise Forged("the study file is not the one whose hash is on the chain; ask the publisher for that file")
    return study


def check_study(study: StudyFile) -> None:
    """Raise InvalidInput with one sentence for the first rule the study breaks."""
    for problem in _problems(study):
        raise InvalidInput(f"study {study.title[:80]!r}: {problem}")


def check_draft(study: StudyFile) -> None:
    """As ``check_study``, of a study whose solver may still have to be chosen."""
    from koinon.privacy.programs import registry

    if study.algorithm in registry.names():
        from koinon.jobs import solvers
        from koinon.privacy.programs.owner_sums import AUTO, ROWS, SUMS

        if solvers.has_choice(study) and solvers.solver_of(study) == AUTO:
            # One way that can be taken is enough.
            by_sums = solvers.with_solver(study, SUMS)
            study = solvers.with_solver(study, ROWS) if _problems(by_sums) else by_sums
    check_study(study)


def _problems(study: StudyFile) -> "list[str]":
    found: list[str] = []

    def rule(holds: bool, sentence: str) -> None:
        if not holds:
            found.append(sentence)

    names = [column.name for column in study.columns]
    terms = study.terms
    rule(study.version == 1, f"version {study.version} is not 1, the one this release reads")
    rule(0 < len(study.title) <= 200 and 0 < len(study.purpose) <= 500, "give it a title and a purpose in a sentence")
    rule(1 <= len(names) <= MAXIMUM_COLUMNS, f"it needs 1 to {MAXIMUM_COLUMNS} columns")
    rule(len(set(names)) == len(names), "two columns have the same name")
    rule(all(0 < len(name) <= 200 for name in names), "a column name is empty or longer than 200 characters")
    for column in study.columns:
        finite = math.isfinite(column.low) and math.isfinite(column.high)
        rule(finite and column.low < column.high, f"column {column.name[:80]!r} needs a finite range with low < high")
    found += _program_problems(study, names)
    found += _split_problems(study, names)
    found += _planting_problems(study)
    rule(
        study.epsilon == 0 or LEAST_EPSILON <= study.epsilon <= LARGEST_EPSILON,
        f"epsilon must be 0 (exact) or from {LEAST_EPSILON:g} to {LARGEST_EPSILON:g}",
    )
    rule(study.minimum_rows >= 10, "minimum_rows must be at least 10 for each owner")
    rule(2 <= len(study.owners) <= MAXIMUM_OWNERS, f"it needs 2 to {MAXIMUM_OWNERS} data owners")
    accounts = [party.account for party in (*study.owners, study.publisher)]
    nodes = [party.node_id for party in (*study.owners, study.publisher)]
    rule(len(set(accounts)) == len(accounts) and len(set(nodes)) == len(nodes), "a party is named twice")
    rule(all(len(account) == 20 for account in accounts), "an account is not 20 bytes")
    rule(all(len(node) == 32 for node in nodes), "a node id is not 32 bytes")
    rule(
        len(study.algorithm_hash) == 32 and len(study.studies_contract) == 20, "a hash or an address has a wrong length"
    )
    if not found:
        from koinon.jobs.solvers import problems

        found += problems(study) or _engine_problems(study)
    owners_share = len(study.owners) * study.owner_revenue
    rule(study.owner_revenue >= 0 and owners_share <= ALL_BASIS_POINTS, "the owners' revenue shares exceed the whole")
    rule(min(terms.committee_fee, terms.owner_fee, terms.bond) >= 0, "amounts must not be negative")
    rule(max(terms.committee_fee, terms.owner_fee, terms.bond) < 1 << 96, "an amount is too large for the chain")
    durations = (terms.consent_seconds, terms.reveal_seconds, terms.run_seconds, terms.challenge_seconds)
    rule(all(1 <= seconds <= 30 * 86400 for seconds in durations), "every time-out must be 1 second to 30 days")
    rule(1 <= terms.maximum_attempts <= 16, "maximum_attempts must be 1 to 16")
    return found


def _split_problems(study: StudyFile, names: list[str]) -> list[str]:
    """What is wrong with which owner brings which column."""
    if not study.held:
        if study.people or study.join != AGREED:
            return ["people are agreed on, or joined, only where owners hold different columns"]
        return []
    beside = [study.target] if study.target and study.target not in names else []
    tables = set(study.held) if study.join == OBLIVIOUS or is_crossed(study) else study.held
    brought = [name for table in tables for name in table]
    if len(study.held) != len(study.owners) or not all(study.held):
        return ["every owner must bring a column, or all of them every column"]
    if sorted(brought) != sorted([*names, *beside]):
        return [
            "every column, and the target, must come from exactly one owner; only with join ="
            f" {OBLIVIOUS!r} or {MATCHED!r} may several owners bring the same columns, all of them"
        ]
    if study.join not in JOINS:
        return [f"no join is called {study.join[:80]!r}; there is {', '.join(JOINS)}"]
    if study.join == AGREED and len(study.people) != 32:
        return [
            "owners of different columns must agree on the people; give their root, as koinon data add shows it,"
            f" or join = {MATCHED!r} or {OBLIVIOUS!r}"
        ]
    if study.join != AGREED and study.people:
        return ["people are either agreed on or found by a join; leave out the root or the join"]
    if is_crossed(study) and len(tables) != 2:
        return [f"with join = {MATCHED!r} several owners bring the same columns only where there are two sets"]
    if study.join == OBLIVIOUS and len(tables) < 2:
        return ["a join is between owners of different columns, and here all bring the same"]
    return []


def _planting_problems(study: StudyFile) -> list[str]:
    """What is wrong with the rows that owners are to plant."""
    if study.planted == 0:
        return []
    from koinon.privacy.differential.canaries import LEAST_PLANTED, MOST_PLANTED
    from koinon.privacy.programs import registry

    if study.algorithm in registry.names() and not registry.offer(study.algorithm).judges_planted:
        return [f"{study.algorithm} makes no model that planted rows could be tried on; plant none"]
    if study.epsilon:
        return ["noise already hides every single row; plant rows only where epsilon is 0"]
    if study.held:
        return ["rows are planted where each owner brings rows of its own, not columns of the same people"]
    if study.planted < 0 or not LEAST_PLANTED <= study.planted * len(study.owners) <= MOST_PLANTED:
        return [f"the owners together must plant {LEAST_PLANTED} to {MOST_PLANTED} rows, or none"]
    return []


def _engine_problems(study: StudyFile) -> list[str]:
    """What the engine has to say about a study that is sound otherwise."""
    from koinon.jobs.inputs import parameters
    from koinon.privacy.engines import engine_named
    from koinon.privacy.programs.offer import Parameters

    if study.planted and study.engine != "rep4":
        return ["rows are planted among shares; plant none, or name the engine rep4"]
    try:
        given = decode(Parameters, parameters(study, (study.minimum_rows + study.planted,) * len(study.owners)))
        refusal = engine_named(study.engine).refusal(study.algorithm, given)
    except InvalidInput as problem:
        return [str(problem)]
    return [f"the engine {study.engine} does not run it: {refusal}"] if refusal else []


def _program_problems(study: StudyFile, names: list[str]) -> list[str]:
    """What the algorithm itself has to say: it must be known, with these outputs, this target and these settings."""
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import Target, decode_settings

    if study.algorithm not in registry.names():
        return [f"no algorithm is called {study.algorithm[:80]!r}; there is {', '.join(registry.names())}"]
    offer = registry.offer(study.algorithm)
    try:
        registry.check_outputs(offer, study.outputs, decode_settings(offer, study.settings))
    except KoinonError as problem:
        return [str(problem)]
    if unusable := _function_problem(study):
        return [unusable]
    if study.epsilon and offer.noisy is None:
        return ["noisy outputs are not offered by this algorithm; set epsilon to 0 (exact) or use another"]
    if not study.epsilon and not offer.exact:
        return [f"{study.algorithm} learns through noise only; set epsilon above 0"]
    if study.join == OBLIVIOUS and (offer.paired is None or study.epsilon):
        able = [name for name in registry.names() if registry.offer(name).paired is not None]
        return [f"an oblivious join gives exact outputs of {' or '.join(able)}; use one of them, or join = {MATCHED!r}"]
    match offer.target:
        case Target.BINARY if study.target in names or study.target == "":
            return ["the target must be a column that is not also a feature"]
        case Target.BINARY if study.sensitive_column not in names:
            return [f"sensitive_column {study.sensitive_column[:80]!r} is none of the columns"]
        case Target.NUMBER if study.target not in names:
            return [f"the target {study.target[:80]!r} must be one of the columns, with its range"]
        case Target.NONE if study.target != "":
            return [f"{study.algorithm} predicts nothing; leave the target empty"]
        case Target.NUMBER | Target.NONE if study.sensitive_column != "":
            return [f"{study.algorithm} makes no model whose fairness is measured; leave sensitive_column empty"]
    return []


def _function_problem(study: StudyFile) -> str:
    """What is wrong with the function that a study brings, whatever rows owners turn out to have; empty for none."""
    from koinon.jobs.inputs import layout
    from koinon.privacy.programs import function, registry
    from koinon.privacy.programs.offer import decode_settings

    if study.algorithm != function.NAME:
        return ""
    code = function.code_of(decode_settings(registry.offer(study.algorithm), study.settings))
    if len(code.rows) != len(study.owners):
        return f"the function is for {len(code.rows)} owners, and the study has {len(study.owners)}"
    if min(code.rows) < study.minimum_rows:
        return f"the function is for owners of fewer rows than minimum_rows, {study.minimum_rows}"
    try:
        function.check_rows(code, layout(study, code.rows))
    except InvalidInput as problem:
        return str(problem)
    return ""


def read_study_toml(
    path: Path,
    *,
    algorithm_hash: Callable[[str, str], Hash32],
    publisher: Party,
    chain_id: int,
    studies_contract: Address,
) -> StudyFile:
    """Read the form people write.

    The publisher's own node fills in who it is and on which chain.

    Args:
        algorithm_hash: gives the hash of the installed algorithm of that name on the engine of that name.

    What it leaves to be chosen (``jobs.solvers``) is left so.

    Raises:
        InvalidInput: unreadable, an unknown or missing key, or a rule broken; the sentence names the key.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as problem:
        raise InvalidInput(f"cannot read the study file {path.name}: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise InvalidInput(f"{path.name} is not TOML: {problem}") from None
    reader = _Reader(table, path.name)
    terms = _Reader(reader.table("terms"), f"{path.name} [terms]")
    algorithm = reader.text("algorithm")
    engine = reader.text("engine") if reader.has("engine") else "rep4"
    settings = _settings(algorithm, reader.table("settings") if reader.has("settings") else {})
    owners = tuple(_party(entry, path.name) for entry in reader.entries("owners"))
    listed = [_column(entry, path.name) for entry in reader.entries("columns")]
    target = reader.text("target")
    holders = [(column.name, holder) for column, brought_by in listed for holder in brought_by]
    if reader.has("target_owner"):
        holders += [(target, holder) for holder in reader.texts("target_owner")]
    study = StudyFile(
        version=1,
        title=reader.text("title"),
        purpose=reader.text("purpose"),
        algorithm=algorithm,
        algorithm_hash=algorithm_hash(algorithm, engine),
        columns=tuple(column for column, _ in listed),
        target=target,
        sensitive_column=reader.text("sensitive_column"),
        outputs=tuple(str(name) for name in reader.entries("outputs")),
        epsilon=reader.number("epsilon"),
        minimum_rows=reader.integer("minimum_rows"),
        owners=owners,
        publisher=publisher,
        owner_revenue=BasisPoints(reader.integer("owner_revenue_basis_points")),
        terms=Terms(
            committee_fee=terms.amount("committee_fee"),
            owner_fee=terms.amount("owner_fee"),
            bond=terms.amount("bond"),
            consent_seconds=terms.integer("consent_seconds"),
            reveal_seconds=terms.integer("reveal_seconds"),
            run_seconds=terms.integer("run_seconds"),
            challenge_seconds=terms.integer("challenge_seconds"),
            maximum_attempts=terms.integer("maximum_attempts"),
        ),
        chain_id=chain_id,
        studies_contract=studies_contract,
        settings=settings,
        held=_held(owners, holders, path.name),
        people=_people(reader.text("people"), path.name) if reader.has("people") else b"",
        join=reader.text("join") if reader.has("join") else AGREED,
        planted=reader.integer("planted") if reader.has("planted") else 0,
        engine=engine,
    )
    reader.nothing_else()
    terms.nothing_else()
    check_draft(study)
    return study


def _settings(algorithm: str, table: dict[str, Any]) -> bytes:
    from koinon.privacy.programs import registry
    from koinon.privacy.programs.offer import settings_from

    return settings_from(registry.offer(algorithm), table)


def _column(entry: object, where: str) -> tuple[Column, list[str]]:
    """The column, and the names of the owners that bring it; none where every owner does."""
    reader = _Reader(entry, f"{where} columns")
    column = Column(reader.text("name"), reader.number("low"), reader.number("high"))
    holders = reader.texts("owner") if reader.has("owner") else []
    reader.nothing_else()
    return column, holders


def _held(owners: tuple[Party, ...], holders: list[tuple[str, str]], where: str) -> tuple[tuple[str, ...], ...]:
    names = [party.name for party in owners]
    for column, holder in holders:
        if holder not in names:
            raise InvalidInput(f"{where}: column {column[:80]!r} comes from {holder[:80]!r}, who is no owner")
    if not holders:
        return ()
    return tuple(tuple(column for column, holder in holders if holder == name) for name in names)


def _people(text: str, where: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise InvalidInput(f"{where}: 'people' must be the root that koinon data add shows, in hexadecimal") from None


def _party(entry: object, where: str) -> Party:
    reader = _Reader(entry, f"{where} owners")
    party = Party(reader.text("name"), parse_node_id(reader.text("node")), parse_address(reader.text("account")))
    reader.nothing_else()
    return party


class _Reader:
    """Takes typed values out of a TOML table and remembers which keys nobody asked for."""

    def __init__(self, table: object, where: str) -> None:
        if not isinstance(table, dict):
            raise InvalidInput(f"{where}: expected a table of keys and values")
        self._left: dict[str, Any] = dict(table)
        self._where = where

    def _take(self, key: str, kinds: tuple[type, ...], what: str) -> Any:
        if key not in self._left:
            raise InvalidInput(f"{self._where}: the key {key!r} is missing; it must be {what}")
        value = self._left.pop(key)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise InvalidInput(f"{self._where}: {key!r} must be {what}")
        return value

    def text(self, key: str) -> str:
        return str(self._take(key, (str,), "a text in quotes"))

    def texts(self, key: str) -> list[str]:
        """A text, or a list of them."""
        what = "a text in quotes, or a list of them"
        found = self._take(key, (str, list), what)
        texts = [found] if isinstance(found, str) else found
        if not all(isinstance(text, str) for text in texts):
            raise InvalidInput(f"{self._where}: {key!r} must be {what}")
        return texts

    def integer(self, key: str) -> int:
        return int(self._take(key, (int,), "a whole number"))

    def number(self, key: str) -> float:
        return float(self._take(key, (int, float), "a number"))

    def amount(self, key: str) -> TokenAmount:
        text = self.text(key)
        try:
            return parse_amount(text)
        except InvalidInput as problem:
            raise InvalidInput(f"{self._where}: {key!r}: {problem}") from None

    def entries(self, key: str) -> list[Any]:
        return list(self._take(key, (list,), "a list"))

    def table(self, key: str) -> dict[str, Any]:
        return dict(self._take(key, (dict,), "a table"))

    def has(self, key: str) -> bool:
        return key in self._left

    def nothing_else(self) -> None:
        if self._left:
            raise InvalidInput(
                f"{self._where}: unknown key {next(iter(self._left))[:80]!r}; remove it or correct its name"
            )
