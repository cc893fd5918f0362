"""A round of secure aggregation in one process: the real protocol, without links. For notebooks and tests."""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from koinon.crypto.signature import NodeKey
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Unavailable
from koinon.privacy.federated import aggregator, client
from koinon.wire.catalogue import Message
from koinon.wire.federated import RoundTerms

Heard = Callable[[Message], None]
"""Takes every message between an owner and the aggregator."""
Watch = Callable[[aggregator.AggregatorEvent], None]


def gather(
    terms: RoundTerms,
    words: Mapping[int, np.ndarray],
    rng: Rng,
    silent: Mapping[int, int] | None = None,
    *,
    heard: Heard = lambda _: None,
    watch: Watch = lambda _: None,
) -> tuple[tuple[int, ...], np.ndarray]:
    """Who remained, and the sum of their words.

    Args:
        terms: the owners' names in it are replaced by those of fresh keys.
        silent: owners that drop out, with the number of the stage (0 to 4) at which they say nothing any more.
        heard: for counting what is sent.
        watch: told every event before the aggregator takes it.

    Raises:
        InvalidInput: terms that protect nobody, or words that do not fit them.
        Unavailable: fewer owners than the threshold remained.
    """
    keys = {owner: NodeKey.generate(rng) for owner in words}
    agreed = msgspec.structs.replace(terms, owners=tuple(keys[owner].node_id for owner in sorted(words)))
    states: dict[int, client.ClientState] = {}
    waiting: list[tuple[int, Message]] = []
    leaving = dict(silent or {})

    def said(owner: int, effects: tuple[client.ClientEffect, ...]) -> None:
        waiting.extend((owner, effect.message) for effect in effects if isinstance(effect, client.Say))

    for owner, key in keys.items():
        states[owner], first = client.begin(agreed, owner, words[owner], key, rng.bytes(32))
        said(owner, first)
    state, _ = aggregator.begin(agreed)
    while True:
        stage, arrived, waiting = state.stage, waiting, []
        events: list[aggregator.AggregatorEvent] = [
            aggregator.Received(owner, message) for owner, message in arrived if leaving.get(owner, stage + 1) > stage
        ]
        told: list[aggregator.AggregatorEffect] = []
        for event in (*events, aggregator.StageOver(stage)):
            if isinstance(event, aggregator.Received):
                heard(event.message)
            watch(event)
            state, effects = aggregator.step(state, event)
            told += effects
        for effect in told:
            match effect:
                case aggregator.Summed():
                    return effect.survivors, effect.words
                case aggregator.Failed():
                    raise Unavailable(effect.reason)
                case aggregator.Tell():
                    owner = effect.owner
                    heard(effect.message)
                    states[owner], answers = client.step(states[owner], effect.message, keys[owner])
                    said(owner, answers)
