"""The methods of our own: what an outsider needs to check the chain without trusting the node it asks.

Records travel as the hexadecimal of their canonical encoding (``kernel.codec``), beside a readable form.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from koinon.crypto import merkle
from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.kernel.ids import Hash32
from koinon.ledger.chain import Chain
from koinon.ledger.giskard.state import State
from koinon.ledger.rpc import readers
from koinon.ledger.rpc.forms import data, quantity
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter
from koinon.ledger.types import bitmap_positions, header_hash
from koinon.wire.ledger import EpochEnd

LONGEST_WAIT: Final = 60
MOST_ENDS: Final = 32
_FIRST_EPOCH: Final = Parameter("the first epoch", readers.quantity, 0)
_ENDS: Final = Parameter("how many ends at most", readers.quantity, MOST_ENDS)


class ReceiptProof(Record, frozen=True):
    """A transaction and its receipt with their Merkle paths to the roots of a final header.

    Attributes:
        receipt: canonical encoding of the ``Receipt``.
    """

    height: int
    index: int
    count: int
    transaction: bytes
    receipt: bytes
    transaction_path: tuple[bytes, ...]
    receipt_path: tuple[bytes, ...]


def koinon_methods(
    chain: Chain,
    state: Callable[[], State],
    waiting: Callable[[], int],
    wait_final: Callable[[int], Awaitable[object]],
) -> tuple[Method, ...]:
    """The methods.

    Args:
        state: Giskard's, for the view.
        waiting: how many transactions wait in the mempool.
        wait_final: returns once a block of this height is final.
    """

    def finality(_caller: Caller, choice: readers.BlockChoice) -> Json:
        height = chain.final_height if choice == "latest" else choice
        if not isinstance(height, int):
            raise InvalidInput("koinon_finality takes the height of a block, or latest")
        proof = chain.finality_proof(height)
        epoch = proof.headers[-1].epoch
        validators = chain.set_of(epoch)
        members = len(validators)
        return {
            "proof": data(encode(proof)),
            "height": quantity(height),
            "hash": data(header_hash(proof.headers[0])),
            "headers": [data(encode(header)) for header in proof.headers],
            "certificates": [
                {
                    "encoding": data(encode(certificate)),
                    "height": quantity(certificate.height),
                    "view": quantity(certificate.view),
                    "block": data(certificate.block),
                    "signers": list(bitmap_positions(certificate.signers, members)),
                }
                for certificate in proof.certificates
            ],
            "epoch": quantity(epoch),
            "validatorsHash": data(validators.hash),
        }

    def receipt_proof(_caller: Caller, name: Hash32) -> Json:
        place = chain.place_of(name)
        if place is None:
            raise Unavailable("the transaction is not known or not final yet")
        block = chain.block_at(place.height)
        receipts = [encode(receipt) for receipt in chain.receipts_at(place.height)]
        proof = ReceiptProof(
            height=place.height,
            index=place.index,
            count=len(receipts),
            transaction=block.transactions[place.index],
            receipt=receipts[place.index],
            transaction_path=merkle.prove(block.transactions, place.index),
            receipt_path=merkle.prove(receipts, place.index),
        )
        return {
            "proof": data(encode(proof)),
            "header": data(encode(block.header)),
            "height": quantity(place.height),
            "index": quantity(place.index),
            "count": quantity(proof.count),
            "transaction": data(proof.transaction),
            "receipt": data(proof.receipt),
            "transactionPath": [data(step) for step in proof.transaction_path],
            "receiptPath": [data(step) for step in proof.receipt_path],
        }

    def validators(_caller: Caller, epoch: int | None) -> Json:
        asked = chain.epoch if epoch is None else epoch
        found = chain.set_of(asked)
        return {
            "epoch": quantity(asked),
            "hash": data(found.hash),
            "quorum": found.quorum,
            "members": [
                {"node": data(member.node_id), "account": data(member.account), "blsKey": data(member.bls_key)}
                for member in found.members
            ],
        }

    def epoch_ends(_caller: Caller, first: int, count: int) -> Json:
        """What ``verify_epochs`` takes: each ended epoch from ``first`` on."""
        if count > MOST_ENDS:
            raise InvalidInput(f"koinon_epochEnds gives at most {MOST_ENDS} ends; ask for the rest after them")
        last = min(chain.epoch, first + count)
        return [data(encode(epoch_end(chain, epoch))) for epoch in range(first, last)]

    def status(_caller: Caller) -> Json:
        now = state()
        return {
            "chainId": quantity(chain.genesis.chain_id),
            "genesis": data(chain.genesis.hash),
            "finalHeight": quantity(chain.final_height),
            "epoch": quantity(now.configuration.epoch),
            "finalHash": data(header_hash(chain.final_header)),
            "view": quantity(now.view),
            "highestCertified": quantity(now.highest.height),
            "timedOut": now.timed_out,
            "halted": now.halted,
            "waitingTransactions": waiting(),
        }

    return (
        wait_method(chain, wait_final),
        Method("koinon_finality", (Parameter("the height", readers.block),), finality, 4),
        Method("koinon_receiptProof", (Parameter("the transaction hash", readers.digest),), receipt_proof, 4),
        Method("koinon_validators", (Parameter("the epoch", readers.quantity, None),), validators),
        Method("koinon_epochEnds", (_FIRST_EPOCH, _ENDS), epoch_ends, 4),
        Method("koinon_status", (), status),
    )


def epoch_end(chain: Chain, epoch: int) -> EpochEnd:
    """How an epoch handed over to the next. Raises Unavailable where it has not ended here."""
    last = chain.last_height(epoch)
    if last is None or not 0 <= epoch < chain.epoch:
        raise Unavailable(f"epoch {epoch} has not ended; this is epoch {chain.epoch}")
    return chain.epoch_end(epoch, last)


def wait_method(chain: Chain, wait_final: Callable[[int], Awaitable[object]]) -> Method:
    """``koinon_waitForBlock``: height of the last final block, once it has reached the first parameter or the seconds
    of the second are over."""

    async def wait_for_block(_caller: Caller, height: int, seconds: float) -> Json:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await wait_final(height)
        return quantity(chain.final_height)

    return Method(
        "koinon_waitForBlock",
        (Parameter("the height", readers.quantity), Parameter("how many seconds to wait at most", _seconds)),
        wait_for_block,
    )


def _seconds(value: Json, _name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_WAIT:
        raise InvalidInput(f"koinon_waitForBlock waits 0 to {LONGEST_WAIT} seconds; got {readers.shown(value)}")
    return value
