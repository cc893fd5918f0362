"""Empty blocks for simulations: a header with a place and nothing else."""

import hashlib
from typing import Final

from koinon.kernel.ids import ZERO_HASH, Address, Hash32
from koinon.kernel.quantities import BlockIndex, ChainId, Epoch, Gas, Height, UnixSeconds, View, Wei
from koinon.ledger.types import Header, ValidatorSet, header_hash

CHAIN_ID: Final = ChainId(7)
FIRST_EPOCH: Final = Epoch(0)


def make_header(
    validators: ValidatorSet,
    parent: Header | None,
    view: View,
    index: BlockIndex,
    payload: bytes,
    epoch: Epoch = FIRST_EPOCH,
    *,
    closing: bool = False,
) -> Header:
    """A header whose contents are made up but for its place; ``payload`` tells siblings apart.

    Args:
        closing: whether it says that it is a closing block.
    """
    return Header(
        chain_id=CHAIN_ID,
        height=Height(0 if parent is None else parent.height + 1),
        epoch=epoch,
        view=view,
        index=index,
        parent=ZERO_HASH if parent is None else header_hash(parent),
        proposer=validators.proposer(view),
        beneficiary=Address(bytes(20)),
        timestamp=UnixSeconds(0),
        randomness_proof=b"",
        mix=ZERO_HASH,
        state_root=Hash32(hashlib.sha256(payload).digest()),
        transactions_root=ZERO_HASH,
        receipts_root=ZERO_HASH,
        validators=validators.hash,
        next_validators=ZERO_HASH if closing else validators.hash,
        bloom=b"",
        gas_limit=Gas(0),
        gas_used=Gas(0),
        base_fee=Wei(0),
    )
