"""The command ``koinon``: one verb per noun, aligned tables, ``--json`` for machines.

Exit codes: 0 done; 1 internal error; 2 invalid input; 3 refused by policy, state or budget; 4 forged or damaged;
5 unavailable or too late; 6 a joint computation aborted; 130 interrupted.
"""

import importlib
import sys
from typing import Final

import click

from koinon import __version__
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, ProtocolAbort, Refused, Unavailable

EXIT_CODES: Final[tuple[tuple[type[KoinonError], int], ...]] = (
    (Refused, 3),
    (InvalidInput, 2),
    (Forged, 4),
    (Unavailable, 5),
    (ProtocolAbort, 6),
    (KoinonError, 1),
)

COMMANDS: Final = {
    "demo": "koinon.cli.demo:demo",
    "network": "koinon.cli.network:network",
    "node": "koinon.cli.node:node",
    "study": "koinon.cli.study:study",
    "data": "koinon.cli.data:data",
    "model": "koinon.cli.model:model",
    "call": "koinon.cli.call:call",
    "audit": "koinon.cli.audit:audit",
    "verify": "koinon.cli.audit:verify",
    "site": "koinon.cli.site:site",
    "sim": "koinon.cli.sim:sim",
}


class LazyGroup(click.Group):
    """Imports a command only when it is asked for: a node must start in little more than a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, name = target.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="koinon")
def cli() -> None:
    """Train models together without showing a row; publish, serve, pay and audit them."""


def exit_code(problem: KoinonError) -> int:
    """The documented exit code of an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(problem, kind))


def main() -> None:
    """Entry point: every error on purpose is one sentence on standard error and an exit code."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted; nothing half done was kept", err=True)
        sys.exit(130)
    except click.ClickException as problem:
        problem.show()
        sys.exit(2)
    except KoinonError as problem:
        click.echo(f"koinon: {problem}", err=True)
        sys.exit(exit_code(problem))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
