"""The mempool, as ``txpool_`` shows it: what could go into the next block, and what waits for a nonce before it."""

from collections.abc import Callable, Mapping

from koinon.kernel.ids import Address
from koinon.ledger.rpc import forms, readers
from koinon.ledger.rpc.forms import data, quantity
from koinon.ledger.rpc.table import Caller, Json, Method, Parameter
from koinon.ledger.rpc.view import LedgerView
from koinon.ledger.state import read_account
from koinon.ledger.transaction import Transaction

Queues = Mapping[Address, Mapping[int, Transaction]]


def pool_methods(view: LedgerView) -> tuple[Method, ...]:
    """The methods."""

    def split() -> tuple[Queues, Queues]:
        """By sender and nonce: those that follow the sender's nonce without a gap, and the others."""
        state = view.state("pending")
        pending: dict[Address, dict[int, Transaction]] = {}
        queued: dict[Address, dict[int, Transaction]] = {}
        for sender, queue in view.mempool.queues().items():
            expected = read_account(state, sender).nonce
            for nonce, transaction in sorted(queue.items()):
                if nonce < expected:
                    continue
                (pending if nonce == expected else queued).setdefault(sender, {})[nonce] = transaction
                expected += nonce == expected
        return pending, queued

    def content(_caller: Caller) -> Json:
        pending, queued = split()
        return {"pending": _shown(pending, _whole), "queued": _shown(queued, _whole)}

    def content_from(_caller: Caller, sender: Address) -> Json:
        pending, queued = ({str(nonce): _whole(one) for nonce, one in half.get(sender, {}).items()} for half in split())
        return {"pending": pending, "queued": queued}

    def inspect(_caller: Caller) -> Json:
        pending, queued = split()
        return {"pending": _shown(pending, _summary), "queued": _shown(queued, _summary)}

    def status(_caller: Caller) -> Json:
        pending, queued = (quantity(sum(map(len, half.values()))) for half in split())
        return {"pending": pending, "queued": queued}

    return (
        Method("txpool_content", (), content, 50),
        Method("txpool_contentFrom", (Parameter("the sender", readers.address),), content_from, 10),
        Method("txpool_inspect", (), inspect, 50),
        Method("txpool_status", (), status, 5),
    )


def _shown(queues: Queues, form: Callable[[Transaction], Json]) -> Json:
    return {
        data(sender): {str(nonce): form(transaction) for nonce, transaction in queue.items()}
        for sender, queue in queues.items()
    }


def _whole(transaction: Transaction) -> Json:
    return forms.transaction_form(transaction, None, 0, 0)


def _summary(transaction: Transaction) -> str:
    """One line, in go-ethereum's words."""
    to = "contract creation" if transaction.to is None else data(transaction.to)
    return f"{to}: {transaction.value} wei + {transaction.gas} gas × {transaction.maximum_fee} wei"
