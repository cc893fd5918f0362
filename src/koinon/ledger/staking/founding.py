"""The staking contract in genesis: its storage is what its own ``initialize`` leaves; nobody computes slots."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from koinon.crypto.hash import keccak256
from koinon.kernel.codec import Record
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import ZERO_ADDRESS, ZERO_HASH, Address
from koinon.kernel.quantities import ChainId, Gas, Height, UnixSeconds, Wei
from koinon.ledger.execution import BlockContext, ExecutionEngine
from koinon.ledger.genesis import GenesisAccount, GenesisValidator
from koinon.ledger.staking.contract import STAKING, runtime_code
from koinon.ledger.staking.words import Word, arrays, selector
from koinon.ledger.state import Account, Difference, account_key, code_key, encode_account

COIN: Final = Wei(10**18)
_GAS: Final = Gas(2_000_000_000)
_Share = Annotated[int, Meta(ge=0, le=10_000)]
_Eras = Annotated[int, Meta(ge=0, le=1_000_000)]
_Coins = Annotated[int, Meta(ge=0, le=10**15)]


class StakingParameters(Record, frozen=True):
    """What the contract is initialised with; its source says what each means. Stakes are in whole coins."""

    open: bool
    epochs_per_era: Annotated[int, Meta(ge=1, le=1_000_000)]
    minimum_stake: _Coins
    minimum_delegation: _Coins
    unstake_eras: _Eras
    undelegate_eras: _Eras
    evidence_epochs: Annotated[int, Meta(ge=0, le=10**9)]
    jail_eras: _Eras
    share_eras: _Eras
    vote_seconds: Annotated[int, Meta(ge=1, le=366 * 86_400)]
    double_sign_share: _Share
    reporter_share: _Share
    idle_share: _Share
    issuance: Annotated[int, Meta(ge=0, le=10**12)]
    pool_share: _Share
    payout_share: _Share
    block_share: _Share
    work_share: _Share
    most_bonus: Annotated[int, Meta(ge=0, le=5_000)]
    work_scale: Annotated[int, Meta(ge=1, le=2**63)]

    def words(self, treasury: Address) -> list[Word]:
        """The contract's record of parameters."""
        coins = {"minimum_stake", "minimum_delegation"}
        values = [(name, int(getattr(self, name))) for name in self.__struct_fields__]
        plain: list[Word] = [value * COIN if name in coins else value for name, value in values]
        return [*plain, int.from_bytes(treasury, "big")]


_PARAMETERS: Final = (
    "(bool,uint32,uint128,uint128,uint32,uint32,uint32,uint32,uint32,uint32,uint16,uint16,uint16,uint64,uint16,uint16,"
    "uint16,uint16,uint16,uint64,address)"
)
_INITIALIZE: Final = selector(
    f"initialize({_PARAMETERS},uint256,(address,bytes32,bytes32,bytes16,uint128)[],address[])"
)


class _CodeOnly:
    """A state that holds nothing but the contract."""

    def __init__(self, code: bytes) -> None:
        code_hash = keccak256(code)
        self._entries = {account_key(STAKING): encode_account(Account(1, Wei(0), code_hash)), code_key(code_hash): code}

    def get(self, key: bytes, /) -> bytes | None:
        return self._entries.get(key)


def staking_account(
    engine: ExecutionEngine,
    parameters: StakingParameters,
    founders: Sequence[GenesisValidator],
    stake: Wei,
    pool: Wei,
    supply: Wei,
    treasury: Address,
    creditors: Sequence[Address] = (),
) -> GenesisAccount:
    """The contract's account for a genesis in which these founders have the seats.

    Args:
        stake: of each founder.
        pool: first content of the reward pool.
        supply: all coins of genesis, these included.
        creditors: contracts that may credit useful work.

    Raises:
        InvalidInput: the contract refuses the parameters or the founders.
    """
    context = BlockContext(
        chain_id=ChainId(1),
        height=Height(0),
        timestamp=UnixSeconds(0),
        beneficiary=ZERO_ADDRESS,
        mix=ZERO_HASH,
        gas_limit=_GAS,
        base_fee=Wei(0),
        block_hash=lambda _: None,
    )
    records: list[list[Word]] = [
        [int.from_bytes(one.account, "big"), one.node_id, one.bls_key[:32], one.bls_key[32:], stake] for one in founders
    ]
    listed: list[list[Word]] = [[int.from_bytes(address, "big")] for address in creditors]
    data = _INITIALIZE + arrays([*parameters.words(treasury), supply], records, listed)
    code = runtime_code()
    execution = engine.begin(context, _CodeOnly(code))
    held = Wei(stake * len(founders) + pool)
    result = execution.system_call(STAKING, data, _GAS, held)
    if not result.succeeded:
        raise InvalidInput(
            f"the staking contract refuses these parameters or founders ({result.output.hex() or result.reason}); "
            "each founder needs its own account, node and key"
        )
    return GenesisAccount(STAKING, held.to_bytes(32, "big"), code, tuple(_slots(execution.difference())))


def _slots(difference: Difference) -> Iterator[tuple[bytes, bytes]]:
    prefix = b"s" + STAKING
    for key, value in sorted(difference.items()):
        if key.startswith(prefix) and value is not None:
            yield key[len(prefix) :], value.rjust(32, b"\x00")
