"""A ledger to test with: keys, a genesis, one validator or four over real TLS on loopback."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_utils import to_checksum_address

from koinon.crypto.bls import BlsKey
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.ids import Address, Hash32
from koinon.kernel.quantities import ChainId, Milliseconds, UnixSeconds, Wei
from koinon.ledger.engine import network_engine
from koinon.ledger.genesis import Genesis, GenesisValidator, Parameters, funded
from koinon.ledger.history import TransactionPlace
from koinon.ledger.staking.profiles import Profile, found
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.transport import Transport

CHAIN_ID = ChainId(31337)
RICH_BALANCE = Wei(10**24)
COUNTER_RUNTIME = bytes.fromhex("60003560e01c60005460010160005560005460005260206000f3")
"""Adds one to slot 0 and returns it."""
COUNTER_CREATION = bytes.fromhex(f"601a600c600039601a6000f3{COUNTER_RUNTIME.hex()}")


@dataclass(frozen=True)
class Keys:
    """The three keys of a test validator, made from its number."""

    node: NodeKey
    bls: BlsKey
    account: AccountKey

    @classmethod
    def of(cls, number: int) -> "Keys":
        seed = bytes([number + 1]) * 32
        return cls(NodeKey.from_seed(seed), BlsKey.from_seed(seed), AccountKey.from_secret(seed))


async def final_place(validator: Validator, transaction: Hash32) -> TransactionPlace:
    """Where a transaction is final at a validator, once it is.

    The height is read first: blocks become final in another thread, and one that did between a look for the transaction
    and a look at the height would be waited for in vain on a chain that then falls silent.
    """
    while True:
        height = validator.chain.final_height
        place = validator.chain.place_of(transaction)
        if place is not None:
            return place
        await validator.wait_final(height + 1)


def make_genesis(
    count: int,
    rich: LocalAccount,
    ports: list[int] | None = None,
    parameters: Parameters | None = None,
    hosts: list[str] | None = None,
) -> Genesis:
    """Genesis with ``count`` validators, on loopback by default, and one rich account."""
    members = [Keys.of(number) for number in range(count)]
    return Genesis(
        chain_id=CHAIN_ID,
        timestamp=UnixSeconds(int(time.time())),
        validators=tuple(
            GenesisValidator(
                node_id=keys.node.node_id,
                account=keys.account.address,
                bls_key=keys.bls.public_key,
                possession=keys.bls.prove_possession(),
                host=hosts[number] if hosts else "127.0.0.1",
                port=ports[number] if ports else 1,
            )
            for number, keys in enumerate(members)
        ),
        accounts=(funded(Address(bytes.fromhex(rich.address[2:])), RICH_BALANCE),),
        parameters=parameters or Parameters(base_timeout=Milliseconds(1000)),
    )


def sign(wallet: LocalAccount, nonce: int, to: str | None = None, **fields: Any) -> bytes:
    """A signed type-2 transaction; ``fields`` replace the defaults."""
    transaction = {
        "type": 2,
        "chainId": CHAIN_ID,
        "nonce": nonce,
        "gas": 21_000,
        "maxFeePerGas": 10**9,
        "maxPriorityFeePerGas": 0,
        "value": 0,
        "data": b"",
        **({} if to is None else {"to": to_checksum_address(to)}),
        **fields,
    }
    return bytes(wallet.sign_transaction(transaction).raw_transaction)


def make_staked_genesis(founders: int, nodes: int, rich: LocalAccount, ports: list[int], kind: Profile) -> Genesis:
    """Genesis of a profile with ``founders`` validators; the accounts of all ``nodes`` have coins."""
    plain = make_genesis(founders, rich, ports)
    owners = (funded(Keys.of(number).account.address, RICH_BALANCE) for number in range(nodes))
    treasury = Address(b"\xee" * 20)
    return found(
        kind, network_engine(), CHAIN_ID, plain.timestamp, plain.validators, (*plain.accounts, *owners), treasury
    )


@asynccontextmanager
async def open_staked_network(
    founders: int, nodes: int, folder: Path, rich: LocalAccount, kind: Profile
) -> AsyncIterator[list[Validator]]:
    """``nodes`` nodes in this process, over real connections, that know of one another; the first are validators."""
    async with AsyncExitStack() as stack:
        members = [Keys.of(number) for number in range(nodes)]
        transports = [await stack.enter_async_context(Transport.open(keys.node, "127.0.0.1", 0)) for keys in members]
        endpoints = {transport.endpoint.node_id: transport.endpoint for transport in transports}
        ports = [transport.endpoint.port for transport in transports]
        genesis = make_staked_genesis(founders, nodes, rich, ports, kind)
        opened = []
        for number, (keys, transport) in enumerate(zip(members, transports, strict=True)):
            opening = Validator.open(
                ValidatorConfig(), keys.bls, transport, keys.node.node_id, folder / str(number), genesis, endpoints,
                reporting_key=keys.account,
            )  # fmt: skip
            opened.append(await stack.enter_async_context(opening))
        yield opened


@asynccontextmanager
async def open_network(
    count: int, folder: Path, rich: LocalAccount, parameters: Parameters | None = None
) -> AsyncIterator[list[Validator]]:
    """``count`` validators in this process, over real connections."""
    async with AsyncExitStack() as stack:
        members = [Keys.of(number) for number in range(count)]
        transports = [await stack.enter_async_context(Transport.open(keys.node, "127.0.0.1", 0)) for keys in members]
        ports = [transport.endpoint.port for transport in transports]
        genesis = make_genesis(count, rich, ports, parameters)
        validators = []
        for number, (keys, transport) in enumerate(zip(members, transports, strict=True)):
            opening = Validator.open(
                ValidatorConfig(), keys.bls, transport, keys.node.node_id, folder / str(number), genesis
            )
            validators.append(await stack.enter_async_context(opening))
        yield validators
