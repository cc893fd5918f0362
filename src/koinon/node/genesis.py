"""The genesis of a local network: its validators' public keys, and coins for everybody's gas."""

from collections.abc import Mapping, Sequence
from typing import Final

from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Address
from koinon.kernel.quantities import ChainId, Milliseconds, UnixSeconds, Wei
from koinon.ledger.genesis import Genesis, GenesisValidator, Parameters, funded
from koinon.node.home import Identity

CHAIN_ID: Final = ChainId(7_365_673)
COINS: Final = Wei(10**24)
"""For each account: gas on a private network has a price so that it is bounded, not so that anybody earns."""
BLOCKS_PER_VIEW: Final = 5
DRAW_DELAY: Final = BLOCKS_PER_VIEW + 1
"""So many blocks after a lock that at least f + 1 = 2 proposers of four made them."""
BASE_TIMEOUT: Final = Milliseconds(1000)


def founding_members(validators: Sequence[Identity]) -> tuple[GenesisValidator, ...]:
    """Validators of genesis by their identity cards. Raises InvalidInput where one has no validator key."""
    for one in validators:
        if not one.validator_key:
            raise InvalidInput(
                f"{one.name} has no validator key; make its home with: koinon node init --role validator"
            )
    return tuple(
        GenesisValidator(
            node_id=one.node_id,
            account=one.account,
            bls_key=one.validator_key,
            possession=one.possession,
            host=one.host,
            port=one.port,
        )
        for one in validators
    )


def profile_genesis(
    name: str,
    chain_id: ChainId,
    validators: Sequence[Identity],
    funds: Mapping[Address, Wei],
    creditors: Sequence[Address],
    now: UnixSeconds,
) -> Genesis:
    """A chain of a network profile (``ledger.staking.profiles``) whose validators are elected, or vote on members.

    Args:
        funds: coins by account; the validators' accounts need some for gas.
        creditors: contracts that may credit useful work from the start.

    Raises:
        InvalidInput, Forged: the profile, a validator or an account cannot be in a genesis.
    """
    from koinon.ledger.engine import network_engine
    from koinon.ledger.staking.profiles import found, profile

    members = founding_members(validators)
    if not members:
        raise InvalidInput("a chain needs at least one validator")
    accounts = [funded(account, coins) for account, coins in sorted(funds.items())]
    treasury = members[0].account
    return found(profile(name), network_engine(), chain_id, now, members, accounts, treasury, creditors)


def local_genesis(validators: Sequence[Identity], accounts: Sequence[Address], now: UnixSeconds) -> Genesis:
    """A chain for these validators, who never change; every account starts with coins for gas."""
    members = founding_members(validators)
    return Genesis(
        chain_id=CHAIN_ID,
        timestamp=now,
        validators=members,
        accounts=tuple(funded(account, COINS) for account in sorted(accounts)),
        parameters=Parameters(blocks_per_view=BLOCKS_PER_VIEW, base_timeout=BASE_TIMEOUT),
    )
