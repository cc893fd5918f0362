"""web3.py's own tests of its modules, as it ships them, against ``koinon node start --dev``.

They were written against a go-ethereum that makes a block every few seconds. Here a block is made for each
transaction; where a test needs a transaction to wait, or a block to come by itself, the chain is told so for its time.
What cannot pass here is listed in ``LEFT_OUT`` with its reason, and nothing else is left out. They take a minute, so
they are among what is left to CI.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from eth_typing import ChecksumAddress
from eth_utils import to_bytes
from ledger_development import Development, development_process
from web3 import AsyncHTTPProvider, AsyncWeb3, HTTPProvider, Web3, WebSocketProvider
from web3._utils.contract_sources.contract_data.emitter_contract import EMITTER_CONTRACT_DATA
from web3._utils.contract_sources.contract_data.math_contract import MATH_CONTRACT_DATA
from web3._utils.contract_sources.contract_data.offchain_lookup import OFFCHAIN_LOOKUP_DATA
from web3._utils.contract_sources.contract_data.panic_errors_contract import PANIC_ERRORS_CONTRACT_DATA
from web3._utils.contract_sources.contract_data.revert_contract import REVERT_CONTRACT_DATA
from web3._utils.contract_sources.contract_data.storage_contract import STORAGE_CONTRACT_DATA
from web3._utils.module_testing import (
    AsyncEthModuleTest,
    AsyncNetModuleTest,
    EthModuleTest,
    GoEthereumAsyncDebugModuleTest,
    GoEthereumAsyncTxPoolModuleTest,
    GoEthereumDebugModuleTest,
    GoEthereumTxPoolModuleTest,
    NetModuleTest,
    Web3ModuleTest,
)
from web3._utils.module_testing.persistent_connection_provider import PersistentConnectionProviderTest
from web3._utils.module_testing.utils import RequestMocker
from web3._utils.module_testing.web3_module import AsyncWeb3ModuleTest

CHAIN_ID = 131277322940537
"""The one web3.py's tests expect."""
LEFT_OUT = {
    "test_sign_authorization_send_raw_and_send_set_code_transactions": "sends type 4, which this chain does not take",
    "test_async_sign_authorization_send_raw_and_send_set_code_transactions": "sends type 4 as well",
    "test_invalid_eth_sign_typed_data": "wants an error that web3.py raises for no node's answer (Web3ValueError)",
    "TestAsyncEth.test_eth_sign_typed_data": "fails in web3.py 8.0 before anything is sent (async_map_if_collection)",
}
"""By name, for all classes or for one."""
HELD_BACK = (
    "replace_transaction",
    "modify_transaction",
    "receipt_unmined",
    "async_eth_subscribe_process_pending_tx_true",
)
"""Words in the names of tests whose transactions must wait."""
MINED_ALL_THE_SAME = ("replace_transaction_already_mined",)

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("default"),
    pytest.mark.xdist_group("web3 modules"),
]


@dataclass(frozen=True)
class World:
    """What the tests expect to find on the chain."""

    development: Development
    account: ChecksumAddress
    contracts: dict[str, ChecksumAddress]
    math_deployment: str
    empty_block: str
    block_with_transaction: str
    mined_transaction: str
    block_with_log: str
    transaction_with_log: str


CONTRACTS = {
    "math": MATH_CONTRACT_DATA,
    "emitter": EMITTER_CONTRACT_DATA,
    "revert": REVERT_CONTRACT_DATA,
    "offchain_lookup": OFFCHAIN_LOOKUP_DATA,
    "panic_errors": PANIC_ERRORS_CONTRACT_DATA,
    "storage": STORAGE_CONTRACT_DATA,
}
LOG_DOUBLE_WITH_INDEX = 9


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with development_process("--chain-id", str(CHAIN_ID)) as development:
        w3 = Web3(HTTPProvider(development.url))
        account = w3.eth.accounts[0]

        def mined(name: Any) -> Any:
            return w3.eth.wait_for_transaction_receipt(name)

        deployed = {
            name: mined(w3.eth.contract(**data).constructor().transact({"from": account}))
            for name, data in CONTRACTS.items()
        }
        addresses = {name: receipt["contractAddress"] for name, receipt in deployed.items()}
        emitter = w3.eth.contract(address=addresses["emitter"], abi=EMITTER_CONTRACT_DATA["abi"])
        log = mined(emitter.functions.logDouble(LOG_DOUBLE_WITH_INDEX, 12345, 54321).transact({"from": account}))
        # The account of block 0's beneficiary must not be as poor as it was.
        transfer = mined(w3.eth.send_transaction({"from": account, "to": "0x" + "00" * 20, "value": 1}))
        development.request("evm_mine")
        yield World(
            development=development,
            account=account,
            contracts=addresses,
            math_deployment=deployed["math"]["transactionHash"].to_0x_hex(),
            empty_block=w3.eth.get_block("latest")["hash"].to_0x_hex(),
            block_with_transaction=transfer["blockHash"].to_0x_hex(),
            mined_transaction=transfer["transactionHash"].to_0x_hex(),
            block_with_log=log["blockHash"].to_0x_hex(),
            transaction_with_log=log["transactionHash"].to_0x_hex(),
        )


@pytest.fixture(autouse=True)
def blocks(request: pytest.FixtureRequest, world: World) -> Iterator[None]:
    """Make blocks as the test expects it."""
    name = request.node.originalname
    waits = any(words in name for words in HELD_BACK) and not any(words in name for words in MINED_ALL_THE_SAME)
    regular = request.cls is TestPersistentConnectionProvider
    if waits:
        world.development.request("evm_setAutomine", False)
    if regular:
        world.development.request("evm_setIntervalMining", 100)
    yield
    if regular:
        world.development.request("evm_setIntervalMining", 0)
    if waits:
        world.development.request("evm_mine")
        world.development.request("evm_setAutomine", True)


@pytest.fixture
def w3(world: World) -> Web3:
    return Web3(HTTPProvider(world.development.url))


@pytest.fixture
async def async_w3(request: pytest.FixtureRequest, world: World) -> AsyncIterator[AsyncWeb3[Any]]:
    if request.cls is TestPersistentConnectionProvider:
        async with AsyncWeb3(WebSocketProvider(world.development.websocket, request_timeout=120)) as web3:
            yield web3
        return
    web3 = AsyncWeb3(AsyncHTTPProvider(world.development.url))
    yield web3
    await web3.provider.disconnect()


@pytest.fixture
def request_mocker() -> type[RequestMocker]:
    return RequestMocker


@pytest.fixture(params=["bytes", "text"])
def dual_type(request: pytest.FixtureRequest) -> Any:
    """Addresses as clients of web3.py may write them."""
    return (lambda text: to_bytes(hexstr=text)) if request.param == "bytes" else (lambda text: text)


@pytest.fixture
def skip_if_testrpc() -> Any:
    return lambda _web3: None


@pytest.fixture
def async_skip_if_testrpc() -> Any:
    return lambda _web3: None


@pytest.fixture
def keyfile_account_address(world: World) -> ChecksumAddress:
    return world.account


@pytest.fixture
def keyfile_account_pkey(world: World) -> str:
    return world.development.keys[world.account.lower()]


keyfile_account_address_dual_type = keyfile_account_address


async_keyfile_account_address = keyfile_account_address
async_keyfile_account_address_dual_type = keyfile_account_address


@pytest.fixture
def math_contract_deploy_txn_hash(world: World) -> str:
    return world.math_deployment


@pytest.fixture
def mined_txn_hash(world: World) -> str:
    return world.mined_transaction


@pytest.fixture
def txn_hash_with_log(world: World) -> str:
    return world.transaction_with_log


@pytest.fixture
def empty_block(w3: Web3, world: World) -> Any:
    return w3.eth.get_block(world.empty_block)


@pytest.fixture
def block_with_txn(w3: Web3, world: World) -> Any:
    return w3.eth.get_block(world.block_with_transaction)


@pytest.fixture
def block_with_txn_with_log(w3: Web3, world: World) -> Any:
    return w3.eth.get_block(world.block_with_log)


async_empty_block = empty_block
async_block_with_txn = block_with_txn
async_block_with_txn_with_log = block_with_txn_with_log


def _contract(name: str) -> Any:
    @pytest.fixture
    def contract(w3: Web3, world: World) -> Any:
        return w3.eth.contract(address=world.contracts[name], **CONTRACTS[name])

    return contract


def _async_contract(name: str) -> Any:
    @pytest.fixture
    def contract(async_w3: AsyncWeb3[Any], world: World) -> Any:
        return async_w3.eth.contract(address=world.contracts[name], **CONTRACTS[name])

    return contract


def _address(name: str) -> Any:
    @pytest.fixture
    def address(world: World, dual_type: Any) -> Any:
        return dual_type(world.contracts[name])

    return address


math_contract, async_math_contract = _contract("math"), _async_contract("math")
emitter_contract, async_emitter_contract = _contract("emitter"), _async_contract("emitter")
revert_contract, async_revert_contract = _contract("revert"), _async_contract("revert")
storage_contract, async_storage_contract = _contract("storage"), _async_contract("storage")
panic_errors_contract, async_panic_errors_contract = _contract("panic_errors"), _async_contract("panic_errors")
offchain_lookup_contract = _contract("offchain_lookup")
async_offchain_lookup_contract = _async_contract("offchain_lookup")
math_contract_address, async_math_contract_address = _address("math"), _address("math")
emitter_contract_address, async_emitter_contract_address = _address("emitter"), _address("emitter")


def without_left_out(tests: type) -> type:
    """The class without the tests that cannot pass."""
    for name in LEFT_OUT:
        of_class, _, test = name.rpartition(".")
        if of_class in ("", tests.__name__) and hasattr(tests, test):
            setattr(tests, test, None)
            left_out.add(name)
    return tests


left_out: set[str] = set()


@without_left_out
class TestEth(EthModuleTest):
    pass


@without_left_out
class TestAsyncEth(AsyncEthModuleTest):
    pass


@without_left_out
class TestNet(NetModuleTest):
    pass


@without_left_out
class TestAsyncNet(AsyncNetModuleTest):
    pass


@without_left_out
class TestWeb3(Web3ModuleTest):
    def _check_web3_client_version(self, client_version: str) -> None:
        assert client_version.startswith("koinon/")


@without_left_out
class TestAsyncWeb3(AsyncWeb3ModuleTest):
    def _check_web3_client_version(self, client_version: str) -> None:
        assert client_version.startswith("koinon/")


@without_left_out
class TestTxPool(GoEthereumTxPoolModuleTest):
    pass


@without_left_out
class TestAsyncTxPool(GoEthereumAsyncTxPoolModuleTest):
    pass


@without_left_out
class TestDebug(GoEthereumDebugModuleTest):
    pass


@without_left_out
class TestAsyncDebug(GoEthereumAsyncDebugModuleTest):
    pass


@without_left_out
class TestPersistentConnectionProvider(PersistentConnectionProviderTest):
    pass


def test_the_list_of_what_is_left_out_holds_no_test_that_is_gone() -> None:
    assert left_out == set(LEFT_OUT)
