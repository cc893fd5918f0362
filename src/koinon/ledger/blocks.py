"""Making and checking one block on a chain: header, randomness, transactions."""

import time
from collections.abc import Callable
from typing import Final

from koinon.crypto.bls import BlsKey, vrf_output
from koinon.crypto.hash import sha256
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged
from koinon.kernel.ids import ZERO_HASH, Address, Hash32
from koinon.kernel.quantities import BlockIndex, Epoch, Height, UnixSeconds, View
from koinon.ledger.chain import Chain
from koinon.ledger.execution import (
    BlockContext,
    BlockFinish,
    ExecutedBlock,
    ExecutionEngine,
    build_block,
    execute_block,
)
from koinon.ledger.giskard.state import Propose
from koinon.ledger.mempool import Mempool
from koinon.ledger.staking.contract import STAKING
from koinon.ledger.staking.finish import Finish
from koinon.ledger.types import Block, Header, ValidatorSet, header_hash
from koinon.wire.consensus import MAXIMUM_BLOCK_BYTES

BUILDING_SECONDS: Final = 0.25
"""How long a proposer executes transactions for one block; the others need about as long before they can vote."""
_TRANSACTION_BYTES: Final = MAXIMUM_BLOCK_BYTES - 64 * 1024
_RANDOMNESS: Final = "koinon/giskard/randomness/1"


def randomness_input(parent: Header) -> bytes:
    """What the proposer of the next block proves its random function over."""
    return encode((_RANDOMNESS, parent.chain_id, parent.epoch, parent.height + 1, parent.mix))


def propose(
    chain: Chain,
    engine: ExecutionEngine,
    mempool: Mempool,
    key: BlsKey,
    position: int,
    effect: Propose,
    clock: Callable[[], float] = time.time,
) -> Block | None:
    """Build and execute the block that Giskard asked for; None if it needs transactions and none fits.

    A block that is due by the chain's heartbeat needs none.
    """
    parent = chain.header_of(effect.parent)
    assert parent is not None, "Giskard proposes on executed blocks only"
    view, accumulator = chain.parent_state(effect.parent)
    proof = key.vrf_prove(randomness_input(parent))
    mix = sha256(proof)
    epoch = parent.epoch if effect.closing else chain.epoch_of(effect.height)
    validators = chain.set_of(epoch)
    beneficiary = _beneficiary(chain, validators, position)
    now = clock()
    timestamp = UnixSeconds(max(parent.timestamp, int(now)))
    required = effect.required or (chain.heartbeat is not None and now >= chain.heartbeat)
    context = chain.context_for(parent, timestamp, beneficiary, mix)
    candidates = iter(()) if effect.closing else mempool.candidates(view, context.base_fee)
    executed, rejected = build_block(
        engine,
        context,
        view,
        accumulator,
        candidates,
        BUILDING_SECONDS,
        _TRANSACTION_BYTES,
        _finish(chain, context, epoch, effect.view, position),
    )
    mempool.drop(rejection.transaction for rejection in rejected)
    # What waits for a lower base fee gets an empty block, which lowers it; or else the chain would stand still.
    if not executed.transactions and not required and not mempool.has_candidate(view):
        return None
    header = seal(
        parent,
        context,
        executed,
        epoch=epoch,
        view=effect.view,
        index=effect.index,
        proposer=position,
        randomness_proof=proof,
        validators=validators.hash,
        next_validators=_next_set(chain, epoch, effect.height, executed),
    )
    chain.add_executed(header, executed)
    return Block(header, tuple(transaction.raw for transaction in executed.transactions))


def seal(
    parent: Header,
    context: BlockContext,
    executed: ExecutedBlock,
    *,
    epoch: Epoch,
    view: View,
    index: BlockIndex,
    proposer: int,
    randomness_proof: bytes,
    validators: Hash32,
    next_validators: Hash32,
) -> Header:
    """The header of a block that was executed in ``context`` on ``parent``, at its place in its epoch."""
    return Header(
        chain_id=context.chain_id,
        height=context.height,
        epoch=epoch,
        view=view,
        index=index,
        parent=header_hash(parent),
        proposer=proposer,
        beneficiary=context.beneficiary,
        timestamp=context.timestamp,
        randomness_proof=randomness_proof,
        mix=context.mix,
        state_root=executed.state.root,
        transactions_root=executed.transactions_root,
        receipts_root=executed.receipts_root,
        validators=validators,
        next_validators=next_validators,
        bloom=executed.bloom,
        gas_limit=context.gas_limit,
        gas_used=executed.gas_used,
        base_fee=context.base_fee,
    )


def check_and_execute(chain: Chain, engine: ExecutionEngine, block: Block) -> None:
    """Check everything a header claims and execute its transactions; the result is kept in ``chain``.

    Raises:
        Forged: anything in the block is not as the chain's rules make it; names what.
        Unavailable: the parent is not executed.
    """
    header = block.header
    if header_hash(header) in chain.executed:
        return
    view, accumulator = chain.parent_state(header.parent)
    parent = chain.header_of(header.parent)
    assert parent is not None, "a state without its header is never kept"
    _check_header(chain, parent, header)
    context = chain.context_for(parent, header.timestamp, header.beneficiary, header.mix)
    finish = _finish(chain, context, header.epoch, header.view, header.proposer)
    executed = execute_block(engine, context, view, accumulator, header, block.transactions, finish)
    if header.next_validators != _next_set(chain, header.epoch, header.height, executed):
        raise Forged(f"block {header.height} names another next validator set than its state gives")
    chain.add_executed(header, executed)


def _next_set(chain: Chain, epoch: Epoch, height: Height, executed: ExecutedBlock) -> Hash32:
    """What the header says of the set that signs the next block; zero for a closing block (``is_closing``)."""
    if chain.epoch_of(height) != epoch:
        return ZERO_HASH
    return (chain.set_of(epoch) if executed.validators is None else executed.validators).hash


def _beneficiary(chain: Chain, validators: ValidatorSet, proposer: int) -> Address:
    """Whom the tips of a block go to: the staking contract where it shares them, or else the proposer."""
    epochs = chain.genesis.parameters.epochs
    return STAKING if epochs is not None and epochs.open else validators.members[proposer].account


def _finish(chain: Chain, context: BlockContext, epoch: Epoch, view: View, proposer: int) -> BlockFinish | None:
    """The system's work in a block; None where there is none: without epochs, and in closing blocks."""
    epochs = chain.genesis.parameters.epochs
    if epochs is None or chain.epoch_of(context.height) != epoch:
        return None
    return Finish(epochs, context.height, view, proposer, context.mix, context.base_fee)


def _check_header(chain: Chain, parent: Header, header: Header) -> None:
    parameters = chain.genesis.parameters
    validators = chain.set_of(header.epoch)
    member = validators.members[header.proposer]
    # A child of an epoch's last block is the next epoch's first or, in the same epoch, a closing block.
    closing = header.epoch == parent.epoch != chain.epoch_of(header.height)
    expected: dict[str, tuple[object, object]] = {
        "chain id": (header.chain_id, chain.genesis.chain_id),
        "height": (header.height, parent.height + 1),
        "epoch": (header.epoch, parent.epoch if closing else chain.epoch_of(header.height)),
        "validator set": (header.validators, validators.hash),
        "beneficiary": (header.beneficiary, _beneficiary(chain, validators, header.proposer)),
        "gas limit": (header.gas_limit, parameters.gas_limit),
        "base fee": (header.base_fee, chain.next_base_fee(parent)),
    }
    for name, (claimed, right) in expected.items():
        if claimed != right:
            raise Forged(f"block {header.height} has the wrong {name}")
    if header.timestamp < parent.timestamp:
        raise Forged(f"block {header.height} is older than its parent")
    mix: Hash32 = vrf_output(member.bls_key, randomness_input(parent), header.randomness_proof)
    if mix != header.mix:
        raise Forged(f"block {header.height} carries another mix than its randomness proof gives")
