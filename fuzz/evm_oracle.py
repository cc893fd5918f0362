"""Ethereum's executable specification (EELS) as a process: a case a line comes in as JSON, what it leads to goes out.

Runs in an environment of its own with ``ethereum-execution`` (see ``evm_oracle_constraints.txt``), because that pins
another coincurve than ours. Nothing of Koinon is imported here. All byte strings and numbers are hexadecimal.

A case is a signed transaction on a state under Cancun's rules, or a call of one of Prague's precompiled contracts,
because EIP-2537 came with that fork.
"""

import json
import sys
from typing import Any

from ethereum.exceptions import EthereumException
from ethereum.forks.cancun import fork, vm
from ethereum.forks.cancun.fork_types import Account, Address
from ethereum.forks.cancun.state import State, set_account, set_storage
from ethereum.forks.cancun.transactions import LegacyTransaction, Transaction, decode_transaction
from ethereum.forks.prague import vm as prague
from ethereum.forks.prague.state import State as PragueState
from ethereum.forks.prague.state import TransientStorage
from ethereum.forks.prague.vm.interpreter import process_message
from ethereum_rlp import rlp
from ethereum_rlp.exceptions import RLPException
from ethereum_types.bytes import Bytes, Bytes32
from ethereum_types.numeric import U64, U256, Uint


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text)


def _number(text: str) -> int:
    return int(text, 16)


def _word(text: str) -> Bytes32:
    return Bytes32(_number(text).to_bytes(32, "big"))


def _state(pre: dict[str, Any]) -> State:
    state = State()
    for text, account in pre.items():
        address = Address(_bytes(text))
        fields = Uint(_number(account["nonce"])), U256(_number(account["balance"])), Bytes(_bytes(account["code"]))
        set_account(state, address, Account(*fields))
        for slot, value in account["storage"].items():
            set_storage(state, address, _word(slot), U256(_number(value)))
    return state


def _dump(state: State) -> dict[str, Any]:
    post = {}
    for address, account in state._main_trie._data.items():
        trie = state._storage_tries.get(address)
        slots = {} if trie is None else {f"{int.from_bytes(k, 'big'):x}": f"{int(v):x}" for k, v in trie._data.items()}
        post[bytes(address).hex()] = {
            "nonce": f"{int(account.nonce):x}",
            "balance": f"{int(account.balance):x}",
            "code": bytes(account.code).hex(),
            "storage": slots,
        }
    return post


def _environment(block: dict[str, str], state: State) -> vm.BlockEnvironment:
    return vm.BlockEnvironment(
        chain_id=U64(1),
        state=state,
        block_gas_limit=Uint(30_000_000),
        block_hashes=[Bytes32(bytes([height]) * 32) for height in range(_number(block["number"]))],
        coinbase=Address(_bytes(block["coinbase"])),
        number=Uint(_number(block["number"])),
        base_fee_per_gas=Uint(_number(block["base_fee"])),
        time=U256(_number(block["time"])),
        prev_randao=_word(block["mix"]),
        excess_blob_gas=U64(_number(block["excess_blob_gas"])),
        parent_beacon_block_root=Bytes32(bytes(32)),
    )


def _transaction(raw: bytes) -> Transaction:
    return rlp.decode_to(LegacyTransaction, raw) if raw[0] >= 0xC0 else decode_transaction(Bytes(raw))


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """Run one transaction on one state."""
    told: dict[str, Any] = {}
    make_receipt = _MAKE_RECEIPT

    def receipt(tx: Any, error: Any, gas: Any, logs: Any) -> Any:
        told["status"] = int(error is None)
        told["logs"] = [
            [bytes(log.address).hex(), [bytes(topic).hex() for topic in log.topics], bytes(log.data).hex()]
            for log in logs
        ]
        return make_receipt(tx, error, gas, logs)

    fork.make_receipt = receipt
    state, output = _state(case["pre"]), vm.BlockOutput()
    try:
        fork.process_transaction(_environment(case["block"], state), output, _transaction(_bytes(case["raw"])), Uint(0))
    except (EthereumException, RLPException) as refusal:
        return {"refused": type(refusal).__name__}
    return {**told, "gas": f"{int(output.block_gas_used):x}", "post": _dump(state)}


def called(case: dict[str, Any]) -> dict[str, Any]:
    """Call a precompiled contract with some gas; a failure is told by nothing but ``failed``."""
    address, gas, nobody = Address(_bytes(case["precompile"])), Uint(_number(case["gas"])), Address(bytes(20))
    block = prague.BlockEnvironment(
        chain_id=U64(1), state=PragueState(), block_gas_limit=gas, block_hashes=[], coinbase=nobody, number=Uint(1),
        base_fee_per_gas=Uint(1), time=U256(1), prev_randao=Bytes32(bytes(32)), excess_blob_gas=U64(0),
        parent_beacon_block_root=Bytes32(bytes(32)),
    )  # fmt: skip
    transaction = prague.TransactionEnvironment(
        origin=nobody, gas_price=Uint(1), gas=gas, access_list_addresses=set(), access_list_storage_keys=set(),
        transient_storage=TransientStorage(), blob_versioned_hashes=(), authorizations=(), index_in_block=Uint(0),
        tx_hash=None,
    )  # fmt: skip
    frame = process_message(
        prague.Message(
            block_env=block, tx_env=transaction, caller=nobody, target=address, current_target=address, gas=gas,
            value=U256(0), data=Bytes(_bytes(case["data"])), code_address=address, code=Bytes(b""), depth=Uint(0),
            should_transfer_value=False, is_static=False, accessed_addresses=set(), accessed_storage_keys=set(),
            disable_precompiles=False, parent_evm=None,
        )
    )  # fmt: skip
    if frame.error is not None:
        return {"failed": True}
    return {"output": bytes(frame.output).hex(), "gas": f"{int(gas - frame.gas_left):x}"}


_MAKE_RECEIPT = fork.make_receipt

if __name__ == "__main__":
    sys.setrecursionlimit(20_000)
    for line in sys.stdin:
        given = json.loads(line)
        print(json.dumps(called(given) if "precompile" in given else answer(given)), flush=True)
