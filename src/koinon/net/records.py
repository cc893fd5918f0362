"""Node records: signing them, checking them, and a bounded table that keeps the newest of each node."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from koinon.crypto.hash import tagged_hash
from koinon.crypto.signature import AccountKey, NodeKey, recover_address, verify_node_signature
from koinon.kernel.codec import decode, encode
from koinon.kernel.effects import Store
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, Refused
from koinon.kernel.ids import Address, Hash32, NodeId, to_hex
from koinon.kernel.quantities import UnixSeconds
from koinon.wire.discovery import LARGEST_RECORD, MOST_FOUND, Find, NodeClaim, NodeRecord

LONGEST_LIFE: Final = 7 * 24 * 3600
"""A record may claim to hold for at most a week from now."""

MOST_RECORDS: Final = 10_000
MOST_PER_ACCOUNT: Final = 8

_DOMAIN: Final = "koinon/node-record/1"
_HOST: Final = re.compile(r"[A-Za-z0-9:]([A-Za-z0-9.:_-]*[A-Za-z0-9:])?")
_STORED: Final = b"node-record/"


def sign_record(node_key: NodeKey, account_key: AccountKey, claim: NodeClaim) -> NodeRecord:
    """The claim with the signatures of both keys it names.

    Raises:
        InvalidInput: the claim names other keys, or does not pass ``check_claim``.
    """
    if claim.node_id != node_key.node_id or claim.account != account_key.address:
        raise InvalidInput("a node record is signed by the node and the account it names; these keys are others")
    try:
        check_claim(claim)
    except MalformedMessage as problem:
        raise InvalidInput(str(problem)) from None
    return NodeRecord(claim, node_key.sign(_DOMAIN, encode(claim)), account_key.sign_digest(_digest(claim)))


def check_claim(claim: NodeClaim) -> None:
    """Raises MalformedMessage for a host that is no address or name, or for roles unsorted or repeated."""
    if claim.is_hidden != (claim.port == 0) or (claim.sealed and not claim.is_hidden):
        raise MalformedMessage("a node record names host and port, or neither and then perhaps seals both to others")
    if not claim.is_hidden and not _HOST.fullmatch(claim.host):
        raise MalformedMessage(f"{claim.host[:80]!r} is no host name or address")
    if list(claim.roles) != sorted(set(claim.roles)):
        raise MalformedMessage("the roles of a node record are sorted and named once each")


def check_record(record: NodeRecord, now: UnixSeconds) -> None:
    """Check everything about a record that can be checked without other records.

    Raises:
        MalformedMessage: it is too long or not well formed.
        Refused: it has expired, or claims to hold for more than a week.
        Forged: one of the signatures is not by the key it names.
    """
    claim = record.claim
    check_claim(claim)
    if len(encode(record)) > LARGEST_RECORD - 16:
        raise MalformedMessage(f"a node record takes at most {LARGEST_RECORD - 16} bytes")
    if claim.expiry <= now:
        raise Refused(f"the record of node {_short(claim.node_id)} has expired; announce a new one")
    if claim.expiry > now + LONGEST_LIFE:
        raise Refused(f"the record of node {_short(claim.node_id)} claims to hold for more than {LONGEST_LIFE} s")
    verify_node_signature(claim.node_id, _DOMAIN, encode(claim), record.node_signature)
    if recover_address(_digest(claim), record.account_signature) != claim.account:
        raise Forged(f"the record of node {_short(claim.node_id)} is not signed by the account it names")


class RecordTable:
    """The newest valid record of each node, bounded; kept in a store where one is given.

    Args:
        store: where records survive a restart; None keeps them in memory.
        admit: whether a valid claim may take room here, such as "its account has staked". Anybody by default.
        most_records: how many nodes at most.
    """

    def __init__(
        self,
        store: Store | None = None,
        admit: Callable[[NodeClaim], bool] = lambda _claim: True,
        most_records: int = MOST_RECORDS,
    ) -> None:
        self._store = store
        self._admit = admit
        self._most_records = most_records
        self._records: dict[NodeId, NodeRecord] = {}
        for _, data in store.scan(_STORED) if store is not None else ():
            record = decode(NodeRecord, data)
            self._records[record.claim.node_id] = record

    def add(self, record: NodeRecord, now: UnixSeconds) -> bool:
        """Keep a record; returns whether it is news.

        Raises:
            MalformedMessage, Forged: see ``check_record``.
            Refused: expired, older than the one held, not admitted, or no room; nothing has changed.
        """
        claim = record.claim
        held = self._records.get(claim.node_id)
        if held == record:
            return False
        # The cheap questions first: signatures cost a hundred microseconds each.
        if held is not None and held.claim.sequence >= claim.sequence:
            raise Refused(
                f"a record of node {_short(claim.node_id)} with sequence {held.claim.sequence} is held already"
            )
        check_record(record, now)
        if not self._admit(claim):
            raise Refused(f"node {_short(claim.node_id)} is not admitted to this directory")
        if held is None:
            self._make_room(claim, now)
        self._records[claim.node_id] = record
        if self._store is not None:
            self._store.write({_STORED + claim.node_id: encode(record)})
        return True

    def find(self, wanted: Find, now: UnixSeconds, most: int = MOST_FOUND) -> tuple[NodeRecord, ...]:
        """The unexpired records that match, at most ``most``, in ascending order of node id."""
        matching = sorted(self._matching(wanted, now), key=lambda record: record.claim.node_id)
        return tuple(matching[:most])

    def _matching(self, wanted: Find, now: UnixSeconds) -> Iterator[NodeRecord]:
        for node_id, record in self._records.items():
            claim = record.claim
            if (
                claim.expiry > now
                and wanted.node_id in (None, node_id)
                and wanted.account in (None, claim.account)
                and (wanted.role is None or wanted.role in claim.roles)
                and (wanted.after is None or node_id > wanted.after)
            ):
                yield record

    def _make_room(self, claim: NodeClaim, now: UnixSeconds) -> None:
        same = self._of_account(claim.account, now)
        if same >= MOST_PER_ACCOUNT:
            raise Refused(f"account {to_hex(claim.account)} has {same} nodes here, the most one account may have")
        if len(self._records) < self._most_records:
            return
        expired = [node_id for node_id, record in self._records.items() if record.claim.expiry <= now]
        if not expired:
            raise Refused("this directory is full; ask another node to keep the record")
        for node_id in expired:
            del self._records[node_id]
        if self._store is not None:
            self._store.write({}, delete=[_STORED + node_id for node_id in expired])

    def _of_account(self, account: Address, now: UnixSeconds) -> int:
        return sum(
            1 for record in self._records.values() if record.claim.account == account and record.claim.expiry > now
        )


def _digest(claim: NodeClaim) -> Hash32:
    return tagged_hash(_DOMAIN, encode(claim))


def _short(node_id: NodeId) -> str:
    return to_hex(node_id)[:18] + "…"
