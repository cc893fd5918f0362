"""Long polling: a client that follows an idle chain asks once, and hears of the next final block at once."""

import asyncio

import pytest

from koinon.kernel.errors import InvalidInput
from koinon.ledger.rpc_koinon import LONGEST_WAIT, koinon_methods


class Chain:
    """The part of a chain that this method reads."""

    final_height = 4


def methods(chain: Chain, became_final: asyncio.Event) -> object:
    async def wait_final(height: int) -> None:
        if chain.final_height < height:
            await became_final.wait()

    return koinon_methods(chain, lambda: None, lambda: 0, wait_final)["koinon_waitForBlock"]  # type: ignore[arg-type,return-value]


async def test_a_block_that_is_final_already_is_told_at_once() -> None:
    assert await methods(Chain(), asyncio.Event())(["0x3", 30]) == "0x4"  # type: ignore[operator]


async def test_the_answer_comes_with_the_block() -> None:
    chain, became_final = Chain(), asyncio.Event()
    asking = asyncio.ensure_future(methods(chain, became_final)(["0x5", 30]))  # type: ignore[operator]
    await asyncio.sleep(0)
    assert not asking.done()
    chain.final_height = 5
    became_final.set()
    assert await asking == "0x5"


async def test_without_a_block_the_last_height_is_told_when_the_time_is_over() -> None:
    assert await methods(Chain(), asyncio.Event())(["0x9", 0]) == "0x4"  # type: ignore[operator]


@pytest.mark.parametrize("parameters", [[], ["0x1"], ["0x1", -1], ["0x1", LONGEST_WAIT + 1], ["0x1", "5"], ["x", 1]])
async def test_senseless_parameters_are_refused(parameters: list[object]) -> None:
    with pytest.raises(InvalidInput):
        await methods(Chain(), asyncio.Event())(parameters)  # type: ignore[operator]
