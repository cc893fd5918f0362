"""Ethereum's executable specification (EELS) as a process: a case a line comes in as JSON, what it leads to goes out.

Runs in an environment of its own with ``ethereum-execution`` (see ``evm_oracle_constraints.txt``), because that pins
another coincurve than ours. Nothing of Koinon is imported here. All byte strings and numbers are hexadecimal.
"""

import json
import sys
from typing import Any

from ethereum.exceptions import EthereumException
from ethereum.forks.cancun import fork, vm
from ethereum.forks.cancun.fork_types import Account, Address
from ethereum.forks.cancun.state import State, set_account, set_storage
from ethereum.forks.cancun.transactions import Access, FeeMarketTransaction
from ethereum_types.bytes import Bytes, Bytes0, Bytes32
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
        block_hashes=[],
        coinbase=Address(_bytes(block["coinbase"])),
        number=Uint(_number(block["number"])),
        base_fee_per_gas=Uint(_number(block["base_fee"])),
        time=U256(_number(block["time"])),
        prev_randao=_word(block["mix"]),
        excess_blob_gas=U64(0),
        parent_beacon_block_root=Bytes32(bytes(32)),
    )


def _transaction(fields: dict[str, Any]) -> FeeMarketTransaction:
    return FeeMarketTransaction(
        chain_id=U64(1),
        nonce=U256(_number(fields["nonce"])),
        max_priority_fee_per_gas=Uint(_number(fields["tip"])),
        max_fee_per_gas=Uint(_number(fields["fee"])),
        gas=Uint(_number(fields["gas"])),
        to=Address(_bytes(fields["to"])) if fields["to"] else Bytes0(b""),
        value=U256(_number(fields["value"])),
        data=Bytes(_bytes(fields["data"])),
        access_list=tuple(
            Access(Address(_bytes(address)), tuple(_word(slot) for slot in slots))
            for address, slots in fields["access_list"]
        ),
        y_parity=U256(0),
        r=U256(0),
        s=U256(0),
    )


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
    # The cases are not signed: the sender is part of the case.
    fork.recover_sender = lambda _chain, _transaction: Address(_bytes(case["transaction"]["sender"]))
    state, output = _state(case["pre"]), vm.BlockOutput()
    try:
        fork.process_transaction(_environment(case["block"], state), output, _transaction(case["transaction"]), Uint(0))
    except EthereumException as refusal:
        return {"refused": type(refusal).__name__}
    return {**told, "gas": f"{int(output.block_gas_used):x}", "post": _dump(state)}


_MAKE_RECEIPT = fork.make_receipt

if __name__ == "__main__":
    sys.setrecursionlimit(20_000)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
