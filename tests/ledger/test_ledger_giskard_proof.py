"""The search of Giskard's small worlds: what it finds, and that its short cut loses nothing."""

import json
import subprocess
import sys
from pathlib import Path

import giskard_asynchronous
import giskard_views
import pytest
from giskard_rules import RULES
from giskard_small import Search, search
from giskard_world import GENESIS, Bounds, World

Shape = tuple[int, int, tuple["Shape", ...]]


def shape(world: World, certified: tuple[int, ...], block: int = GENESIS) -> Shape:
    """The tree of certified blocks without the numbers that tell rivals apart."""
    header = world.headers[block]
    children = [child for child in certified if child != GENESIS and world.parents[child] == block]
    return header.view, header.index, tuple(sorted(shape(world, certified, child) for child in children))


@pytest.mark.parametrize("bounds", [Bounds(2, 2), Bounds(2, 3), Bounds(3, 1), Bounds(1, 4)])
def test_playing_view_by_view_certifies_whatever_any_order_does(bounds: Bounds) -> None:
    shapes = []
    for model in (giskard_asynchronous, giskard_views):
        world = World(bounds)
        run = Search(world, model)
        assert run.run() == "safe"
        shapes.append({shape(world, state.certified) for state in run.reached})
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) > 3


@pytest.mark.parametrize("bounds", [Bounds(3, 3), Bounds(4, 2), Bounds(6, 1), Bounds(4, 1, nodes=7)])
def test_no_two_conflicting_blocks_become_final(bounds: Bounds) -> None:
    """GISKARD-SAFETY-3."""
    assert search("ours", bounds).outcome == "safe"


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.forks])
def test_every_weaker_rule_that_forks_is_seen_to(name: str) -> None:
    result = search(name, RULES[name].bounds[0])
    assert result.outcome == "fork"
    assert len(result.lines) == 2


def test_height_must_come_before_view_in_the_order_of_certificates() -> None:
    """GISKARD-SAFETY-6: among blocks of the latest view a lower one may be shown, and the chain above it is lost."""
    result = search("highest-by-view", RULES["highest-by-view"].bounds[0])
    (shown,) = [line for line in result.story if line.startswith("view 3: PrepareBlock 3.0 ")]
    assert "on 1.0 with the view change out of view 2" in shown
    assert search("highest-by-view-and-index", RULES["highest-by-view"].bounds[0]).outcome == "safe"


def test_one_vote_for_each_height_lets_one_view_certify_two_first_blocks() -> None:
    """GISKARD-SAFETY-1: on the last block of the view before, and on what that view's view change shows, one lower."""
    result = search("height-only", RULES["height-only"].bounds[0])
    pairs = [line for line in result.story if line.startswith("view 2: PrepareBlock")]
    assert ["on genesis with the view change" in line for line in pairs] == [True, False]
    assert "index 0, height 1" in pairs[0]
    assert "index 0, height 2" in pairs[1]


def test_the_command_fails_where_an_expectation_does() -> None:
    script = Path(__file__).parents[2] / "proofs" / "giskard_small.py"
    command = [sys.executable, str(script), "--rule", "textbook", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["searches"]
    assert found["outcome"] == "fork"
    stopped = subprocess.run([*command, "--limit", "100"], capture_output=True, text=True, check=False)
    assert stopped.returncode == 1
    assert json.loads(stopped.stdout)["searches"][0]["outcome"] == "unfinished"


@pytest.mark.long
def test_the_whole_search_sample() -> None:
    """Every rule at its default bounds, as the command runs it."""
    script = Path(__file__).parents[2] / "proofs" / "giskard_small.py"
    done = subprocess.run([sys.executable, str(script), "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["searches"]) > len(RULES)
