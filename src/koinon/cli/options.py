"""Options that many commands share, and what they lead to: a node's home, or a chain and the contracts on it."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from koinon.kernel.errors import InvalidInput
from koinon.node.config import BootstrapNode, read_config
from koinon.node.home import Home

if TYPE_CHECKING:
    from koinon.contracts.suite import Suite
    from koinon.crypto.signature import AccountKey

_F = TypeVar("_F", bound=Callable[..., Any])

HOME = click.option("--home", "folder", type=click.Path(path_type=Path), required=True, help="The node's home folder.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@dataclass(frozen=True)
class ChainAccess:
    """What somebody needs to read a network's chain, and to ask its nodes.

    Attributes:
        urls: of the chain's JSON-RPC, tried in order; they may hold an access key, so they are never printed.
        contracts: ``0x`` addresses of the suite by lower-case contract name.
        keepers: nodes that know where every other node is; empty where nobody said which.
    """

    urls: tuple[str, ...]
    contracts: dict[str, str]
    keepers: tuple[BootstrapNode, ...]


def chain_options(command: _F) -> _F:
    """Adds ``--home``, ``--chain`` and ``--suite``, which become ``folder``, ``urls`` and ``suite_file``."""
    command = click.option(
        "--suite",
        "suite_file",
        type=click.Path(path_type=Path),
        help="The network's card: what koinon suite show --json prints.",
    )(command)
    command = click.option(
        "--chain", "urls", multiple=True, help="URL of the chain's JSON-RPC; repeat for several, tried in order."
    )(command)
    return click.option(
        "--home", "folder", type=click.Path(path_type=Path), help="A node's home, whose node.toml names both."
    )(command)


def chain_access(folder: Path | None, urls: tuple[str, ...], suite_file: Path | None) -> ChainAccess:
    """What the options of ``chain_options`` stand for.

    Raises:
        InvalidInput: they name no chain or no contracts, or a file is not what it should be.
    """
    if folder is not None and suite_file is not None:
        raise InvalidInput("give --home or --suite, not both: each names the contracts")
    if folder is not None:
        config = read_config(Home(folder).config)
        if not config.chain.suite:
            raise InvalidInput(f"the node in {folder.name} knows no contracts yet; run: koinon suite adopt")
        contracts = {name: "0x" + address.hex() for name, address in config.chain.suite}
        return ChainAccess(urls or config.chain.rpc, contracts, config.bootstrap)
    if suite_file is None:
        raise InvalidInput("say which chain and contracts: --home DIR of a node, or --chain URL with --suite FILE")
    card_urls, contracts, keepers = read_card(suite_file)
    if not (urls or card_urls):
        raise InvalidInput(f"{suite_file.name} names no chain; add --chain URL of its JSON-RPC")
    return ChainAccess(urls or card_urls, contracts, keepers)


def read_card(path: Path) -> tuple[tuple[str, ...], dict[str, str], tuple[BootstrapNode, ...]]:
    """A network's card: URLs, contracts, keepers. Raises InvalidInput where the file is none."""
    from koinon.contracts.suite import parse_addresses
    from koinon.kernel.ids import parse_node_id

    try:
        table = json.loads(path.read_text("utf-8"))
        contracts = {str(name): str(address) for name, address in table["contracts"].items()}
        keepers = tuple(
            BootstrapNode(parse_node_id(str(one["node"])), str(one["host"]), int(one["port"]))
            for one in table.get("keepers", ())
        )
        urls = tuple(str(url) for url in table.get("rpc", ()))
    except OSError as problem:
        raise InvalidInput(f"cannot read {path.name}: {problem.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidInput(f"{path.name} is not a network's card; print one with: koinon suite show --json") from None
    parse_addresses(contracts)
    return urls, contracts, keepers


@asynccontextmanager
async def open_suite(access: ChainAccess, key: "AccountKey | None" = None) -> "AsyncIterator[Suite]":
    """The contracts, through a client that is closed in the end."""
    from koinon.contracts.client import ChainClient
    from koinon.contracts.suite import Suite, parse_addresses

    async with ChainClient(list(access.urls), key) as client:
        yield Suite.at(client, parse_addresses(access.contracts))


def read_text(path: Path) -> str:
    """A small text file of the user's. Raises InvalidInput where it cannot be read."""
    try:
        if path.stat().st_size > 16 << 20:
            raise InvalidInput(f"{path.name} is larger than 16 MiB; it is not what this command reads")
        return path.read_text("utf-8")
    except OSError as problem:
        raise InvalidInput(f"cannot read {path.name}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path.name} is not UTF-8 text") from None


def write_new(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file that is not there yet, whole or not at all. Raises InvalidInput where it exists."""
    import os

    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.link(temporary, path)  # unlike a rename, this never takes the place of a file
    except FileExistsError:
        raise InvalidInput(f"{path.name} exists already; choose another name or remove it") from None
    except OSError as problem:
        raise InvalidInput(f"cannot write {path.name}: {problem.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def amount(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """click callback: an amount of tokens such as ``12.5``, as smallest units."""
    from koinon.contracts.tokens import parse_amount

    return None if value is None else parse_amount(value)
