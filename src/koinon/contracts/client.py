"""A client of an EVM chain: reads, signs, sends, waits, and says in one sentence why something was refused."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from koinon.contracts.refusals import Reverted, explain
from koinon.contracts.rpc import HttpRpc, Rpc, RpcError, binary, quantity
from koinon.contracts.transactions import SignedTransaction, Transaction
from koinon.crypto.signature import AccountKey
from koinon.kernel.errors import Expired, InvalidInput, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import Address, Hash32, to_hex
from koinon.kernel.quantities import ChainId, Gas, Height, Seconds, UnixSeconds, Wei

RECEIPT_SECONDS: Final = Seconds(60.0)
FIRST_POLL: Final = Seconds(0.02)
LONGEST_POLL: Final = Seconds(0.1)
GAS_MARGIN_PERCENT: Final = 25
GAS_MARGIN: Final = 60_000
"""Besides: who comes last of several pays for the change of phase, and may not have been last at the estimate."""
SEND_TRIES: Final = 3
DEFAULT_PRIORITY_FEE: Final = Wei(10**9)
LONGEST_ADVANCE: Final = 512
NOTHING: Final = Wei(0)


@dataclass(frozen=True, slots=True)
class Log:
    """One event as the chain stores it."""

    address: Address
    topics: tuple[Hash32, ...]
    data: bytes
    height: Height
    block_hash: Hash32
    transaction_hash: Hash32
    index: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transaction that is in a block and succeeded."""

    transaction_hash: Hash32
    height: Height
    block_hash: Hash32
    gas_used: Gas
    created: Address | None
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True)
class BlockSummary:
    """What clients need of a block."""

    height: Height
    hash: Hash32
    timestamp: UnixSeconds
    base_fee: Wei


class ChainClient:
    """A client of one chain, with or without an account.

    Args:
        source: addresses of chain nodes (tried in turn), or any ``Rpc``.
        key: the account that sends; None for reading only.
        receipt_timeout: how long ``send`` waits for a block.
        now: Unix seconds, to tell whether a chain that makes blocks on demand is behind the clock.

    Use as ``async with ChainClient(urls, key) as client``, or call ``close``. Transactions of one client get
    consecutive nonces, so any number of tasks may send at the same time; two processes must not share a key.
    """

    def __init__(
        self,
        source: Sequence[str] | Rpc,
        key: AccountKey | None = None,
        receipt_timeout: Seconds = RECEIPT_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        if isinstance(source, str):
            raise InvalidInput("give the addresses of the chain as a list")
        self._rpc: Rpc = HttpRpc(source) if isinstance(source, Sequence) else source
        self.key = key
        self._receipt_timeout = receipt_timeout
        self._now = now
        self._chain_id: ChainId | None = None
        self._sending = asyncio.Lock()
        self._next_nonce = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give connections back."""
        await self._rpc.close()

    def with_key(self, key: AccountKey) -> "ChainClient":
        """Another account on the same connections; close only one of the two."""
        return ChainClient(self._rpc, key, self._receipt_timeout, self._now)

    @property
    def account(self) -> Address:
        """The sending account. Raises InvalidInput for a client that only reads."""
        if self.key is None:
            raise InvalidInput("this chain client has no key and can only read")
        return self.key.address

    # -------------------------------------------------------------------------------------------- reading

    async def request(self, method: str, *parameters: object) -> Any:
        """Any JSON-RPC request, unparsed; see ``Rpc.request`` for errors."""
        return await self._rpc.request(method, parameters)

    async def chain_id(self) -> ChainId:
        """EIP-155 number of the chain."""
        if self._chain_id is None:
            self._chain_id = ChainId(quantity(await self.request("eth_chainId"), "chain id"))
        return self._chain_id

    async def block_number(self) -> Height:
        """Height of the latest block (on our ledger: the last final one)."""
        return Height(quantity(await self.request("eth_blockNumber"), "block number"))

    async def block(self, height: Height | None = None) -> BlockSummary:
        """The block at ``height``, or the latest. Raises Unavailable where there is none."""
        tag = "latest" if height is None else hex(height)
        answer = await self.request("eth_getBlockByNumber", tag, False)
        if answer is None:
            raise Unavailable(f"the chain has no block {tag}")
        block = _object(answer, "block")
        return BlockSummary(
            height=Height(quantity(block.get("number"), "block number")),
            hash=Hash32(binary(block.get("hash"), "block hash", 32)),
            timestamp=UnixSeconds(quantity(block.get("timestamp"), "block time")),
            base_fee=Wei(quantity(block.get("baseFeePerGas", "0x0"), "base fee")),
        )

    async def balance(self, account: Address) -> Wei:
        """Native balance, which pays for gas."""
        return Wei(quantity(await self.request("eth_getBalance", to_hex(account), "latest"), "balance"))

    async def code(self, address: Address) -> bytes:
        """Code of an account; empty where it has none."""
        return binary(await self.request("eth_getCode", to_hex(address), "latest"), "code")

    async def call(self, to: Address, data: bytes, doing: str = "the contract refused") -> bytes:
        """Run a call without changing anything.

        Args:
            doing: how a refusal's sentence begins, such as ``Studies refused draw``.

        Raises:
            Reverted: the contract refused.
        """
        message = {"to": to_hex(to), "data": to_hex(data)}
        if self.key is not None:
            message["from"] = to_hex(self.key.address)
        try:
            return binary(await self.request("eth_call", message, "latest"), "answer to a call")
        except RpcError as error:
            raise _refusal(error, doing) from None

    async def logs(
        self,
        addresses: Sequence[Address],
        topics: Sequence[Sequence[Hash32] | None] = (),
        from_height: Height | int = 0,
        to_height: Height | int | None = None,
    ) -> list[Log]:
        """Events of ``addresses`` between two heights, both included.

        Args:
            topics: for each place the topics of which one must stand there; None for any.
        """
        query = {
            "address": [to_hex(address) for address in addresses],
            "topics": [None if choice is None else [to_hex(topic) for topic in choice] for choice in topics],
            "fromBlock": hex(from_height),
            "toBlock": "latest" if to_height is None else hex(to_height),
        }
        answer = await self.request("eth_getLogs", query)
        if not isinstance(answer, list):
            raise MalformedMessage("the chain's logs are no list")
        return [_log(entry) for entry in answer]

    # -------------------------------------------------------------------------------------------- sending

    async def send(
        self,
        to: Address | None,
        data: bytes,
        value: Wei = NOTHING,
        doing: str = "the contract refused",
    ) -> Receipt:
        """Sign, send and wait until the transaction is in a block.

        Args:
            to: None creates a contract of ``data``.
            doing: how a refusal's sentence begins.

        Raises:
            Reverted: the contract refused; found before sending wherever possible, so that it costs nothing.
            Refused: the chain does not take the transaction, for example for want of gas money.
            Expired: it was sent, and did not get into a block in time.
        """
        for _ in range(SEND_TRIES - 1):
            try:
                return await self._send_once(to, data, value, doing)
            except _Overtaken:
                continue
        return await self._send_once(to, data, value, doing)

    async def _send_once(self, to: Address | None, data: bytes, value: Wei, doing: str) -> Receipt:
        try:
            signed = await self._submit(to, data, value, doing)
        except Reverted as refusal:
            if not self._is_overdue(refusal):
                raise
            # The last block is older than the deadline that has passed since: a chain that makes blocks on demand
            # judges by that block's time until somebody makes another.
            await self.send(self.account, b"", doing="the chain refused an empty transaction")
            signed = await self._submit(to, data, value, doing)
        return await self._wait(signed, to, data, value, doing)

    async def advance_past(self, height: Height | int) -> None:
        """Make sure that a block after ``height`` exists, on chains that make blocks only on demand: send empty
        transactions to the own account until it does. Costs gas.

        Raises:
            InvalidInput: ``height`` is further off than a contract of ours ever asks for.
        """
        while (missing := int(height) + 1 - await self.block_number()) > 0:
            if missing > LONGEST_ADVANCE:
                raise InvalidInput(
                    f"block {height} is {missing} blocks away; more than {LONGEST_ADVANCE} are not pushed"
                )
            await self.send(self.account, b"", doing="the chain refused an empty transaction")

    async def _submit(self, to: Address | None, data: bytes, value: Wei, doing: str) -> SignedTransaction:
        if self.key is None:
            raise InvalidInput("this chain client has no key and can only read")
        message = {"from": to_hex(self.account), "data": to_hex(data), "value": hex(value)}
        if to is not None:
            message["to"] = to_hex(to)
        try:
            answer, chain_id, block, tip = await asyncio.gather(
                self.request("eth_estimateGas", message), self.chain_id(), self.block(), self._priority_fee()
            )
        except RpcError as error:
            raise _refusal(error, doing) from None
        estimate = quantity(answer, "gas estimate")
        async with self._sending:
            pending = quantity(
                await self.request("eth_getTransactionCount", to_hex(self.account), "pending"), "transaction count"
            )
            nonce = max(pending, self._next_nonce)
            transaction = Transaction(
                chain_id=chain_id,
                nonce=nonce,
                max_priority_fee=tip,
                max_fee=Wei(2 * block.base_fee + tip),
                gas=Gas(estimate + estimate * GAS_MARGIN_PERCENT // 100 + GAS_MARGIN),
                to=to,
                value=value,
                data=data,
            )
            signed = transaction.sign(self.key)
            try:
                await self.request("eth_sendRawTransaction", to_hex(signed.raw))
            except RpcError as error:
                # An address that failed after taking it, or a repeat: then the chain knows it, and all is well.
                if await self.request("eth_getTransactionByHash", to_hex(signed.hash)) is None:
                    self._next_nonce = 0
                    raise _refusal(error, doing) from None
            self._next_nonce = nonce + 1
        return signed

    def _is_overdue(self, refusal: Reverted) -> bool:
        return refusal.error == "TooEarly" and self._now() > refusal.arguments["time"] + 1

    async def _priority_fee(self) -> Wei:
        try:
            return Wei(quantity(await self.request("eth_maxPriorityFeePerGas"), "priority fee"))
        except RpcError:
            return DEFAULT_PRIORITY_FEE  # an old node without the method; the fee is a usual one

    async def _wait(
        self, signed: SignedTransaction, to: Address | None, data: bytes, value: Wei, doing: str
    ) -> Receipt:
        pause = FIRST_POLL
        try:
            async with asyncio.timeout(self._receipt_timeout):
                while (answer := await self.request("eth_getTransactionReceipt", to_hex(signed.hash))) is None:
                    await asyncio.sleep(pause)
                    pause = Seconds(min(2 * pause, LONGEST_POLL))
        except TimeoutError:
            # A transaction that fell out of the pool must not leave a gap before the next one.
            self._next_nonce = 0
            raise Expired(
                f"transaction {to_hex(signed.hash)} is in no block after {self._receipt_timeout:g} s; look it up later"
            ) from None
        fields = _object(answer, "receipt")
        receipt = _receipt(fields)
        if quantity(fields.get("status"), "receipt status") == 1:
            return receipt
        await self._replay(receipt, to, data, value, doing)
        raise _Overtaken(
            f"{doing}: the transaction failed in block {receipt.height} and would succeed now; send it again"
        )

    async def _replay(self, receipt: Receipt, to: Address | None, data: bytes, value: Wei, doing: str) -> None:
        """Raise what the failed transaction ran into."""
        message = {"from": to_hex(self.account), "data": to_hex(data), "value": hex(value)}
        if to is not None:
            message["to"] = to_hex(to)
        try:
            await self.request("eth_call", message, hex(receipt.height))
        except RpcError as error:
            raise _refusal(error, doing) from None


class _Overtaken(Refused):
    """A transaction failed that would succeed now: another came first and changed what it costs or may do."""


def _refusal(error: RpcError, doing: str) -> Exception:
    if error.data:
        return explain(error.data, doing)
    if "revert" in error.message:
        return explain(b"", doing)
    if error.code in (-32601, -32005):  # no such method; too many requests
        return error
    return Refused(f"{doing}: {error.message[:300]}")


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedMessage(f"the chain's {what} is no object")
    return value


def _receipt(fields: dict[str, Any]) -> Receipt:
    created = fields.get("contractAddress")
    return Receipt(
        transaction_hash=Hash32(binary(fields.get("transactionHash"), "transaction hash", 32)),
        height=Height(quantity(fields.get("blockNumber"), "block number")),
        block_hash=Hash32(binary(fields.get("blockHash"), "block hash", 32)),
        gas_used=Gas(quantity(fields.get("gasUsed"), "gas used")),
        created=None if created is None else Address(binary(created, "contract address", 20)),
        logs=tuple(_log(entry) for entry in fields.get("logs") or ()),
    )


def _log(entry: object) -> Log:
    fields = _object(entry, "log")
    return Log(
        address=Address(binary(fields.get("address"), "log address", 20)),
        topics=tuple(Hash32(binary(topic, "log topic", 32)) for topic in fields.get("topics") or ()),
        data=binary(fields.get("data"), "log data"),
        height=Height(quantity(fields.get("blockNumber"), "block number")),
        block_hash=Hash32(binary(fields.get("blockHash"), "block hash", 32)),
        transaction_hash=Hash32(binary(fields.get("transactionHash"), "transaction hash", 32)),
        index=quantity(fields.get("logIndex"), "log index"),
    )
