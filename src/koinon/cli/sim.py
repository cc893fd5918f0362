"""``koinon sim``: the protocols in a simulated world, where one seed replays everything."""

import time
from typing import Any, Final

import click

from koinon.cli.console import console, print_json, print_table
from koinon.cli.options import JSON
from koinon.kernel.errors import KoinonError

PLANTS: Final = (
    "height-only-voting",
    "two-certificate-finality",
    "finality-across-any-views",
    "no-write-ahead",
    "skipped-view-change-check",
)
RUNS: Final = click.option(
    "--runs", default=100, type=click.IntRange(1, 10**7), show_default=True, help="How many seeds."
)
FIRST: Final = click.option("--from", "first", default=0, type=click.IntRange(0), show_default=True, help="First seed.")


@click.group()
def sim() -> None:
    """Simulated networks with crashes, partitions and liars; a seed that fails replays exactly."""


@sim.command()
@RUNS
@FIRST
@click.option("--nodes", default=4, type=click.IntRange(4, 40), show_default=True, help="Validators.")
@click.option("--byzantine", default=1, type=click.IntRange(0), show_default=True, help="How many of them lie.")
@click.option("--crashes", default=3, type=click.IntRange(0, 100), show_default=True, help="Crashes of honest ones.")
@click.option("--plant", type=click.Choice(PLANTS), help="Take one safeguard away, to see that this is noticed.")
@JSON
def consensus(
    runs: int, first: int, nodes: int, byzantine: int, crashes: int, plant: str | None, as_json: bool
) -> None:
    """Giskard: safety whatever happens, liveness once the network is calm. Exit code 1 if a property breaks."""
    from dataclasses import replace

    from koinon.ledger.giskard.plants import PLANTS as SCENARIOS
    from koinon.ledger.giskard.simulation import Scenario, run

    if 3 * byzantine >= nodes:
        raise click.UsageError(f"{nodes} validators bear at most {(nodes - 1) // 3} liars")
    base = SCENARIOS[plant] if plant is not None else replace(Scenario(), crashes=crashes)
    scenario = replace(base, nodes=nodes, byzantine=byzantine)
    started = time.monotonic()
    broken: list[dict[str, Any]] = []
    heights = []
    for seed in range(first, first + runs):
        verdict = run(scenario, seed)
        heights.append(verdict.final_height)
        if verdict.violations or not verdict.live:
            told = list(verdict.violations) or ["the network finalised nothing more, or never fell silent"]
            broken.append({"seed": seed, "violations": told})
    facts: dict[str, Any] = {
        "runs": runs,
        "first_seed": first,
        "nodes": nodes,
        "byzantine": byzantine,
        "plant": plant,
        "final_height_median": sorted(heights)[len(heights) // 2],
        "seconds": round(time.monotonic() - started, 2),
        "broken": broken,
    }
    if as_json:
        print_json(facts)
    else:
        console.print(f"{runs} runs in {facts['seconds']} s; {len(broken)} broke a property")
        for one in broken[:10]:
            console.print(f"  seed {one['seed']}: {one['violations'][0]}")
    if broken:
        same = f" --plant {plant}" if plant is not None else f" --crashes {crashes}"
        raise KoinonError(
            f"{len(broken)} of {runs} runs broke a property; replay the first: koinon sim consensus --runs 1"
            f" --from {broken[0]['seed']} --nodes {nodes} --byzantine {byzantine}{same}"
        )


@sim.command()
@RUNS
@FIRST
@JSON
def rep4(runs: int, first: int, as_json: bool) -> None:
    """Four-party computation with one position that lies once: is it caught before anything opens, is nobody framed?"""
    from koinon.privacy.rep4.adversary import summary, trial

    verdicts = [trial(seed) for seed in range(first, first + runs)]
    counts = summary(verdicts)
    bad = [verdict for verdict in verdicts if verdict.wrong or verdict.framed or verdict.sent_on]
    if as_json:
        print_json({"runs": runs, "first_seed": first, "lies": counts, "broken": [one.seed for one in bad]})
    else:
        names = ("trials", "told", "detected", "wrong", "framed", "sent_on")
        print_table(
            ("lie", *(name.replace("_", " ") for name in names)),
            [(lie, *(row[name] for name in names)) for lie, row in counts.items()],
            right=tuple(range(1, 1 + len(names))),
        )
    if bad:
        raise KoinonError(
            f"{len(bad)} of {runs} trials broke a property; replay the first: koinon sim rep4 --runs 1"
            f" --from {bad[0].seed}"
        )
