"""``node.toml``: what an operator decides about a node. Read whole, with one exact sentence for the first mistake."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address, NodeId, parse_address, parse_node_id, to_hex

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


def read_config(path: Path) -> NodeConfig:
    """Read and check. Raises InvalidInput naming the key."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as problem:
        raise InvalidInput(f"cannot read {path.name} ({problem.strerror}); run: koinon node init") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise InvalidInput(f"{path.name} is not TOML: {problem}") from None
    known = {
        "name",
        "roles",
        "host",
        "port",
        "rpc_port",
        "service_port",
        "operator",
        "bootstrap",
        "chain",
        "allow_faults",
    }
    _only(table, known, path.name)
    roles = tuple(_get(table, "roles", list, path.name))
    for role in roles:
        if role not in ROLES:
            raise InvalidInput(f"{path.name}: no role is called {str(role)[:40]!r}; the roles are {', '.join(ROLES)}")
    chain = _get(table, "chain", dict, path.name)
    _only(chain, {"rpc", "chain_id", "suite"}, f"{path.name} [chain]")
    suite = chain.get("suite", {})
    if not isinstance(suite, dict):
        raise InvalidInput(f"{path.name} [chain]: suite must be a table of contract names and addresses")
    return NodeConfig(
        name=_get(table, "name", str, path.name),
        roles=roles,
        host=_get(table, "host", str, path.name),
        port=_port(table, "port", path.name),
        rpc_port=_port(table, "rpc_port", path.name),
        service_port=_port(table, "service_port", path.name),
        operator=_get(table, "operator", str, path.name),
        bootstrap=tuple(_bootstrap(entry, path.name) for entry in _get(table, "bootstrap", list, path.name)),
        chain=ChainConfig(
            rpc=tuple(str(url) for url in _get(chain, "rpc", list, f"{path.name} [chain]")),
            chain_id=_get(chain, "chain_id", int, f"{path.name} [chain]"),
            suite=tuple((str(name), parse_address(str(address))) for name, address in suite.items()),
        ),
        allow_faults=bool(table.get("allow_faults", False)),
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
        f"allow_faults = {str(config.allow_faults).lower()}  # only for demonstrations",
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
    ]
    temporary = path.with_suffix(".new")
    temporary.write_text("\n".join(lines) + "\n", "utf-8")
    temporary.replace(path)


def _quoted(text: str) -> str:
    if any(ord(character) < 32 or character in '"\\' for character in text):
        raise InvalidInput(f"{text[:40]!r} holds a character that a configuration value may not hold")
    return f'"{text}"'


def _only(table: dict[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise InvalidInput(f"{where}: unknown key {key[:60]!r}; the keys are {', '.join(sorted(known))}")


def _get(table: dict[str, Any], key: str, kind: type, where: str) -> Any:
    if key not in table:
        raise InvalidInput(f"{where}: the key {key!r} is missing")
    if type(table[key]) is not kind:
        raise InvalidInput(f"{where}: {key!r} must be a {kind.__name__}")
    return table[key]


def _port(table: dict[str, Any], key: str, where: str) -> int:
    port = int(_get(table, key, int, where))
    if not 0 <= port <= 65535:
        raise InvalidInput(f"{where}: {key!r} must be a port from 0 (any free one) to 65535")
    return port


def _bootstrap(entry: object, where: str) -> BootstrapNode:
    if not isinstance(entry, dict):
        raise InvalidInput(f"{where}: every entry of bootstrap needs node, host and port")
    _only(entry, {"node", "host", "port"}, f"{where} bootstrap")
    return BootstrapNode(
        parse_node_id(_get(entry, "node", str, where)), _get(entry, "host", str, where), _port(entry, "port", where)
    )
