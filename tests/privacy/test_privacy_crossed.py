"""Rows and columns both split among owners that were matched in pairs: the result is that of the rows put together."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from offer_scenes import SCENES, Scene

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput
from koinon.privacy.backend import Backend, PlainInput
from koinon.privacy.clear import ClearBackend
from koinon.privacy.programs import crossed, registry
from koinon.privacy.programs.offer import Layout, Parameters, check_layout, settings_from
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.simulation import SimulatedRep4
from koinon.privacy.valuation.shapley import WORTH


def layout_of(scene: Scene) -> Layout:
    """Four owners: the second and the third have some columns, the first and the last the others."""
    last, people = len(scene.columns) - 1, len(scene.rows)
    mine, others = (last, 0), tuple(range(1, last))
    a, b, c = people // 5, people // 3, 0
    d = people - a - b - c
    parts = ((a, b), (a, c), (b, d), (c, d))
    rows = tuple(sum(part) for part in parts)
    return Layout(rows, scene.columns, scene.target, (mine, others, others, mine), parts=parts)


def inputs_of(scene: Scene, layout: Layout) -> list[PlainInput]:
    a, b, c, d = (*layout.parts[0], *layout.parts[3])
    first, second, third, fourth = np.split(scene.rows, np.cumsum([a, b, c]))
    assert len(fourth) == d
    tables = (
        np.concatenate([first, second]),
        np.concatenate([first, third]),
        np.concatenate([second, fourth]),
        np.concatenate([third, fourth]),
    )
    return [
        PlainInput(tuple(scene.columns[number] for number in own), rows[:, list(own)])
        for own, rows in zip(layout.sources, tables, strict=True)
    ]


def check(scene: Scene, engine: Backend, within: float) -> None:
    offer, layout = registry.offer(scene.program), layout_of(scene)
    outputs = tuple(name for name in offer.outputs if name != WORTH)
    given_ = Parameters(layout, settings_from(offer, scene.settings), outputs)
    found = engine.run(registry.load(scene.program, encode(given_)), inputs_of(scene, layout), SeededRng(b"crossed"))

    together = replace_layout(given_, crossed.inside(layout))
    count = layout.rows[0]
    whole = [PlainInput(scene.columns, rows) for rows in (scene.rows[:count], scene.rows[count:])]
    wanted = ClearBackend().run(registry.load(scene.program, encode(together)), whole, SeededRng(b"crossed"))
    assert found.outputs.keys() == wanted.outputs.keys()
    for name, values in wanted.outputs.items():
        np.testing.assert_allclose(found.outputs[name], values, atol=within, err_msg=name)


def replace_layout(parameters: Parameters, layout: Layout) -> Parameters:
    return msgspec.structs.replace(parameters, layout=layout)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.program)
def test_the_result_is_that_of_the_rows_put_together(scene: Scene) -> None:
    check(scene, ClearBackend(), 0.0)


def test_four_parties_put_rows_together() -> None:
    (scene,) = (each for each in SCENES if each.program == "statistics/1")
    check(scene, SimulatedRep4(), 2e-3)


def test_prepared_columns_are_prepared_of_everybody() -> None:
    (scene,) = (each for each in SCENES if each.program == "linear-regression/1")
    check(replace(scene, settings={**scene.settings, "scale": "standard"}), ClearBackend(), 0.0)


@given(st.lists(st.integers(1, 50), min_size=4, max_size=7), st.integers(1, 3))
def test_parts_that_are_not_known_fit(rows: list[int], first: int) -> None:
    tables = (tuple(range(first)), tuple(range(first, len(rows))))
    parts = crossed.spread(rows, tables)
    crossed.check_parts([sum(part) for part in parts], tables, parts)
    if sum(rows[:first]) == sum(rows[first:]):
        assert [sum(part) for part in parts] == rows


(STATISTICS,) = (each for each in SCENES if each.program == "statistics/1")
GOOD = layout_of(STATISTICS)
BAD = {
    "parts that do not add up": {"rows": (GOOD.rows[0] + 1, *GOOD.rows[1:])},
    "owners who say different things": {"parts": ((0, sum(GOOD.parts[0])), *GOOD.parts[1:])},
    "fewer than nobody": {"parts": ((-1, GOOD.rows[0] + 1), *GOOD.parts[1:])},
    "an owner without parts": {"parts": ((), *GOOD.parts[1:])},
    "parts of three": {"parts": GOOD.parts[:3]},
    "no different columns": {"sources": ()},
    "an oblivious join too": {"pairs": 10},
    "three tables": {"sources": ((0,), (1, 2), (1, 2), (3,))},
    "one table": {"sources": (tuple(range(len(STATISTICS.columns))),) * 4},
}


@pytest.mark.parametrize("case", BAD)
def test_parts_that_cannot_be_are_refused(case: str) -> None:
    check_layout(GOOD)
    with pytest.raises(InvalidInput):
        check_layout(msgspec.structs.replace(GOOD, **BAD[case]))


def test_what_owners_rows_are_worth_is_not_computed_of_parts_of_them() -> None:
    (scene,) = (each for each in SCENES if each.program == "logistic-regression/1")
    with pytest.raises(InvalidInput, match="rows of its own"):
        registry.load(scene.program, encode(Parameters(layout_of(scene), b"", (WORTH,))))


def test_owners_of_parts_share_rows_and_no_sums() -> None:
    (scene,) = (each for each in SCENES if each.program == "linear-regression/1")
    settings = settings_from(registry.offer(scene.program), {"solver": "sums"})
    with pytest.raises(InvalidInput, match="share rows"):
        registry.load(scene.program, encode(Parameters(layout_of(scene), settings, ("coefficients",))))
