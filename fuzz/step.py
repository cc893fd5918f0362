"""Fuzz Giskard's step, guided by coverage: one validator against three that lie together.

    pip install -e '.[fuzz]'
    python fuzz/step.py --runs 1000000               so many inputs
    python fuzz/step.py --runs 0                     until stopped
    python fuzz/step.py --replay FILE                one input again

An input is a string of choices; ``koinon.ledger.giskard.assault`` says what they decide and what must never happen. A
find is written to a file ``crash-…`` in the current folder, and named.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

MOVES = 24
"""Moves of one game; a game ends before that when its choices are used up."""


def choices(data: bytes) -> tuple[Callable[[int], int], Callable[[], bool]]:
    """A chooser that reads the bytes, two for a large range and 0 after the last; and whether any are left."""
    place = 0

    def choose(count: int) -> int:
        nonlocal place
        width = 1 if count <= 256 else 2
        taken = data[place : place + width]
        place += width
        return int.from_bytes(taken, "big") % count

    return choose, lambda: place < len(data)


def play(data: bytes) -> None:
    """One input: move until the choices are used up."""
    from koinon.ledger.giskard.assault import Assault

    choose, more = choices(data)
    game = Assault(choose)
    for _ in range(MOVES):
        if not more():
            return
        game.play(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000, help="inputs; 0 for no end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=int, default=160, help="bytes of an input")
    parser.add_argument("--replay", type=Path, help="one input, instead of fuzzing")
    options = parser.parse_args()
    if options.replay is not None:
        play(options.replay.read_bytes())
        return
    import atheris

    with atheris.instrument_imports(include=["koinon.ledger.giskard"]):
        import koinon.ledger.giskard.assault  # noqa: F401  # imported here to be instrumented
    words = [f"-runs={options.runs}" if options.runs else "-runs=-1", f"-seed={options.seed}"]
    atheris.Setup([sys.argv[0], *words, f"-max_len={options.longest}", "-print_final_stats=1", "-len_control=0"], play)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
