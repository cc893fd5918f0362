"""What a program counts, and Prometheus' text form of it."""

from hypothesis import given
from hypothesis import strategies as st

from koinon.kernel.measures import Histogram, Tally, counter, exposition, gauge, histogram, tally


def test_the_text_form() -> None:
    refused = Tally()
    refused.add("Vote", "Forged")
    refused.add("Block", "Refused", amount=2)
    spread = Histogram((0.5, 1.0))
    for value in (0.25, 0.5, 0.75, 5):
        spread.observe(value)
    text = exposition(
        [
            gauge("height", "Where\nwe are.", 7, (("name", 'a"b\\c\n'),)),
            counter("seconds_total", "Time.", 1.5),
            tally("refused_total", "By type.", ("type", "error"), refused),
            histogram("finality", "Seconds.", spread),
        ]
    )
    assert text == (
        '# HELP height Where\\nwe are.\n# TYPE height gauge\nheight{name="a\\"b\\\\c\\n"} 7\n'
        "# HELP seconds_total Time.\n# TYPE seconds_total counter\nseconds_total 1.5\n"
        "# HELP refused_total By type.\n# TYPE refused_total counter\n"
        'refused_total{type="Block",error="Refused"} 2\nrefused_total{type="Vote",error="Forged"} 1\n'
        "# HELP finality Seconds.\n# TYPE finality histogram\n"
        'finality_bucket{le="0.5"} 2\nfinality_bucket{le="1"} 3\nfinality_bucket{le="+Inf"} 4\n'
        "finality_sum 6.5\nfinality_count 4\n"
    )


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_everything_once(values: list[float]) -> None:
    spread = Histogram()
    for value in values:
        spread.observe(value)
    assert sum(spread.counts) == len(values)
    for place, bound in enumerate(spread.bounds):
        assert sum(spread.counts[: place + 1]) == sum(value <= bound for value in values)
