"""The fuzzers' targets, with what hypothesis makes up: everything that reads bytes takes them whole or refuses them."""

import pytest
from decoder_targets import TARGETS, seeds
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def disturbed(draw: st.DrawFn, target: str) -> bytes:
    """A well-formed input with pieces replaced, repeated, left out; or any bytes at all."""
    data = draw(st.sampled_from(seeds(target)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 16)))
        data = data[:start] + draw(st.one_of(st.binary(max_size=8), st.just(data[start:end] * 2))) + data[end:]
    return draw(st.one_of(st.just(data), st.binary(max_size=64)))


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_takes_or_refuses(target: str) -> None:
    @settings(max_examples=60)
    @given(disturbed(target))
    def run(data: bytes) -> None:
        TARGETS[target](data)

    for seed in seeds(target):
        TARGETS[target](seed)
    run()


def test_the_command_knows_every_target() -> None:
    import decoders

    assert tuple(TARGETS) == decoders.TARGETS
