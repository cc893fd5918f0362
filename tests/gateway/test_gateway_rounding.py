"""Three decimals in a crowded table: rounded half up in magnitude, never a negative zero."""

import pytest

from koinon.gateway.writing import UNBOUNDED, rounded


@pytest.mark.parametrize(
    ("millionths", "text"),
    [(974_435, "0.974"), (999_500, "1.000"), (13_254_953, "13.255"), (0, "0.000"), (-1_500, "−0.002"), (-400, "0.000")],
)
def test_measured_values_are_rounded_to_three_decimals(millionths: int, text: str) -> None:
    assert rounded(millionths) == text


def test_a_value_without_bound_says_so() -> None:
    assert rounded(UNBOUNDED) == "∞"
