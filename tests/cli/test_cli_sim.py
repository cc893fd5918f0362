"""``koinon sim consensus``: what an interrupt leaves, and that many processes find what one finds."""

import json
from collections.abc import Iterable, Iterator

import pytest
from cli_terminal import koinon

from koinon.ledger.giskard import exploration
from koinon.ledger.giskard.simulation import Scenario, Verdict


def test_an_interrupt_prints_what_was_found_and_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = exploration.explore_all

    def interrupted(scenario: Scenario, seeds: Iterable[int], jobs: int) -> Iterator[Verdict]:
        for number, verdict in enumerate(whole(scenario, seeds, jobs)):
            if number == 3:
                raise KeyboardInterrupt
            yield verdict

    monkeypatch.setattr(exploration, "explore_all", interrupted)
    ended = koinon("sim", "consensus", "--seeds", "10", "--from", "5", "--crashes", "1", "--json")
    assert ended.code == 130
    found = json.loads(ended.out)
    assert (found["schedules"], found["broken"]) == (3, [])
    assert "--seeds 7 --from 8 --nodes 4 --byzantine 1 --crashes 1" in ended.err


def test_two_processes_find_what_one_finds() -> None:
    plant = ("sim", "consensus", "--seeds", "16", "--plant", "skipped-view-change-check", "--json")
    alone, together = koinon(*plant), koinon(*plant, "--jobs", "2")
    assert (alone.code, together.code) == (1, 1)
    first, second = json.loads(alone.out), json.loads(together.out)
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert any("GISKARD-SAFETY-5" in told for one in first["broken"] for told in one["violations"])
