"""``evm_`` methods of a development chain: when blocks are made, and what time it is in them.

Names and meanings as in Hardhat and anvil, so that test suites written for those run unchanged.
"""

from koinon.kernel.errors import InvalidInput
from koinon.ledger.development import DevelopmentChain
from koinon.ledger.rpc import readers
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter

_SHORTEST_INTERVAL = 50
_LONGEST_INTERVAL = 3_600_000


def time_methods(development: DevelopmentChain) -> tuple[Method, ...]:
    """The methods."""

    async def mine(_caller: Caller, _timestamp: Json) -> Json:
        await development.mine()
        return "0x0"

    async def mine_many(_caller: Caller, count: int) -> Json:
        await development.mine(count)
        return None

    def set_automine(_caller: Caller, enabled: bool) -> Json:
        development.mines_at_once = enabled
        return True

    def set_interval(_caller: Caller, milliseconds: int) -> Json:
        if milliseconds and not _SHORTEST_INTERVAL <= milliseconds <= _LONGEST_INTERVAL:
            raise InvalidInput(
                f"blocks are made every {_SHORTEST_INTERVAL} to {_LONGEST_INTERVAL} milliseconds, or 0 for never"
            )
        development.mine_every(milliseconds / 1000 if milliseconds else None)
        return True

    def increase_time(_caller: Caller, seconds: int) -> Json:
        development.leap_ahead(seconds)
        return development.leap

    return (
        Method("evm_mine", (Parameter("a timestamp, which is not taken", _no_timestamp, default=None),), mine),
        Method("anvil_mine", (Parameter("how many blocks", readers.number, default=1),), mine_many),
        Method("evm_setAutomine", (Parameter("whether to mine at once", readers.boolean),), set_automine),
        Method("evm_setIntervalMining", (Parameter("the milliseconds", readers.number),), set_interval),
        Method("evm_increaseTime", (Parameter("the seconds", readers.number),), increase_time),
    )


def _no_timestamp(_value: Json, _name: str) -> None:
    raise InvalidInput("a block's time is the clock's; put it forward with evm_increaseTime")
