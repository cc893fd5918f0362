"""``koinon node snapshot``: the ledger's state as a file, to bring up a validator without the history."""

from pathlib import Path

import click

from koinon.cli.console import console, shorten
from koinon.cli.options import HOME
from koinon.kernel.codec import decode
from koinon.kernel.errors import InvalidInput
from koinon.ledger.genesis import Genesis
from koinon.node.home import Home

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def snapshot() -> None:
    """The ledger's state as a file, checked against a finality proof."""


@snapshot.command("export")
@HOME
@_FILE
def export(folder: Path, file: Path) -> None:
    """Write the last final state to FILE; the node may run meanwhile."""
    from koinon.ledger.snapshot import write_snapshot
    from koinon.store.keyvalue import LmdbStore

    genesis = _genesis(folder)
    with LmdbStore.reading_only(_ledger(folder)) as store:
        manifest = write_snapshot(store, file, genesis.last_height)
    header = manifest.proof.headers[0]
    console.print(
        f"wrote the state after block {header.height} to {file.name}: {manifest.entries} entries, state root "
        f"{shorten(header.state_root)}"
    )


@snapshot.command("import")
@HOME
@_FILE
def take_over(folder: Path, file: Path) -> None:
    """Check FILE whole and make it this node's state; stop the node first. Run it again if it was interrupted."""
    from koinon.ledger.finality import manifest_check
    from koinon.ledger.snapshot_import import import_snapshot
    from koinon.ledger.validator import STORE_BYTES
    from koinon.store.keyvalue import LmdbStore

    genesis = _genesis(folder)
    genesis.check()
    store = LmdbStore.open(folder / "ledger", STORE_BYTES)
    try:
        header = import_snapshot(store, file, genesis.hash, manifest_check(genesis.validator_set()))
    finally:
        store.close()
    console.print(f"took over the state after block {header.height}, state root {shorten(header.state_root)}")


def _genesis(folder: Path) -> Genesis:
    try:
        return decode(Genesis, Home(folder).genesis.read_bytes())
    except OSError as problem:
        raise InvalidInput(f"a validator has the file genesis in its home ({problem.strerror})") from None


def _ledger(folder: Path) -> Path:
    path = folder / "ledger"
    if not path.is_dir():
        raise InvalidInput(f"there is no ledger in {folder.name} yet; start the node once")
    return path
