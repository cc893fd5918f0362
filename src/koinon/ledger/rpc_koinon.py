"""The methods of our own: what an outsider needs to check the chain without trusting the node it asks.

Records travel as the hexadecimal of their canonical encoding (``kernel.codec``), beside a readable form.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from koinon.crypto import merkle
from koinon.kernel.codec import Record, encode
from koinon.kernel.errors import InvalidInput, Unavailable
from koinon.ledger.chain import Chain
from koinon.ledger.giskard.state import State
from koinon.ledger.rpc import Method
from koinon.ledger.rpc_forms import Json, data, quantity, read_hash, read_quantity
from koinon.ledger.types import bitmap_positions, header_hash

LONGEST_WAIT: Final = 60


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
) -> dict[str, Method]:
    """The table of methods.

    Args:
        state: Giskard's, for the view.
        waiting: how many transactions wait in the mempool.
        wait_final: returns once a block of this height is final.
    """

    async def finality(parameters: list[Any]) -> Json:
        if len(parameters) != 1:
            raise InvalidInput("koinon_finality takes the height of a block, or latest")
        tag = parameters[0]
        height = chain.final_height if tag in ("latest", "finalized", "safe") else read_quantity(tag, "the height")
        proof = chain.finality_proof(height)
        members = len(chain.validators)
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
            "validatorsHash": data(chain.validators.hash),
        }

    async def receipt_proof(parameters: list[Any]) -> Json:
        if len(parameters) != 1:
            raise InvalidInput("koinon_receiptProof takes the hash of a transaction")
        place = chain.place_of(read_hash(parameters[0], "the transaction hash"))
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

    async def validators(parameters: list[Any]) -> Json:
        _none(parameters)
        return {
            "hash": data(chain.validators.hash),
            "quorum": chain.validators.quorum,
            "members": [
                {"node": data(member.node_id), "account": data(member.account), "blsKey": data(member.bls_key)}
                for member in chain.validators.members
            ],
        }

    async def status(parameters: list[Any]) -> Json:
        _none(parameters)
        now = state()
        return {
            "chainId": quantity(chain.genesis.chain_id),
            "genesis": data(chain.genesis.hash),
            "finalHeight": quantity(chain.final_height),
            "finalHash": data(header_hash(chain.final_header)),
            "view": quantity(now.view),
            "highestCertified": quantity(now.highest.height),
            "timedOut": now.timed_out,
            "halted": now.halted,
            "waitingTransactions": waiting(),
        }

    async def wait_for_block(parameters: list[Any]) -> Json:
        """Height of the last final block, once it has reached the first parameter or the seconds are over."""
        if len(parameters) != 2:
            raise InvalidInput("koinon_waitForBlock takes a height and how many seconds to wait at most")
        height, seconds = read_quantity(parameters[0], "the height"), parameters[1]
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_WAIT:
            raise InvalidInput(f"koinon_waitForBlock waits 0 to {LONGEST_WAIT} seconds; got {str(seconds)[:40]}")
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await wait_final(height)
        return quantity(chain.final_height)

    return {
        "koinon_waitForBlock": wait_for_block,
        "koinon_finality": finality,
        "koinon_receiptProof": receipt_proof,
        "koinon_validators": validators,
        "koinon_status": status,
    }


def _none(parameters: list[Any]) -> None:
    if parameters:
        raise InvalidInput("the method takes no parameters")
