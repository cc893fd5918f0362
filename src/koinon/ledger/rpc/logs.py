"""Searching the logs of final blocks."""

from typing import Final

from koinon.kernel.ids import Address
from koinon.ledger.chain import Chain
from koinon.ledger.execution import Log
from koinon.ledger.rpc.failures import LimitExceeded
from koinon.ledger.rpc.forms import log_form
from koinon.ledger.rpc.limits import Deadline
from koinon.ledger.rpc.readers import TopicFilter
from koinon.ledger.rpc.table import Json

MOST_LOGS: Final = 10_000


def find_logs(
    chain: Chain, first: int, last: int, addresses: frozenset[Address], topics: TopicFilter, deadline: Deadline
) -> list[Json]:
    """Logs of blocks ``first`` to ``last`` that match, in order.

    Raises:
        LimitExceeded: too much matches, or too much has to be looked at before the deadline.
        Unavailable: the range begins where receipts have been pruned.
    """
    found: list[Json] = []
    for height in chain.log_heights(first, last, addresses, topics):
        deadline.check()
        found.extend(_logs_of(chain, height, addresses, topics))
        if len(found) > MOST_LOGS:
            raise LimitExceeded(f"more than {MOST_LOGS} logs match; narrow the range to end at block {height}")
    return found


def _logs_of(chain: Chain, height: int, addresses: frozenset[Address], topics: TopicFilter) -> list[Json]:
    block = chain.block_at(height)
    found, number = [], 0
    for index, receipt in enumerate(chain.receipts_at(height)):
        for log in receipt.logs:
            if matches(log, addresses, topics):
                found.append(log_form(log, receipt.transaction, block, index, number))
            number += 1
    return found


def all_logs(chain: Chain, height: int) -> list[tuple[Log, Json]]:
    """Every log of a final block, with its form."""
    block = chain.block_at(height)
    found: list[tuple[Log, Json]] = []
    for index, receipt in enumerate(chain.receipts_at(height)):
        for log in receipt.logs:
            found.append((log, log_form(log, receipt.transaction, block, index, len(found))))
    return found


def matches(log: Log, addresses: frozenset[Address], topics: TopicFilter) -> bool:
    """Whether a log is one that is looked for."""
    if addresses and log.address not in addresses:
        return False
    if len(topics) > len(log.topics):
        return False
    return all(not options or topic in options for topic, options in zip(log.topics, topics, strict=False))
