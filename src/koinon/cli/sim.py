"""``koinon sim``: the protocols in a simulated world, where one seed replays everything."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click
from rich.progress import track

from koinon.cli.console import console, errors, print_json, print_table
from koinon.cli.options import JSON
from koinon.kernel.errors import KoinonError

if TYPE_CHECKING:
    from koinon.ledger.giskard.simulation import Scenario

PLANTS: Final = (
    "height-only-voting",
    "two-certificate-finality",
    "finality-across-any-views",
    "no-write-ahead",
    "skipped-view-change-check",
    "final-closing-blocks",
    "full-closing-blocks",
    "unmarked-closing-blocks",
)
SEEDS: Final = click.option(
    "--seeds", default=100, type=click.IntRange(1, 10**7), show_default=True, help="How many seeds."
)
FIRST: Final = click.option("--from", "first", default=1, type=click.IntRange(0), show_default=True, help="First seed.")


@click.group()
def sim() -> None:
    """Simulated networks with crashes, partitions and liars; a seed that fails replays exactly."""


@sim.command()
@SEEDS
@FIRST
@click.option("--nodes", default=4, type=click.IntRange(4, 40), show_default=True, help="Validators.")
@click.option("--byzantine", default=1, type=click.IntRange(0), show_default=True, help="How many of them lie.")
@click.option("--epochs", type=click.IntRange(1, 20), help="Epochs, each with validators of its own; 1 by default.")
@click.option("--crashes", type=click.IntRange(0, 100), help="Crashes of honest ones; 3 by default.")
@click.option(
    "--voting", type=click.Choice(("broadcast", "collected")), help="Who hears a vote: all, by default, or proposers."
)
@click.option("--plant", type=click.Choice(PLANTS), help="Take one safeguard away, to see that this is noticed.")
@click.option("--jobs", default=1, type=click.IntRange(1, 64), show_default=True, help="Processes to share the work.")
@JSON
def consensus(
    seeds: int,
    first: int,
    nodes: int,
    byzantine: int,
    epochs: int | None,
    crashes: int | None,
    voting: str | None,
    plant: str | None,
    jobs: int,
    as_json: bool,
) -> None:
    """Giskard: safety whatever happens, liveness once the network is calm. Exit code 1 if a property breaks.

    Three of four seeds are networks with loss, delay, partitions, crashes and skewed clocks; every fourth is a game
    against an adversary that decides who sees which message. An interrupt prints what was found and how to go on.
    """
    from koinon.ledger.giskard.exploration import Findings, explore_all

    if 3 * byzantine >= nodes:
        raise click.UsageError(f"{nodes} validators bear at most {(nodes - 1) // 3} liars")
    scenario = _scenario(nodes, byzantine, epochs, crashes, voting, plant)
    started = time.monotonic()
    findings = Findings()
    verdicts = explore_all(scenario, range(first, first + seeds), jobs)
    interrupted = False
    try:
        for verdict in track(
            verdicts,
            total=seeds,
            description="schedules",
            console=errors,
            transient=True,
            disable=as_json or not errors.is_terminal,
        ):
            findings.add(verdict)
    except KeyboardInterrupt:
        interrupted = True
        verdicts.close()
    settings = f" --nodes {nodes} --byzantine {byzantine}"
    for option, value in (("epochs", epochs), ("crashes", crashes), ("voting", voting), ("plant", plant)):
        settings += "" if value is None else f" --{option} {value}"
    facts: dict[str, Any] = {
        "schedules": findings.schedules,
        "first_seed": first,
        "nodes": nodes,
        "byzantine": byzantine,
        "epochs": scenario.epochs,
        "voting": scenario.voting.value,
        "plant": plant,
        "violations": sum(len(told) for _, told in findings.broken),
        "blocks_finalised": findings.blocks,
        "networks": findings.networks,
        "live_after_calm": findings.live,
        "steps": findings.steps,
        "seconds": round(time.monotonic() - started, 2),
        "broken": [
            {"seed": seed, "violations": told, "replay": f"koinon sim consensus --seeds 1 --from {seed}{settings}"}
            for seed, told in findings.broken
        ],
    }
    if as_json:
        print_json(facts)
    else:
        console.print(
            f"{findings.schedules} schedules in {facts['seconds']} s: {findings.blocks} blocks finalised, "
            f"{findings.live} of {findings.networks} networks live once calm, {len(findings.broken)} broke a property"
        )
        for one in facts["broken"][:10]:
            console.print(f"  seed {one['seed']}: {one['violations'][0]}")
    if interrupted:
        left, following = seeds - findings.schedules, first + findings.schedules
        errors.print(f"interrupted; go on with: koinon sim consensus --seeds {left} --from {following}{settings}")
        raise KeyboardInterrupt
    if findings.broken:
        raise KoinonError(
            f"{len(findings.broken)} of {findings.schedules} schedules broke a property; "
            f"replay the first: {facts['broken'][0]['replay']}"
        )


def _scenario(
    nodes: int, byzantine: int, epochs: int | None, crashes: int | None, voting: str | None, plant: str | None
) -> "Scenario":
    from koinon.ledger.giskard.plants import PLANTS as SCENARIOS
    from koinon.ledger.giskard.simulation import Scenario
    from koinon.ledger.giskard.state import Voting

    scenario = replace(Scenario() if plant is None else SCENARIOS[plant], nodes=nodes, byzantine=byzantine)
    if epochs is not None:
        scenario = replace(scenario, epochs=epochs, spare=(nodes + 1) // 2 if epochs > 1 else 0)
    if voting is not None:
        scenario = replace(scenario, voting=Voting(voting))
    return scenario if crashes is None else replace(scenario, crashes=crashes)


@sim.command()
@click.option("--trials", default=100, type=click.IntRange(1, 10**7), show_default=True, help="How many trials.")
@click.option("--from", "first", default=1, type=click.IntRange(0), show_default=True, help="Seed of the first trial.")
@JSON
def rep4(trials: int, first: int, as_json: bool) -> None:
    """Four-party computation with one position that lies once: is it caught before anything opens, is nobody framed?

    "proved" counts evidence for strangers, "alone" what names the liar by its own signatures (or to the result party),
    "named" what names it alone, by those or by a judge; "promised" is who is to be named whenever it is noticed.
    """
    from koinon.privacy.rep4.adversary import summary, trial
    from koinon.privacy.rep4.lies import Lie
    from koinon.privacy.rep4.verdict import COUNTED, NAMED

    verdicts = [trial(seed) for seed in range(first, first + trials)]
    counts = summary(verdicts)
    bad = [one for one in verdicts if one.is_broken]
    promised = {lie: NAMED[Lie[lie.upper()]].value for lie in counts}
    if as_json:
        report = {lie: {**row, "promised": promised[lie]} for lie, row in counts.items()}
        print_json({"trials": trials, "first_seed": first, "lies": report, "broken": [one.seed for one in bad]})
    else:
        names = ("trials", *COUNTED)
        print_table(
            ("lie", *(name.replace("_", " ") for name in names)),
            [(lie, *(row[name] for name in names)) for lie, row in counts.items()],
            right=tuple(range(1, 1 + len(names))),
        )
    if bad:
        raise KoinonError(
            f"{len(bad)} of {trials} trials broke a property; replay the first: koinon sim rep4 --trials 1"
            f" --from {bad[0].seed}"
        )


@sim.command()
@SEEDS
@FIRST
@JSON
def federated(seeds: int, first: int, as_json: bool) -> None:
    """Secure aggregation with owners that drop out or lie, and aggregators that lie: is anybody unmasked or framed?"""
    from koinon.privacy.federated.simulation import summary, trial

    verdicts = [trial(seed) for seed in range(first, first + seeds)]
    counts = summary(verdicts)
    bad = [verdict for verdict in verdicts if verdict.violations]
    replay = "koinon sim federated --seeds 1 --from"
    if as_json:
        broken = [{"seed": one.seed, "violations": one.violations, "replay": f"{replay} {one.seed}"} for one in bad]
        print_json({"rounds": seeds, "first_seed": first, "scenarios": counts, "broken": broken})
    else:
        names = ("rounds", "dropped", "summed", "failed", "named", "broken")
        print_table(
            ("who misbehaves", *names),
            [(scenario, *(row[name] for name in names)) for scenario, row in counts.items()],
            right=tuple(range(1, 1 + len(names))),
        )
    if bad:
        raise KoinonError(
            f"{len(bad)} of {seeds} rounds broke a property ({bad[0].violations[0]}); replay the first: {replay}"
            f" {bad[0].seed}"
        )
