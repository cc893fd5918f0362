"""An owner's part of a training over a link to its leader: which rounds it answers, and which it refuses."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from koinon.crypto.signature import NodeKey
from koinon.kernel.effects import Link, Rng
from koinon.kernel.errors import Expired, MalformedMessage, ProtocolAbort, Unavailable
from koinon.kernel.quantities import Seconds
from koinon.privacy.federated import client, training
from koinon.privacy.federated.approvals import check_model
from koinon.privacy.federated.links import Roster
from koinon.privacy.federated.training import TrainingPlan
from koinon.privacy.federated.worker import parameters_from
from koinon.wire.catalogue import Message, from_frame, to_frame
from koinon.wire.federated import RoundFailure, TrainingOver, TrainingRound, Unmasking

Train = Callable[[int, np.ndarray], Awaitable[np.ndarray]]
"""An owner's encoded update for a round that starts from these parameters; see ``worker.LocalTraining.words``."""


async def contribute(
    plan: TrainingPlan, roster: Roster, owner: int, key: NodeKey, link: Link, train: Train, rng: Rng, silence: Seconds
) -> np.ndarray:
    """Take part in a training as owner number ``owner``.

    Args:
        train: gives our encoded update for a round; runs elsewhere, such as in ``worker.local_training``.
        silence: the longest wait for the aggregator's next message.

    Returns:
        The joint model's parameters (size,).

    Raises:
        InvalidInput: a plan that cannot be used, or rows that do not fit it.
        ProtocolAbort: the aggregator said something that no honest one says; nothing more is sent.
        Unavailable, Expired: the link ended or was silent, or the aggregator gave the training up.
    """
    model = training.check_plan(plan, len(roster.owners))
    first = model.initial(plan.seed)
    state: client.ClientState | None = None
    entered, last, opened = 0, -1, set[bytes]()
    while True:
        message = await _next(link, silence)
        match message:
            case TrainingOver():
                if not message.parameters:
                    raise Unavailable(f"the aggregator ended the training: {message.reason[:500]}")
                return parameters_from(message.parameters, model.size)
            case TrainingRound():
                parameters = parameters_from(message.parameters, model.size)
                number = message.terms.round
                if not last < number < plan.rounds or entered >= plan.rounds:
                    raise ProtocolAbort(f"the aggregator asks for round {number} after round {last} of {plan.rounds}")
                if message.terms != roster.terms(plan, number, parameters):
                    raise ProtocolAbort("the aggregator's terms are not those of the study, or of another model")
                if message.terms.model in opened:
                    # Two sums at one model, of other survivors, would say what one owner adds.
                    raise ProtocolAbort("the aggregator asks again at a model at which it can have the sum", {0})
                check_model(message.terms, parameters, first, roster.witnesses, message.approvals)
                entered, last = entered + 1, number
                words = await train(number, parameters)
                state, effects = await asyncio.to_thread(client.begin, message.terms, owner, words, key, rng.bytes(32))
            case _ if state is None:
                raise ProtocolAbort(f"the aggregator sent a {type(message).__name__} before any round")
            case _:
                state, effects = await asyncio.to_thread(client.step, state, message, key)
        for effect in effects:
            match effect:
                case client.Say():
                    if state is not None and isinstance(effect.message, Unmasking):
                        opened.add(state.terms.model)
                    await link.send(to_frame(effect.message))
                case client.Stop() if not isinstance(message, RoundFailure):
                    raise ProtocolAbort(effect.reason)


async def _next(link: Link, silence: Seconds) -> Message:
    try:
        async with asyncio.timeout(silence):
            frame = await link.receive()
    except TimeoutError:
        raise Expired(f"the aggregator said nothing for {silence:.0f} s") from None
    try:
        return from_frame(frame)
    except MalformedMessage as problem:
        raise ProtocolAbort(f"the aggregator sent what is no message: {problem}") from None
