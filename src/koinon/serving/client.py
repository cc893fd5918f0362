"""A buyer's side: from rows to an answer whose receipt holds, paid by voucher, with a second endpoint at hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from koinon.audit.receipts import Receipt, ReceiptProof, receipt_hash, verify_receipt
from koinon.crypto.signature import AccountKey
from koinon.kernel.codec import decode
from koinon.kernel.effects import Clock
from koinon.kernel.errors import Forged, InvalidInput, KoinonError, Refused, Unavailable
from koinon.kernel.ids import Address, Hash32, NodeId, parse_hash
from koinon.kernel.quantities import Seconds, TokenAmount
from koinon.market.channels import Purse, catch_up, paid, pay
from koinon.market.payments import FREE, PaymentRequired
from koinon.market.vouchers import format_voucher
from koinon.serving.http_client import BoundedHttp, error_sentence
from koinon.serving.names import Candidate, Resolution, nearest

CALL_SECONDS: Final = Seconds(35.0)
LONGEST_RESPONSE: Final = 16 * 1024 * 1024
_BAD_ANSWER: Final = "the endpoint's answer is not an Open Inference v2 response for this call"


class _OutputTensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class _Response(msgspec.Struct):
    outputs: list[_OutputTensor]


class _ShownReceipt(msgspec.Struct):
    encoded: str


@dataclass(frozen=True)
class Answer:
    """What one call brought.

    Attributes:
        values: float32 (N,).
        paid: total of the voucher, 0 where free.
        sequence, receipt_hash: which receipt the endpoint promised; ``Buyer.check`` fetches and checks it.
        opening: request body, response body and salt: what the receipt's commitments are about.
    """

    endpoint: str
    values: NDArray[np.float32]
    paid: TokenAmount
    sequence: int
    receipt_hash: Hash32
    opening: tuple[bytes, bytes, bytes]
    node: NodeId
    service: int


class Buyer:
    """Calls one resolved name. One call at a time: vouchers of a channel are ordered.

    Args:
        resolution: what the name stands for; the answers must come from these weights.
        candidates: endpoints in order of preference, from ``names.nearest``.
        key: the account that owns pass and channels; None where the service is free.
        purses: one per receiving account.
        pass_number: 0 for none.
        highest_price: token units for one answer that this buyer agrees to; the offer on the chain says it.

    Attributes:
        purses: brought forward by each call; keep them for the next session.
    """

    def __init__(
        self,
        http: BoundedHttp,
        resolution: Resolution,
        candidates: tuple[Candidate, ...],
        key: AccountKey | None = None,
        purses: Mapping[Address, Purse] | None = None,
        pass_number: int = 0,
        highest_price: TokenAmount = FREE,
    ) -> None:
        self.purses = dict(purses or {})
        self._http = http
        self._resolution = resolution
        self._candidates = candidates
        self._key = key
        self._pass_number = pass_number
        self._highest_price = highest_price

    @classmethod
    async def connect(
        cls,
        http: BoundedHttp,
        resolution: Resolution,
        clock: Clock,
        key: AccountKey | None = None,
        purses: Mapping[Address, Purse] | None = None,
        pass_number: int = 0,
        highest_price: TokenAmount = FREE,
    ) -> "Buyer":
        """Measure the endpoints of a name and prefer the nearest. Raises as ``names.nearest``."""
        candidates = await nearest(resolution, http, clock)
        return cls(http, resolution, candidates, key, purses, pass_number, highest_price)

    async def call(self, rows: NDArray[np.float32]) -> Answer:
        """Have ``rows``, float32 (N, columns), answered by the nearest endpoint that can.

        Raises:
            InvalidInput: the rows do not fit the model.
            PaymentRequired, Refused: purse, pass or price do not allow the call.
            Unavailable: no endpoint answers.
        """
        problems: list[KoinonError] = []
        for candidate in self._candidates:
            try:
                return await self._call(candidate, rows)
            except Unavailable as problem:
                problems.append(problem)
        raise problems[-1]

    async def check(self, answer: Answer) -> Receipt:
        """Fetch the receipt of an answer and check it: node, service, weights, signature, content.

        Raises:
            Forged: the receipt is not what was promised with the answer, or not about this call.
            Unavailable: the endpoint does not show it.
        """
        url = f"{answer.endpoint.rstrip('/')}/koinon/receipts/{answer.sequence}"
        body = await self._http.get(url, timeout=CALL_SECONDS, limit=1 << 20)
        try:
            shown = msgspec.json.decode(body, type=_ShownReceipt)
            proof = decode(ReceiptProof, bytes.fromhex(shown.encoded.removeprefix("0x")))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, InvalidInput):
            raise Forged(f"receipt {answer.sequence} of {answer.endpoint} cannot be read") from None
        receipt = verify_receipt(
            proof,
            node=answer.node,
            service=answer.service,
            weights=self._resolution.weights,
            opening=answer.opening,
        )
        if receipt.sequence != answer.sequence or receipt_hash(receipt) != answer.receipt_hash:
            raise Forged(f"receipt {answer.sequence} is not the one that came with the answer")
        if receipt.cumulative != answer.paid:
            raise Forged(f"receipt {answer.sequence} names another total than the voucher that paid for it")
        return receipt

    async def _call(self, candidate: Candidate, rows: NDArray[np.float32]) -> Answer:
        price = self._price(candidate) * len(rows)
        body = _request_body(candidate, rows)
        headers = {"content-type": "application/json"}
        if self._pass_number:
            headers["koinon-pass"] = str(self._pass_number)
        receiver = candidate.endpoint.account
        url = f"{candidate.endpoint.url.rstrip('/')}/v2/models/{self._resolution.name}/infer"
        for last_try in (False, True):
            voucher = None
            if price:
                self.purses[receiver], voucher = pay(self._purse(receiver), self._account_key(), TokenAmount(price))
                headers["koinon-voucher"] = format_voucher(voucher)
            status, answer_headers, answer = await self._http.request(
                "POST", url, timeout=CALL_SECONDS, limit=LONGEST_RESPONSE, content=body, headers=headers
            )
            due = answer_headers.get("koinon-due", "")
            if status == 402 and voucher is not None and not last_try and due.isascii() and due.isdigit():
                # An answer may have been lost on the way; the endpoint then counts more than this side does.
                self.purses[receiver] = catch_up(self._purse(receiver), TokenAmount(int(due) - price))
                continue
            break
        if status != 200:
            raise _problem(status, url, answer)
        values = _values(answer, len(rows), candidate)
        if voucher is not None:
            self.purses[receiver] = paid(self._purse(receiver), voucher)
        sequence, hash_, salt = _receipt_headers(answer_headers)
        return Answer(
            endpoint=candidate.endpoint.url,
            values=values,
            paid=voucher.cumulative if voucher is not None else TokenAmount(0),
            sequence=sequence,
            receipt_hash=hash_,
            opening=(body, answer, salt),
            node=candidate.endpoint.node,
            service=candidate.metadata.parameters.service,
        )

    def _price(self, candidate: Candidate) -> int:
        text = candidate.metadata.parameters.price
        if not (text.isascii() and text.isdigit()) or len(text) > 39:
            raise Unavailable(f"{candidate.endpoint.url} names a price that is no number of token units")
        if int(text) > self._highest_price:
            agreed = self._highest_price
            raise Refused(
                f"{candidate.endpoint.url} asks {int(text)} token units for an answer, above the {agreed} agreed"
            )
        return int(text)

    def _purse(self, receiver: Address) -> Purse:
        purse = self.purses.get(receiver)
        if purse is None:
            raise Refused("there is no channel to this endpoint's account; open one first")
        return purse

    def _account_key(self) -> AccountKey:
        if self._key is None:
            raise Refused("the service has a price; give the key of the account that pays")
        return self._key


def _request_body(candidate: Candidate, rows: NDArray[np.float32]) -> bytes:
    if len(candidate.metadata.inputs) != 1 or len(candidate.metadata.outputs) != 1:
        raise Unavailable(f"{candidate.endpoint.url} serves a model with several inputs or outputs")
    tensor = candidate.metadata.inputs[0]
    if rows.ndim != 2 or not len(rows) or [-1, rows.shape[1]] != tensor.shape:
        raise InvalidInput(f"the model takes rows of {tensor.shape[-1]} numbers; got an array of shape {rows.shape}")
    data = rows.astype(np.float32).ravel().tolist()
    shown = {"name": tensor.name, "shape": list(rows.shape), "datatype": "FP32", "data": data}
    return msgspec.json.encode({"inputs": [shown]})


def _values(body: bytes, rows: int, candidate: Candidate) -> NDArray[np.float32]:
    try:
        response = msgspec.json.decode(body, type=_Response)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Forged(f"{candidate.endpoint.url}: {_BAD_ANSWER}") from None
    if len(response.outputs) != 1 or len(response.outputs[0].data) != rows:
        raise Forged(f"{candidate.endpoint.url}: {_BAD_ANSWER}")
    return np.asarray(response.outputs[0].data, np.float32)


def _receipt_headers(headers: Mapping[str, str]) -> tuple[int, Hash32, bytes]:
    sequence, _, digits = headers.get("koinon-receipt", "").partition(":")
    if not (sequence.isascii() and sequence.isdigit()) or len(sequence) > 20:
        raise Forged("the answer came without a receipt")
    try:
        return int(sequence), parse_hash(digits), parse_hash(headers.get("koinon-receipt-salt", ""))
    except InvalidInput:
        raise Forged("the answer came without a receipt") from None


def _problem(status: int, url: str, body: bytes) -> KoinonError:
    reason = f"{url} answered with status {status}: {error_sentence(body)}"
    if status == 402:
        return PaymentRequired(reason)
    if status == 403:
        return Refused(reason)
    if status in (408, 429) or status >= 500:
        return Unavailable(reason)
    return InvalidInput(reason)
