"""Many schedules of a simulated network: which kind a seed stands for, and what a series of them showed."""

from collections.abc import Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Final

from koinon.ledger.giskard.puppeteer import play
from koinon.ledger.giskard.simulation import Scenario, Verdict, run

GAME_EVERY: Final = 4
"""One seed in so many is a game against the strongest network adversary; the others are disturbed networks."""
_CHUNK: Final = 8


@dataclass
class Findings:
    """What a series of schedules showed.

    Attributes:
        schedules: how many were run.
        live: how many of those in which liveness is promised finalised blocks again once the network was calm.
        broken: seed and sentences of each that broke a property.
    """

    schedules: int = 0
    networks: int = 0
    live: int = 0
    blocks: int = 0
    steps: int = 0
    broken: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        self.schedules += 1
        self.blocks += verdict.final_height
        self.steps += verdict.steps
        if not is_game(verdict.seed):
            self.networks += 1
            self.live += verdict.live
        told = verdict.violations
        if not verdict.live:
            told = (*told, "GISKARD-LIVENESS-1: the calm network finalised nothing more, or never fell silent")
        if told:
            self.broken.append((verdict.seed, told))


def is_game(seed: int) -> bool:
    """Whether a seed stands for a game of ``puppeteer`` and not for a network of ``simulation``."""
    return seed % GAME_EVERY == 0


def explore(scenario: Scenario, seed: int) -> Verdict:
    """Run the schedule that the seed stands for."""
    return play(scenario, seed) if is_game(seed) else run(scenario, seed)


def explore_all(scenario: Scenario, seeds: Iterable[int], jobs: int) -> Generator[Verdict, None, None]:
    """Run many schedules, on several processors if ``jobs`` is above 1; verdicts in the order of the seeds."""
    if jobs == 1:
        yield from map(partial(explore, scenario), seeds)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        try:
            yield from pool.map(partial(explore, scenario), seeds, chunksize=_CHUNK)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
