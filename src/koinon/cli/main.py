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
    "demo": ("koinon.cli.demo:demo", "The main job on eleven processes, from rows to a checked answer."),
    "network": ("koinon.cli.network:network", "Eleven organisations on this machine: up, down, status."),
    "node": ("koinon.cli.node:node", "One organisation: init, genesis, start, join, status, stop, snapshot."),
    "stake": (
        "koinon.cli.stake:stake",
        "Validating and delegating: status, register, add, unstake, share, delegate, undelegate, claim, withdraw, "
        "evidence, work, apply, vote.",
    ),
    "suite": ("koinon.cli.suite:suite", "The contracts a network works with: deploy, adopt, show."),
    "account": ("koinon.cli.account:account", "Keys, balances and payments: new, show, pay, approve, withdraw."),
    "data": (
        "koinon.cli.data:data",
        "Your rows, leaving only as shares: mask, add, list, budget, ask, intersect, audit.",
    ),
    "study": (
        "koinon.cli.study:study",
        "A joint computation: programs, function, equations, new, estimate, propose, train, result, disclose, opened, "
        "judge, accuse, plead, case, show.",
    ),
    "model": (
        "koinon.cli.model:model",
        "A model: publish, harden, validate, name, serve, show; share, answer, ask, forget; outsource, multiply, work.",
    ),
    "call": ("koinon.cli.call:call", "Buy a pass, have rows answered, pay by voucher, check receipts."),
    "audit": ("koinon.cli.audit:audit", "Collect all evidence about a name into one file."),
    "verify": ("koinon.cli.audit:verify", "Check such a file offline, with no key."),
    "verify-finality": (
        "koinon.cli.finality:verify_finality",
        "Check offline that a block is final.",
    ),
    "site": ("koinon.cli.site:site", "The network's pages on this machine."),
    "sim": ("koinon.cli.sim:sim", "Protocols in a simulated world: consensus, rep4, federated."),
}
"""Where each command is, and its line in ``koinon --help``, which must not import it to print it."""


class LazyGroup(click.Group):
    """Imports a command only when it is asked for: a node must start in little more than a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="koinon")
def cli() -> None:
    """Train models together without showing a row; publish, serve, pay and audit them.

    Exit codes: 0 done; 1 internal error; 2 invalid input; 3 refused by policy, state or budget; 4 forged or damaged;
    5 unavailable or too late; 6 a joint computation aborted; 130 interrupted.
    """


def exit_code(problem: KoinonError) -> int:
    """The documented exit code of an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(problem, kind))


def main() -> None:
    """Entry point: every error on purpose is one sentence on standard error and an exit code."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("koinon: interrupted", err=True)
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
