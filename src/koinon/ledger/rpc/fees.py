"""What transactions paid, and what the next one should offer."""

from collections.abc import Sequence
from typing import Final

from koinon.kernel.errors import InvalidInput
from koinon.ledger.chain import Chain
from koinon.ledger.rpc import readers
from koinon.ledger.rpc.forms import quantity
from koinon.ledger.rpc.readers import BlockChoice
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter, constant
from koinon.ledger.rpc.view import LedgerView

_MOST_BLOCKS: Final = 1024
_MOST_PERCENTILES: Final = 100
_TIP_BLOCKS: Final = 20
_TIP_PERCENTILE: Final = 60
_SMALLEST_BLOB_FEE: Final = "0x1"  # EIP-4844's floor; the chain holds no blobs

Payment = tuple[int, int]
"""Tip in wei per gas, and the gas it was paid for."""


def fee_methods(view: LedgerView) -> tuple[Method, ...]:
    """The methods."""
    chain = view.chain

    known: dict[int, int] = {}

    def tip() -> int:
        last = chain.final_height
        if last not in known:
            known.clear()
            known[last] = _suggested_tip(chain, last)
        return known[last]

    def history(_caller: Caller, count: int, newest: BlockChoice, percentiles: list[float] | None) -> Json:
        if not 1 <= count <= _MOST_BLOCKS:
            raise InvalidInput(f"the block count of a fee history is 1 to {_MOST_BLOCKS}")
        last = view.final_height(newest)
        if last is None:
            raise InvalidInput(f"the newest block of a fee history is final; the last final is {chain.final_height}")
        first = max(0, last - count + 1)
        headers = [chain.header_at(height) for height in range(first, last + 1)]
        following = view.next_context(last).base_fee
        form: dict[str, Json] = {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [quantity(fee) for fee in (*(header.base_fee for header in headers), following)],
            "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
            "baseFeePerBlobGas": [_SMALLEST_BLOB_FEE] * (len(headers) + 1),
            "blobGasUsedRatio": [0.0] * len(headers),
        }
        if percentiles is not None:
            form["reward"] = [
                [quantity(tip) for tip in tips_at(payments(chain, header.height), percentiles)] for header in headers
            ]
        return form

    return (
        Method("eth_gasPrice", (), lambda _: quantity(view.next_context("latest").base_fee + tip())),
        Method("eth_maxPriorityFeePerGas", (), lambda _: quantity(tip())),
        constant("eth_blobBaseFee", _SMALLEST_BLOB_FEE),
        Method(
            "eth_feeHistory",
            (
                Parameter("the block count", readers.number),
                Parameter("the newest block", readers.block),
                Parameter("the percentiles", _percentiles, default=None),
            ),
            history,
            20,
        ),
    )


def payments(chain: Chain, height: int) -> list[Payment]:
    """What the transactions of a final block paid above the base fee, lowest tip first."""
    base_fee = chain.header_at(height).base_fee
    return sorted(
        (int.from_bytes(receipt.gas_price, "big") - base_fee, receipt.gas_used) for receipt in chain.receipts_at(height)
    )


def tips_at(paid: Sequence[Payment], percentiles: Sequence[float]) -> list[int]:
    """Tip at each percentile (0 to 100, ascending) of the gas used, as in ``eth_feeHistory``; 0 if nobody paid."""
    whole = sum(gas for _, gas in paid)
    found = []
    position, reached = 0, paid[0][1] if paid else 0
    for percentile in percentiles:
        while position + 1 < len(paid) and reached < whole * percentile / 100:
            position += 1
            reached += paid[position][1]
        found.append(paid[position][0] if paid else 0)
    return found


def _suggested_tip(chain: Chain, last: int) -> int:
    """A tip as most of the gas of the last blocks paid; 0 on a chain whose blocks are not full of offers."""
    recent = sorted(
        payment for height in range(max(1, last - _TIP_BLOCKS + 1), last + 1) for payment in payments(chain, height)
    )
    return tips_at(recent, [_TIP_PERCENTILE])[0]


def _percentiles(value: Json, name: str) -> list[float]:
    entries = readers.items(value, name, _MOST_PERCENTILES)
    if any(isinstance(entry, bool) or not isinstance(entry, int | float) or not 0 <= entry <= 100 for entry in entries):
        raise InvalidInput(f"{name} are numbers from 0 to 100")
    if entries != sorted(entries):
        raise InvalidInput(f"{name} ascend")
    return entries
