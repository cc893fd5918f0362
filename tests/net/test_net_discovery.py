"""Node records: both signatures, freshness, bounds; and a directory asked of honest and lying bootstrap nodes."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import structs
from net_messages import RNG, new_key

from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import Forged, InvalidInput, MalformedMessage, Refused, Unavailable
from koinon.kernel.ids import Address, NodeId
from koinon.kernel.quantities import Seconds, UnixSeconds
from koinon.net.discovery import Directory
from koinon.net.records import LONGEST_LIFE, MOST_PER_ACCOUNT, RecordTable, check_record, sign_record
from koinon.net.transport import Transport
from koinon.store.keyvalue import LmdbStore
from koinon.wire.catalogue import Message
from koinon.wire.discovery import MOST_FOUND, Announce, Endpoint, Find, Found, NodeClaim, NodeRecord

NOW = UnixSeconds(1_800_000_000)


@dataclass
class FixedClock:
    """Time that moves when a test says so."""

    seconds: int = NOW

    def monotonic(self) -> Seconds:
        return Seconds(float(self.seconds))

    def unix(self) -> UnixSeconds:
        return UnixSeconds(self.seconds)


@dataclass
class Party:
    """A node's two keys and its claims."""

    node: NodeKey = field(default_factory=new_key)
    account: AccountKey = field(default_factory=lambda: AccountKey.generate(RNG))

    def claim(self, **changes: object) -> NodeClaim:
        plain = NodeClaim(
            self.node.node_id, self.account.address, "127.0.0.1", 4000, ("compute", "serve"), bytes(range(32)), 1,
            UnixSeconds(NOW + 3600),
        )  # fmt: skip
        return structs.replace(plain, **changes)

    def record(self, **changes: object) -> NodeRecord:
        return sign_record(self.node, self.account, self.claim(**changes))


PARTY, OTHER = Party(), Party()


def test_a_signed_record_passes_and_names_its_endpoint() -> None:
    record = PARTY.record()
    check_record(record, NOW)
    assert record.endpoint == Endpoint(PARTY.node.node_id, "127.0.0.1", 4000)


def test_every_changed_field_is_forged() -> None:
    record = PARTY.record()
    for changes in (
        {"node_id": OTHER.node.node_id},
        {"account": OTHER.account.address},
        {"host": "10.0.0.1"},
        {"port": 4001},
        {"roles": ("compute",)},
        {"encryption_key": bytes(32)},
        {"sequence": 2},
        {"expiry": NOW + 3601},
    ):
        changed = structs.replace(record, claim=structs.replace(record.claim, **changes))
        with pytest.raises(Forged):
            check_record(changed, NOW)


def test_neither_key_can_speak_for_the_other() -> None:
    with pytest.raises(InvalidInput, match="these keys are others"):
        sign_record(OTHER.node, PARTY.account, PARTY.claim())
    claim = structs.replace(PARTY.claim(), account=OTHER.account.address)
    half = sign_record(PARTY.node, OTHER.account, claim)
    borrowed = structs.replace(half, account_signature=PARTY.record().account_signature)
    with pytest.raises(Forged, match="not signed by the account"):
        check_record(borrowed, NOW)
    with pytest.raises(Forged):
        check_record(structs.replace(PARTY.record(), node_signature=bytes(64)), NOW)
    with pytest.raises(Forged):
        check_record(structs.replace(PARTY.record(), account_signature=bytes(65)), NOW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"expiry": NOW}, "has expired"), ({"expiry": NOW + LONGEST_LIFE + 1}, "more than"), ({"expiry": 0}, "expired")],
)
def test_stale_and_far_future_records_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        check_record(PARTY.record(**changes), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"host": ""},
        {"host": "two words"},
        {"host": "evil\nhost"},
        {"roles": ("b", "a")},
        {"roles": ("a", "a")},
    ],
)
def test_malformed_claims_are_never_signed(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        PARTY.record(**changes)


@pytest.mark.parametrize("host", ["127.0.0.1", "node-1.example.org", "::1", "2001:db8::1", "::"])
def test_addresses_and_names_are_hosts(host: str) -> None:
    check_record(PARTY.record(host=host), NOW)


def test_the_newest_record_counts_and_older_ones_are_refused() -> None:
    table = RecordTable()
    assert table.add(PARTY.record(sequence=5), NOW)
    assert not table.add(PARTY.record(sequence=5), NOW), "the same again is no news"
    for sequence, port in ((4, 4000), (5, 4001)):
        with pytest.raises(Refused, match="held already"):
            table.add(PARTY.record(sequence=sequence, port=port), NOW)
    assert table.add(PARTY.record(sequence=6, port=4001), NOW)
    (found,) = table.find(Find(), NOW)
    assert found.claim.port == 4001


def test_a_forged_record_does_not_displace_a_true_one() -> None:
    table = RecordTable()
    table.add(PARTY.record(sequence=5), NOW)
    forged = structs.replace(PARTY.record(sequence=6), node_signature=bytes(64))
    with pytest.raises(Forged):
        table.add(forged, NOW)
    assert table.find(Find(), NOW) == (PARTY.record(sequence=5),)


def test_questions_match_on_everything_they_name() -> None:
    table = RecordTable()
    table.add(PARTY.record(roles=("compute",)), NOW)
    table.add(OTHER.record(roles=("serve",)), NOW)
    assert len(table.find(Find(), NOW)) == 2
    assert [r.claim.node_id for r in table.find(Find(node_id=PARTY.node.node_id), NOW)] == [PARTY.node.node_id]
    assert [r.claim.node_id for r in table.find(Find(account=OTHER.account.address), NOW)] == [OTHER.node.node_id]
    assert [r.claim.node_id for r in table.find(Find(role="serve"), NOW)] == [OTHER.node.node_id]
    assert table.find(Find(node_id=PARTY.node.node_id, role="serve"), NOW) == ()
    assert table.find(Find(), UnixSeconds(NOW + 3600)) == (), "expired records are not given out"


def test_the_table_is_bounded_in_all_and_per_account() -> None:
    table = RecordTable(most_records=10)
    for _ in range(MOST_PER_ACCOUNT):
        table.add(Party(account=PARTY.account).record(), NOW)
    with pytest.raises(Refused, match="the most one account may have"):
        table.add(Party(account=PARTY.account).record(), NOW)
    for _ in range(2):
        table.add(Party().record(), NOW)
    with pytest.raises(Refused, match="full"):
        table.add(Party().record(), NOW)
    later = UnixSeconds(NOW + 7200)
    table.add(Party().record(expiry=later + 60), later)
    assert len(table.find(Find(), later)) == 1


def test_admission_decides_who_takes_room() -> None:
    table = RecordTable(admit=lambda claim: claim.account == PARTY.account.address)
    table.add(PARTY.record(), NOW)
    with pytest.raises(Refused, match="not admitted"):
        table.add(OTHER.record(), NOW)


def test_records_survive_a_restart(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path, 1 << 20)
    RecordTable(store).add(PARTY.record(sequence=9), NOW)
    again = RecordTable(store)
    assert again.find(Find(), NOW) == (PARTY.record(sequence=9),)
    with pytest.raises(Refused):
        again.add(PARTY.record(sequence=8), NOW)
    store.close()


# Directories over a network.


@pytest.fixture
async def hubs() -> AsyncIterator[tuple[Directory, Directory, tuple[Endpoint, Endpoint]]]:
    """Two bootstrap nodes that know each other."""
    clock = FixedClock()
    async with Transport.open(new_key()) as one, Transport.open(new_key()) as other:
        endpoints = (one.endpoint, other.endpoint)
        directories = (Directory(one, clock, endpoints), Directory(other, clock, endpoints))
        for directory in directories:
            directory.serve()
        yield (*directories, endpoints)


Hubs = tuple[Directory, Directory, tuple[Endpoint, Endpoint]]


async def test_an_announced_node_is_found_by_id_account_and_role(hubs: Hubs) -> None:
    *_, bootstrap = hubs
    async with Transport.open(new_key()) as here, Transport.open(new_key()) as there:
        assert await Directory(here, FixedClock(), bootstrap).announce(PARTY.record()) == 2
        asking = Directory(there, FixedClock(), bootstrap)
        assert await asking.find_node(PARTY.node.node_id) == PARTY.record()
        assert await asking.find_account(PARTY.account.address) == PARTY.record()
        assert await asking.find(role="compute") == (PARTY.record(),)
        assert await asking.find(role="evaluate") == ()
        with pytest.raises(Unavailable, match="may not have announced itself"):
            await asking.find_account(OTHER.account.address)


async def test_a_forged_announcement_is_told_so(hubs: Hubs) -> None:
    *_, bootstrap = hubs
    async with Transport.open(new_key()) as here:
        forged = structs.replace(PARTY.record(), node_signature=bytes(64))
        with pytest.raises(Forged):
            await here.call(bootstrap[0], Announce(forged))
        with pytest.raises(Forged):
            await Directory(here, FixedClock(), bootstrap).announce(forged)


async def test_fresh_knowledge_is_used_and_old_knowledge_renewed(hubs: Hubs) -> None:
    one, _, bootstrap = hubs
    clock = FixedClock()
    await one.announce(PARTY.record(sequence=1))
    async with Transport.open(new_key()) as there:
        asking = Directory(there, clock, bootstrap)
        assert (await asking.find_node(PARTY.node.node_id)).claim.sequence == 1
        await one.announce(PARTY.record(sequence=2))
        assert (await asking.find_node(PARTY.node.node_id)).claim.sequence == 1
        clock.seconds += 31
        assert (await asking.find_node(PARTY.node.node_id)).claim.sequence == 2


async def test_the_newest_of_several_answers_counts(hubs: Hubs) -> None:
    *_, bootstrap = hubs
    async with Transport.open(new_key()) as there:
        await there.call(bootstrap[0], Announce(PARTY.record(sequence=1)))
        await there.call(bootstrap[1], Announce(PARTY.record(sequence=2)))
        asking = Directory(there, FixedClock(), bootstrap)
        assert (await asking.find_node(PARTY.node.node_id)).claim.sequence == 2


async def test_one_dead_and_one_lying_bootstrap_node_do_no_harm(hubs: Hubs) -> None:
    one, _, (good, _) = hubs
    await one.announce(PARTY.record())

    async def lie(_: NodeId, __: Find) -> Found:
        return Found(
            (
                structs.replace(PARTY.record(sequence=99, port=1), node_signature=bytes(64)),
                structs.replace(OTHER.record(), claim=OTHER.claim(expiry=NOW + 10 * LONGEST_LIFE)),
            )
        )

    async with Transport.open(new_key()) as liar, Transport.open(new_key()) as here:
        liar.handle(Find, lie)
        dead = Endpoint(new_key().node_id, "127.0.0.1", 1)
        asking = Directory(here, FixedClock(), (dead, liar.endpoint, good))
        assert await asking.find() == (PARTY.record(),)


async def test_without_any_bootstrap_node_what_is_known_is_given() -> None:
    dead = Endpoint(new_key().node_id, "127.0.0.1", 1)
    async with Transport.open(new_key()) as here:
        table = RecordTable()
        table.add(PARTY.record(), NOW)
        asking = Directory(here, FixedClock(), (dead,), table)
        assert await asking.find_node(PARTY.node.node_id) == PARTY.record()
        with pytest.raises(Unavailable, match="no bootstrap node answers"):
            await asking.find_node(OTHER.node.node_id)
        with pytest.raises(Unavailable, match="no bootstrap node took"):
            await asking.announce(OTHER.record())


class Paging:
    """A bootstrap node that holds a given table, or one that never comes to an end."""

    def __init__(self, table: RecordTable, *, endless: bool = False) -> None:
        self.table = table
        self.endless = endless
        self.asked = 0

    async def call(self, _: Endpoint, message: Message, __: float = 1.0, /) -> Message:
        assert isinstance(message, Find)
        self.asked += 1
        return Found(self.table.find(Find() if self.endless else message, NOW))

    def handle(self, *_: object) -> None:
        raise AssertionError("nothing is served here")


async def test_long_lists_come_in_pages_and_endless_ones_are_left() -> None:
    table = RecordTable()
    for _ in range(MOST_FOUND + 5):
        table.add(Party().record(), NOW)
    bootstrap = (Endpoint(new_key().node_id, "127.0.0.1", 1),)
    honest = Paging(table)
    assert len(await Directory(honest, FixedClock(), bootstrap).find()) == MOST_FOUND + 5
    assert honest.asked == 2
    liar = Paging(table, endless=True)
    assert len(await Directory(liar, FixedClock(), bootstrap).find()) == MOST_FOUND
    assert liar.asked == 2


@pytest.mark.parametrize(
    "wrong",
    [
        Find(node_id=NodeId(b"short")),
        Find(account=Address(b"")),
        Find(role=""),
        Found((PARTY.record(),) * (MOST_FOUND + 1)),
        PARTY.claim(port=-1),
        PARTY.claim(port=65536),
        PARTY.claim(host="a" * 300),
        PARTY.claim(roles=("x",) * 17),
        PARTY.claim(sequence=-1),
        PARTY.claim(encryption_key=b""),
    ],
)
def test_fields_out_of_range_are_malformed(wrong: Record) -> None:
    with pytest.raises(MalformedMessage):
        decode(type(wrong), encode(wrong))
