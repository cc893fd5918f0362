"""Four parties on given words, for the tests of this folder."""

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from koinon.privacy.rep4 import lockstep
from koinon.privacy.rep4.adversary import SeededRng
from koinon.privacy.rep4.lockstep import Corruption, Ending
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.shares import Shares, four
from koinon.privacy.rep4.signing import IdealSignatures
from koinon.wire.committee import POSITIONS, Column

SESSION = bytes(range(32))


def new_parties(seed: bytes = b"parties", *, keyed: bool = True, kind: Callable[..., Party] = Party) -> list[Party]:
    rng = SeededRng(seed)
    secrets = (rng.bytes(32), rng.bytes(32), rng.bytes(32), rng.bytes(32))
    keys = [rng.bytes(32) for _ in POSITIONS]
    parties = [kind(position, SESSION, IdealSignatures(position, secrets)) for position in POSITIONS]
    if keyed:
        for party in parties:
            party.install_keys({j: keys[j] for j in POSITIONS if j != party.position})
    return parties


def shared(words: np.ndarray, seed: int = 0) -> list[Shares]:
    random = np.random.default_rng(seed)
    components = [random.integers(0, 2**64, words.shape, dtype=np.uint64) for _ in range(3)]
    components.append(words - components[0] - components[1] - components[2])
    return [
        Shares(four([component if j != i else None for j, component in enumerate(components)]), words.shape)
        for i in POSITIONS
    ]


def revealed(views: Sequence[Shares]) -> np.ndarray:
    """The shared words, after checking that all holders of a component hold the same."""
    for j in POSITIONS:
        holders = [views[i].part(j) for i in POSITIONS if i != j]
        assert all((holder == holders[0]).all() for holder in holders)
    return sum((views[0].part(j) for j in (1, 2, 3)), views[1].part(0))


def outcomes(
    protocol: Callable[..., Generator[None, None, Any]],
    *words: np.ndarray,
    corruption: Corruption | None = None,
    seed: bytes = b"parties",
) -> list[Ending]:
    parties = new_parties(seed)
    inputs = [shared(each, number) for number, each in enumerate(words)]
    protocols = [protocol(parties[i], *(each[i] for each in inputs)) for i in POSITIONS]
    return lockstep.run(parties, protocols, corruption)


def computed(protocol: Callable[..., Generator[None, None, Shares]], *words: np.ndarray, seed: bytes = b"p") -> Any:
    """Run a protocol of (party, shares…) → shares on shared words, and reveal the result."""
    return revealed(lockstep.finished(outcomes(protocol, *words, seed=seed)))


def signed(words: np.ndarray) -> np.ndarray:
    return words.view(np.int64)


def cancer_columns(rows: np.ndarray) -> tuple[Column, ...]:
    """Public ranges a committee of doctors might agree on: from 0 to the next round number above twice the largest."""
    tops = 2 * 10.0 ** np.ceil(np.log10(rows.max(axis=0)))
    features = [Column(f"feature {i}", 0.0, float(top)) for i, top in enumerate(tops)]
    return (*features, Column("target", 0.0, 1.0))
