"""What a node tells a Prometheus server: one pass over the counters of its parts."""

import resource
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psutil

from koinon import __version__
from koinon.kernel.measures import Family, counter, gauge, histogram, tally
from koinon.net.measures import NetMeasures

if TYPE_CHECKING:
    from koinon.ledger.validator import Validator
    from koinon.node.runtime import Node


def families(node: "Node") -> Iterator[Family]:
    """Everything that is measured, in the order of the text form."""
    context = node.context
    yield gauge("koinon_info", "Version and name; always 1.", 1, (("version", __version__), ("name", node.name)))
    yield gauge("koinon_ready", "1 while the node does its part.", node.unfitness() is None)
    yield gauge("koinon_followed_height", "Last block whose events every role has heard.", context.feed.height)
    yield gauge("koinon_tasks", "Orders of the operator at work.", len(context.board.running()))
    yield from process_families()
    yield gauge("koinon_peers", "Nodes connected with.", len(context.transport.peers()))
    yield gauge("koinon_offending_peers", "Peers that have offended lately.", len(context.transport.standings()))
    yield from net_families(context.transport.measures)
    if node.validator is not None:
        yield from ledger_families(node.validator)


def process_families() -> Iterator[Family]:
    """The process, under the names that every Prometheus client uses, and its children."""
    process = psutil.Process()
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    yield counter("process_cpu_seconds_total", "Processor time of this process.", own.ru_utime + own.ru_stime)
    yield gauge("process_resident_memory_bytes", "Memory of this process.", process.memory_info().rss)
    yield gauge("process_open_fds", "Open files and sockets.", process.num_fds())
    yield gauge("process_start_time_seconds", "When it started, in Unix time.", process.create_time())
    yield gauge("koinon_children", "Worker processes now.", len(process.children()))
    yield counter(
        "koinon_children_cpu_seconds_total", "Processor time of ended workers.", children.ru_utime + children.ru_stime
    )


def net_families(measures: NetMeasures) -> Iterator[Family]:
    """The transport's counters."""
    yield tally("koinon_messages_received_total", "Messages by type.", ("type",), measures.received)
    yield tally("koinon_messages_sent_total", "Messages by type.", ("type",), measures.sent)
    yield counter("koinon_received_bytes_total", "Bytes of messages.", measures.bytes_received)
    yield counter("koinon_sent_bytes_total", "Bytes of messages.", measures.bytes_sent)
    yield tally(
        "koinon_messages_refused_total", "Messages not taken, by type and error.", ("type", "error"), measures.refused
    )
    yield counter("koinon_connections_accepted_total", "Callers whose keys were proven.", measures.greeted)
    yield tally("koinon_connections_refused_total", "Callers not let in.", ("reason",), measures.turned_away)
    yield tally("koinon_conversations_ended_total", "Conversations by what ended them.", ("error",), measures.ended)


def ledger_families(validator: "Validator") -> Iterator[Family]:
    """The validator's counters."""
    facts, measures = validator.facts(), validator.consensus.measures
    yield gauge("koinon_final_height", "Height of the last final block.", facts.final_height)
    yield gauge("koinon_certified_height", "Height of the highest certified block.", facts.certified_height)
    yield gauge("koinon_known_height", "Highest final height that enough others claim.", facts.known_height)
    yield gauge("koinon_final_age_seconds", "Since the last block became final.", facts.final_age)
    yield gauge("koinon_epoch", "Epoch of the validator set.", facts.epoch)
    yield gauge("koinon_view", "View of this validator.", facts.view)
    yield gauge("koinon_halted", "1 once consensus has halted.", facts.halted)
    yield gauge("koinon_validators_connected", "Validators in reach, this one included.", facts.connected)
    yield gauge("koinon_validators", "Members of the validator set.", facts.validators)
    yield gauge("koinon_mempool_transactions", "Transactions that wait.", facts.waiting_transactions)
    yield gauge("koinon_waiting_events", "Events that consensus has not worked off.", facts.waiting_events)
    yield gauge("koinon_waits_for_disk", "1 while a durable write waits for room.", facts.waits_for_disk)
    yield counter("koinon_writes_delayed_total", "Durable writes tried again.", facts.writes_delayed)
    yield histogram("koinon_certificate_seconds", "From executing a block to its certificate.", measures.certified)
    yield histogram("koinon_finality_seconds", "From executing a block to its finality.", measures.finality)
    yield counter("koinon_final_blocks_total", "Blocks that became final.", measures.blocks)
    yield counter("koinon_final_transactions_total", "Transactions that became final.", measures.transactions)
    yield counter("koinon_views_lost_total", "Views given up by time-out.", measures.views_lost)
    yield counter("koinon_distrusted_total", "Messages that consensus refused.", measures.distrusted)
    yield counter("koinon_contradictions_total", "Contradicting pairs of signatures seen.", measures.contradictions)
