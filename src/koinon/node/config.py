"""``node.toml``: what an operator decides about a node. Read whole, with one exact sentence for the first mistake."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from koinon.jobs.member import Waits
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address, NodeId, parse_address, parse_node_id, to_hex
from koinon.ledger.rpc.limits import BOUNDS, Limits
from koinon.node.logs import FORMATS, LEVELS, LogConfig
from koinon.node.tables import Table, nearest

LAST_PORT: Final = 65535
LONGEST_WAIT: Final = 3600
LOOPBACK: Final = "127.0.0.1"
KEYS: Final = (
    "name",
    "roles",
    "operator",
    "host",
    "port",
    "rpc_port",
    "service_port",
    "monitor_host",
    "monitor_port",
    "hide_address",
    "keep_blocks",
    "allow_faults",
    "shared_models_of",
    "bootstrap",
    "chain",
    "rpc",
    "committee",
    "log",
)
LEAST_KEPT: Final = 256
"""Bodies of blocks that every validator keeps, for peers that were away for a moment."""
_WAITS: Final = ("greeting_seconds", "shares_seconds", "silence_seconds", "completion_seconds")
ROLES: Final = ("validator", "data", "publisher", "compute", "evaluator", "service")


@dataclass(frozen=True)
class BootstrapNode:
    """A node that keeps the directory of records; everybody announces there."""

    node_id: NodeId
    host: str
    port: int


@dataclass(frozen=True)
class ChainConfig:
    """Which chain, and through whose RPC.

    Attributes:
        rpc: URLs tried in order.
        suite: addresses of the contract suite by name; empty until it is deployed.
    """

    rpc: tuple[str, ...]
    chain_id: int
    suite: tuple[tuple[str, Address], ...]


@dataclass(frozen=True)
class NodeConfig:
    """The whole file. Ports are on ``host``, which is loopback unless the operator writes another."""

    name: str
    roles: tuple[str, ...]
    host: str
    port: int
    rpc_port: int
    service_port: int
    operator: str
    bootstrap: tuple[BootstrapNode, ...]
    chain: ChainConfig
    allow_faults: bool
    """Whether this operator lets a demonstration make the node misbehave (``koinon demo --chaos lie``)."""
    hide_address: bool = False
    """Whether this validator tells where it listens to the other validators only."""
    monitor_host: str = LOOPBACK
    keep_blocks: int | None = None
    """Of how many final blocks a validator keeps transactions and receipts; None for all."""
    monitor_port: int | None = None
    """Where ``/metrics`` and ``/health`` are answered; None for nowhere, 0 for any free port."""
    shared_models_of: tuple[NodeId, ...] = ()
    """Owners of models that this node keeps a share of; nobody's unless the operator names them."""
    rpc_limits: Limits = field(default_factory=Limits)
    """What each client of a validator's JSON-RPC is granted."""
    committee: Waits = field(default_factory=Waits)
    """How long this node waits for others where it is drawn into a committee."""
    log: LogConfig = field(default_factory=LogConfig)


def read_config(path: Path) -> NodeConfig:
    """Read and check. Raises InvalidInput with file, line, key, what was expected and what was found."""
    try:
        text = path.read_text("utf-8")
        values = tomllib.loads(text)
    except OSError as problem:
        raise InvalidInput(f"cannot read {path.name} ({problem.strerror}); run: koinon node init") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidInput(f"{path.name} is not TOML: {problem}") from None
    table = Table(path.name, text, values)
    table.only(KEYS)
    chain, log = table.table("chain"), table.table("log", optional=True)
    chain.only(("rpc", "chain_id", "suite"))
    log.only(("level", "format", "file", "file_bytes", "kept_files"))
    limits = table.table("rpc", optional=True)
    limits.only(tuple(BOUNDS))
    committee = table.table("committee", optional=True)
    committee.only(_WAITS)
    suite = chain.table("suite", optional=True)
    if table.flag("hide_address", default=False) and "validator" not in table.texts("roles"):
        raise table.error("hide_address", "false unless the node is a validator: whom else should others call", True)
    return NodeConfig(
        name=table.text("name"),
        roles=_roles(table),
        host=table.text("host"),
        port=table.whole("port", 0, LAST_PORT),
        rpc_port=table.whole("rpc_port", 0, LAST_PORT),
        service_port=table.whole("service_port", 0, LAST_PORT),
        operator=table.text("operator"),
        bootstrap=tuple(_bootstrap(entry) for entry in table.tables("bootstrap")),
        chain=ChainConfig(
            rpc=_urls(chain),
            chain_id=chain.whole("chain_id", 0, 2**53),
            suite=tuple((name, suite.parsed(name, parse_address, "an address")) for name in suite.values),
        ),
        allow_faults=table.flag("allow_faults", default=False),
        hide_address=table.flag("hide_address", default=False),
        monitor_host=table.text("monitor_host", default=LOOPBACK),
        monitor_port=table.whole("monitor_port", 0, LAST_PORT) if "monitor_port" in values else None,
        keep_blocks=table.whole("keep_blocks", LEAST_KEPT, 2**62) if "keep_blocks" in values else None,
        shared_models_of=_owners(table),
        rpc_limits=_read_limits(limits),
        committee=Waits(**{key: committee.whole(key, 1, LONGEST_WAIT) for key in committee.values}),
        log=LogConfig(
            level=log.choice("level", LEVELS, default="INFO"),
            format=log.choice("format", FORMATS, default="text"),
            file=log.text("file", default="", empty=True),
            file_bytes=log.whole("file_bytes", 1 << 12, 1 << 40, default=16 << 20),
            kept_files=log.whole("kept_files", 0, 1000, default=5),
        ),
    )


def write_config(path: Path, config: NodeConfig) -> None:
    """Write the file in the form ``read_config`` reads."""
    lines = [
        f"name = {_quoted(config.name)}",
        f"roles = [{', '.join(_quoted(role) for role in config.roles)}]",
        f"operator = {_quoted(config.operator)}  # committees never hold two nodes of one operator",
        f"host = {_quoted(config.host)}",
        f"port = {config.port}",
        f"rpc_port = {config.rpc_port}  # the chain's JSON-RPC, where this node validates",
        f"service_port = {config.service_port}  # where it answers for models it serves",
        *(
            ()
            if config.monitor_port is None
            else (
                f"monitor_host = {_quoted(config.monitor_host)}",
                f"monitor_port = {config.monitor_port}  # /metrics and /health; remove the line to have neither",
            )
        ),
        f"hide_address = {str(config.hide_address).lower()}  # a validator may tell the other validators only",
        *(
            ()
            if config.keep_blocks is None
            else (f"keep_blocks = {config.keep_blocks}  # older ones keep their header",)
        ),
        f"allow_faults = {str(config.allow_faults).lower()}  # only for demonstrations",
        *(
            ()
            if not config.shared_models_of
            else (f"shared_models_of = [{', '.join(_quoted(to_hex(one)) for one in config.shared_models_of)}]",)
        ),
        "bootstrap = [",
        *(
            f"  {{ node = {_quoted(to_hex(peer.node_id))}, host = {_quoted(peer.host)}, port = {peer.port} }},"
            for peer in config.bootstrap
        ),
        "]",
        "",
        "[chain]",
        f"rpc = [{', '.join(_quoted(url) for url in config.chain.rpc)}]",
        f"chain_id = {config.chain.chain_id}",
        "",
        "[chain.suite]",
        *(f"{name} = {_quoted(to_hex(address))}" for name, address in config.chain.suite),
        "",
        *_limits(config.rpc_limits),
        *_waits(config.committee),
        "[log]",
        f"level = {_quoted(config.log.level)}",
        f"format = {_quoted(config.log.format)}  # text or json",
        f"file = {_quoted(config.log.file)}  # empty for standard error",
        f"file_bytes = {config.log.file_bytes}",
        f"kept_files = {config.log.kept_files}",
    ]
    temporary = path.with_suffix(".new")
    temporary.write_text("\n".join(lines) + "\n", "utf-8")
    temporary.replace(path)


def _read_limits(table: Table) -> Limits:
    values: dict[str, Any] = {key: table.whole(key, *BOUNDS[key]) for key in table.values}
    return Limits(**values)


def _limits(limits: Limits) -> list[str]:
    """The limits that are not as they come, with their table; nothing where all are."""
    usual = Limits()
    lines = [f"{key} = {getattr(limits, key):.0f}" for key in BOUNDS if getattr(limits, key) != getattr(usual, key)]
    return ["[rpc]", *lines, ""] if lines else []


def _waits(waits: Waits) -> list[str]:
    """The waits that are not as they come, with their table; nothing where all are."""
    usual = Waits()
    lines = [f"{key} = {getattr(waits, key)}" for key in _WAITS if getattr(waits, key) != getattr(usual, key)]
    return ["[committee]", *lines, ""] if lines else []


def _quoted(text: str) -> str:
    if any(ord(character) < 32 or character in '"\\' for character in text):
        raise InvalidInput(f"{text[:40]!r} holds a character that a configuration value may not hold")
    return f'"{text}"'


def _roles(table: Table) -> tuple[str, ...]:
    roles = table.texts("roles")
    for role in roles:
        if role not in ROLES:
            raise table.error("roles", f"one of {', '.join(ROLES)}", role, nearest(role, ROLES))
    if len(set(roles)) != len(roles):
        raise table.error("roles", "each role once", roles)
    return roles


def _owners(table: Table) -> tuple[NodeId, ...]:
    if "shared_models_of" not in table.values:
        return ()
    texts = table.texts("shared_models_of")
    try:
        return tuple(parse_node_id(text) for text in texts)
    except InvalidInput:
        raise table.error("shared_models_of", "node ids, 0x and 64 hexadecimal digits each") from None


def _urls(chain: Table) -> tuple[str, ...]:
    urls = chain.texts("rpc")
    for url in urls:
        if not url.startswith(("http://", "https://")):
            # An address may hold an access key, so it is not repeated.
            raise chain.error("rpc", "URLs that begin with http:// or https://")
    return urls


def _bootstrap(entry: Table) -> BootstrapNode:
    entry.only(("node", "host", "port"))
    return BootstrapNode(
        entry.parsed("node", parse_node_id, "a node id"), entry.text("host"), entry.whole("port", 1, LAST_PORT)
    )
