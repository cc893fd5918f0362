"""How owners may split what a program takes: every program says it, and takes a layout of each kind that it says."""

import msgspec
import pytest
from offer_scenes import ROWS, SCENES, Scene, layout_of

from koinon.kernel.codec import encode
from koinon.kernel.errors import InvalidInput
from koinon.privacy.programs import registry
from koinon.privacy.programs.offer import Layout, Parameters, Split, settings_from, splits

PEOPLE = sum(ROWS)


def split_as(scene: Scene, split: Split) -> Layout:
    """The scene's columns and as many people, held so."""
    columns = layout_of(scene, by_columns=True)
    first, second = columns.sources
    match split:
        case Split.ROWS:
            return layout_of(scene, by_columns=False)
        case Split.COLUMNS:
            return columns
        case Split.OBLIVIOUS:
            return msgspec.structs.replace(columns, pairs=15)
        case Split.BOTH:
            # Four owners; one pair has nobody in common.
            parts = ((20, 6), (20, 0), (0, PEOPLE - 26), (6, PEOPLE - 26))
            rows = tuple(sum(part) for part in parts)
            sources = (first, second, first, second)
            return Layout(rows, scene.columns, scene.target, sources, parts=parts)


def test_rows_columns_and_both_may_be_split_for_every_program() -> None:
    for name in registry.names():
        assert {Split.ROWS.value, Split.COLUMNS.value, Split.BOTH.value} <= set(splits(registry.offer(name)))


@pytest.mark.parametrize("split", Split, ids=lambda split: split.value)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.program)
def test_a_program_takes_what_it_says_and_refuses_the_rest(scene: Scene, split: Split) -> None:
    offer, layout = registry.offer(scene.program), split_as(scene, split)
    # How many people meet obliviously is secret, so that nothing may depend on it.
    left_out = ("batch", "penalty") if split is Split.OBLIVIOUS else ()
    settings = settings_from(offer, {name: value for name, value in scene.settings.items() if name not in left_out})
    parameters = encode(Parameters(layout, settings, offer.outputs[:1]))
    if split.value in splits(offer):
        assert registry.load(scene.program, parameters).shapes == layout.shapes
    else:
        with pytest.raises(InvalidInput, match="of an oblivious join"):
            registry.load(scene.program, parameters)


@pytest.mark.parametrize("split", [Split.ROWS, Split.COLUMNS, Split.BOTH], ids=lambda split: split.value)
def test_what_learns_through_noise_takes_what_it_says(split: Split) -> None:
    scene = next(each for each in SCENES if each.program == "logistic-regression/1")
    layout, offer = split_as(scene, split), registry.offer("noisy-network/1")
    settings = settings_from(offer, {"epochs": 2})
    program = registry.load(offer.name, encode(Parameters(layout, settings, offer.outputs, 1.0)))
    assert program.shapes == layout.shapes
