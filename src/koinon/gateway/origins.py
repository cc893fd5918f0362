"""Where a number came from: the sentence, and the command that gets it again from any node of the chain.

Commands name the chain node as ``$RPC`` unless the operator gave an address for readers, because the address this site
uses may hold a key.
"""

import json
import shlex
from typing import Any

from koinon.gateway.journal import Entry
from koinon.gateway.views.parts import Origin, Sentence


def sentence(text: str, **values: str | int | Sentence) -> Sentence:
    """A sentence with its gaps."""
    return Sentence(text=text, values=dict(values))


def verbatim(text: str) -> Sentence:
    """Text from outside as a sentence: its braces are letters."""
    return Sentence(text=text.replace("{", "{{").replace("}", "}}"))


def rpc_command(rpc: str | None, method: str, *parameters: Any) -> str:
    """A ``curl`` command line for one JSON-RPC request; every part is quoted for the shell."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}, separators=(",", ":"))
    address = '"$RPC"' if rpc is None else shlex.quote(rpc)
    return f"curl -s {address} -H 'content-type: application/json' -d {shlex.quote(body)}"


def of_entry(entry: Entry, rpc: str | None) -> Origin:
    """One event of one contract."""
    return Origin(
        statement=sentence("Event {event} of the contract {contract}.", event=entry.event, contract=entry.contract),
        transaction=entry.transaction,
        height=entry.height,
        command=rpc_command(rpc, "eth_getTransactionReceipt", entry.transaction),
    )


def of_sum(entries: list[Entry] | tuple[Entry, ...], address: str, rpc: str | None) -> Origin | None:
    """A sum over events of one contract at ``address``; None where there are none."""
    if not entries:
        return None
    if len(entries) == 1:
        return of_entry(entries[0], rpc)
    heights = [entry.height for entry in entries]
    return Origin(
        statement=sentence(
            "Sum over {count} events {event} of the contract {contract}, blocks {first} to {last}.",
            count=len(entries),
            event=entries[0].event,
            contract=entries[0].contract,
            first=min(heights),
            last=max(heights),
        ),
        command=rpc_command(
            rpc, "eth_getLogs", {"address": address, "fromBlock": hex(min(heights)), "toBlock": hex(max(heights))}
        ),
    )


def of_view(contract: str, function: str, address: str, data: str, rpc: str | None) -> Origin:
    """The answer of a contract's reading function."""
    return Origin(
        statement=sentence("What the contract {contract} answers to {function}.", contract=contract, function=function),
        command=rpc_command(rpc, "eth_call", {"to": address, "data": data}, "latest"),
    )
