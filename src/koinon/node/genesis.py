"""The genesis of a local network: its validators' public keys, and coins for everybody's gas."""

from collections.abc import Sequence
from typing import Final

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


def local_genesis(validators: Sequence[Identity], accounts: Sequence[Address], now: UnixSeconds) -> Genesis:
    """A chain for these validators; every account starts with coins for gas."""
    members = tuple(
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
    return Genesis(
        chain_id=CHAIN_ID,
        timestamp=now,
        validators=members,
        accounts=tuple(funded(account, COINS) for account in sorted(accounts)),
        parameters=Parameters(blocks_per_view=BLOCKS_PER_VIEW, base_timeout=BASE_TIMEOUT),
    )
