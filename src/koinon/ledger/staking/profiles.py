"""Kinds of networks, as data: how long epochs last, who may validate, what staking costs and earns.

``public`` has the numbers of PlatON's main net where they carry over: 10 blocks for each proposer, rounds of 430 blocks
for 43 validators out of 201 alternates, an era of 25 rounds, elections 20 blocks before a round ends, 14 seats changed
at most, 100,000 coins to stake and 10 to delegate, freezes of 168 and 56 eras, evidence for 27 eras, a thousandth of
the stake for double signing, half of it to the reporter, 2.5 % issuance a year with four fifths for the pool. A year
is taken as 2,024 eras, which a block every 1.45 seconds gives: blocks are made on demand, so a quiet year is longer.
Where nothing happens at all a heartbeat makes a block final every half minute, with the two that this needs: an era
then takes about 30 hours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address
from koinon.kernel.quantities import ChainId, Milliseconds, UnixSeconds, Wei
from koinon.ledger.epochs import Epochs
from koinon.ledger.execution import ExecutionEngine
from koinon.ledger.genesis import Genesis, GenesisAccount, GenesisValidator, Parameters
from koinon.ledger.staking.founding import COIN, StakingParameters, staking_account


@dataclass(frozen=True)
class Profile:
    """One kind of network.

    Attributes:
        summary: for whom it is, in a sentence.
        stake: of each founding validator, in whole coins.
        pool: what the reward pool holds at first, in whole coins.
    """

    summary: str
    parameters: Parameters
    staking: StakingParameters
    stake: int
    pool: int


_PUBLIC: Final = StakingParameters(
    open=True,
    epochs_per_era=25,
    minimum_stake=100_000,
    minimum_delegation=10,
    unstake_eras=168,
    undelegate_eras=56,
    evidence_epochs=27 * 25,
    jail_eras=56,
    share_eras=10,
    vote_seconds=14 * 86_400,
    double_sign_share=10,
    reporter_share=5_000,
    idle_share=10,
    issuance=12_351_778,
    pool_share=8_000,
    payout_share=50,
    block_share=4_500,
    work_share=1_000,
    most_bonus=5_000,
    work_scale=1_000,
)

PROFILES: Final[Mapping[str, Profile]] = {
    "dev": Profile(
        summary="Four validators on one machine, with epochs of seconds.",
        parameters=Parameters(
            blocks_per_view=5,
            base_timeout=Milliseconds(1000),
            epochs=Epochs(length=20, lead=8, seats=4, least=1, alternates=16, open=True),
        ),
        staking=replace(
            _PUBLIC,
            epochs_per_era=2,
            minimum_stake=100,
            minimum_delegation=10,
            unstake_eras=2,
            undelegate_eras=1,
            evidence_epochs=3,
            jail_eras=2,
            share_eras=1,
            vote_seconds=3_600,
            double_sign_share=1_000,
            idle_share=100,
            issuance=1_000_000_000,
            payout_share=100,
        ),
        stake=1_000,
        pool=10_000,
    ),
    "consortium": Profile(
        summary="Fixed members, who vote on admitting and removing members; nobody stakes.",
        parameters=Parameters(
            blocks_per_view=5,
            base_timeout=Milliseconds(1000),
            epochs=Epochs(length=200, lead=20, seats=128, least=1, alternates=128, open=False),
        ),
        staking=replace(
            _PUBLIC,
            open=False,
            epochs_per_era=1,
            minimum_stake=0,
            minimum_delegation=0,
            unstake_eras=28,
            evidence_epochs=27,
            issuance=0,
        ),
        stake=0,
        pool=0,
    ),
    "public": Profile(
        summary="Anybody stakes and is elected: 43 validators out of 201 alternates, rounds of 430 blocks.",
        parameters=Parameters(
            blocks_per_view=10,
            base_timeout=Milliseconds(3000),
            epochs=Epochs(length=430, lead=20, seats=43, least=4, alternates=201, open=True, heartbeat=30),
        ),
        staking=_PUBLIC,
        stake=100_000,
        pool=1_000_000,
    ),
}


def profile(name: str) -> Profile:
    """The profile of that name. Raises InvalidInput where there is none."""
    if name not in PROFILES:
        raise InvalidInput(f"there is no network profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def found(
    kind: Profile,
    engine: ExecutionEngine,
    chain_id: ChainId,
    timestamp: UnixSeconds,
    validators: Sequence[GenesisValidator],
    accounts: Sequence[GenesisAccount],
    treasury: Address,
    creditors: Sequence[Address] = (),
) -> Genesis:
    """A genesis of this kind, with the staking contract in it.

    Args:
        engine: runs the contract's initialisation; must know the network's precompiles.
        treasury: receives the part of the issuance that does not go to the pool.
        creditors: contracts that may credit useful work from the start.

    Raises:
        InvalidInput, Forged: a validator or an account cannot be in a genesis.
    """
    stake, pool = Wei(kind.stake * COIN), Wei(kind.pool * COIN)
    supply = Wei(sum(int.from_bytes(account.balance, "big") for account in accounts) + stake * len(validators) + pool)
    contract = staking_account(engine, kind.staking, validators, stake, pool, supply, treasury, creditors)
    genesis = Genesis(chain_id, timestamp, tuple(validators), (*accounts, contract), kind.parameters)
    genesis.check()
    return genesis
