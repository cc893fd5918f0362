"""A validator's address: in its public record, readable by the other validators only."""

import pytest
from msgspec.structs import replace

from koinon.crypto.hpke import HpkeKey
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.codec import encode
from koinon.kernel.errors import Forged, MalformedMessage, Unavailable
from koinon.kernel.quantities import UnixSeconds
from koinon.net.hidden import hide, reveal
from koinon.net.records import RecordTable, check_claim, sign_record
from koinon.wire.discovery import MOST_SEALED, Endpoint, Find, NodeClaim, NodeRecord

NOW = UnixSeconds(1_800_000_000)
NODE, ACCOUNT = NodeKey.from_seed(b"\x01" * 32), AccountKey.from_secret(b"\x01" * 32)
READERS = [HpkeKey.from_seed(bytes([number]) * 32) for number in range(10, 13)]
STRANGER = HpkeKey.from_seed(b"\x63" * 32)
HOST, PORT = "validator.example.org", 7311


def claim() -> NodeClaim:
    expiry = UnixSeconds(NOW + 3600)
    return NodeClaim(NODE.node_id, ACCOUNT.address, HOST, PORT, ("validator",), bytes(32), 7, expiry)


def hidden_record() -> NodeRecord:
    sealed = hide(claim(), HOST, PORT, [reader.public_key for reader in READERS])
    return sign_record(NODE, ACCOUNT, sealed)


def test_the_others_read_it_and_nobody_else() -> None:
    record = hidden_record()
    assert HOST.encode() not in encode(record)
    for reader in READERS:
        assert reveal(record, reader) == Endpoint(NODE.node_id, HOST, PORT)
    with pytest.raises(Unavailable, match="has not told this node yet"):
        reveal(record, STRANGER)
    with pytest.raises(Unavailable, match="does not publish where it listens"):
        _ = record.endpoint


def test_an_open_record_is_read_by_everybody() -> None:
    record = sign_record(NODE, ACCOUNT, claim())
    assert reveal(record, STRANGER) == record.endpoint == Endpoint(NODE.node_id, HOST, PORT)


def test_a_directory_keeps_a_hidden_record_for_the_largest_set() -> None:
    keys = [HpkeKey.from_seed(bytes([number]) * 32).public_key for number in range(1, MOST_SEALED + 1)]
    longest = "v" * 240 + ".example.org"
    record = sign_record(NODE, ACCOUNT, hide(claim(), longest, PORT, keys[:20]))
    assert RecordTable().add(record, NOW)
    table = RecordTable()
    assert table.add(sign_record(NODE, ACCOUNT, hide(claim(), HOST, PORT, keys)), NOW)
    (kept,) = table.find(Find(), NOW)
    assert reveal(kept, HpkeKey.from_seed(bytes([MOST_SEALED]) * 32)).port == PORT


def test_a_sealed_address_is_of_no_use_in_another_record() -> None:
    sealed = hidden_record().claim.sealed
    thief, account = NodeKey.from_seed(b"\x02" * 32), AccountKey.from_secret(b"\x02" * 32)
    stolen = replace(claim(), node_id=thief.node_id, account=account.address, host="", port=0, sealed=sealed)
    with pytest.raises(Unavailable):
        reveal(sign_record(thief, account, stolen), READERS[0])


def test_a_validator_cannot_send_others_to_another_node() -> None:
    other = NodeKey.from_seed(b"\x03" * 32).node_id
    lie = hide(replace(claim(), node_id=other), HOST, PORT, [])
    from koinon.crypto.hpke import seal

    bound = NODE.node_id + lie.sequence.to_bytes(8, "big")
    text = encode(Endpoint(other, HOST, PORT))
    made = replace(
        claim(), host="", port=0, sealed=(seal(READERS[0].public_key, b"koinon/validator-endpoint/1", text, bound),)
    )
    with pytest.raises(Forged, match="the address of another node"):
        reveal(sign_record(NODE, ACCOUNT, made), READERS[0])


@pytest.mark.parametrize(
    "changes",
    [{"host": ""}, {"port": 0}, {"sealed": (b"x" * 100,)}],
    ids=["no host but a port", "a host but no port", "open and sealed"],
)
def test_half_hidden_records_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage, match="names host and port, or neither"):
        check_claim(replace(claim(), **changes))
