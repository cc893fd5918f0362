"""The first four rounds: agree on what is run, and on the component keys (REP4-KEYS).

Key kⱼ is known to every position but j. Each of its three holders commits to 32 random bytes, all open them to each
other, and kⱼ is the hash of the session and the three; so no holder can choose it, and position j sees nothing of it.
Every pair of holders then confirms that both derived the same key.
"""

from collections.abc import Generator, Mapping
from typing import Final

from koinon.crypto.commitment import SALT_BYTES, check, commit
from koinon.crypto.hash import tagged_hash
from koinon.kernel.effects import Rng
from koinon.kernel.errors import Forged
from koinon.privacy.rep4 import abort
from koinon.privacy.rep4.party import Party
from koinon.privacy.rep4.signing import SIGNATURE_BYTES
from koinon.wire.committee import POSITIONS

_AGREEMENT_DOMAIN: Final = "koinon/rep4/agreement/1"
_CONTRIBUTION_DOMAIN: Final = "koinon/rep4/key-contribution/1"
_KEY_DOMAIN: Final = "koinon/rep4/component-key/1"
_CONFIRMATION_DOMAIN: Final = "koinon/rep4/key-confirmation/1"
_HASH: Final = 32
_CONTRIBUTION: Final = 32
_OPENING: Final = _CONTRIBUTION + SALT_BYTES


def agree(party: Party, rng: Rng) -> Generator[None, None, None]:
    """Compare sessions, then make and install the component keys: four rounds, about 400 bytes per peer.

    Raises:
        CommitteeAbort: a peer means another session, opens something else than it committed to, or confirms another
            key. Nothing secret has been used by then.
    """
    yield from _compare_sessions(party)
    secrets = {j: (rng.bytes(_CONTRIBUTION), rng.bytes(SALT_BYTES)) for j in POSITIONS if j != party.position}
    shared = {peer: _shared(party.position, peer) for peer in party.peers}

    commitments = {
        j: commit(_CONTRIBUTION_DOMAIN, _bound(party, j, secret), salt) for j, (secret, salt) in secrets.items()
    }
    for peer in party.peers:
        party.tell(peer, b"".join(commitments[j] for j in shared[peer]))
    promised = {peer: party.hear(peer, _HASH * len(shared[peer])) for peer in party.peers}
    yield

    for peer in party.peers:
        party.tell(peer, b"".join(secrets[j][0] + secrets[j][1] for j in shared[peer]))
    opened = {peer: party.hear(peer, _OPENING * len(shared[peer])) for peer in party.peers}
    yield

    contributions = {j: {party.position: secret} for j, (secret, _) in secrets.items()}
    for peer in party.peers:
        for place, j in enumerate(shared[peer]):
            opening = opened[peer].content[place * _OPENING : (place + 1) * _OPENING]
            secret, salt = opening[:_CONTRIBUTION], opening[_CONTRIBUTION:]
            commitment = promised[peer].content[place * _HASH : (place + 1) * _HASH]
            try:
                check(commitment, _CONTRIBUTION_DOMAIN, _bound_to(party.session, peer, j, secret), salt)
            except Forged:
                raise party.complain(abort.INCONSISTENT, peer) from None
            contributions[j][peer] = secret
    keys = {
        j: tagged_hash(_KEY_DOMAIN, party.session, bytes([j]), *(given[p] for p in sorted(given)))
        for j, given in contributions.items()
    }
    yield from _confirm(party, keys, shared)
    party.install_keys(keys)


def _compare_sessions(party: Party) -> Generator[None, None, None]:
    signature = party.signatures.sign(_AGREEMENT_DOMAIN, party.session)
    for peer in party.peers:
        party.tell(peer, party.session + signature)
    meant = {peer: party.hear(peer, _HASH + SIGNATURE_BYTES) for peer in party.peers}
    yield
    for peer, announcement in meant.items():
        if announcement.content[:_HASH] != party.session:
            raise party.complain(abort.INCONSISTENT, peer)
        try:
            party.signatures.check(peer, _AGREEMENT_DOMAIN, party.session, announcement.content[_HASH:])
        except Forged:
            raise party.complain(abort.MALFORMED, peer) from None


def _confirm(
    party: Party, keys: Mapping[int, bytes], shared: dict[int, tuple[int, ...]]
) -> Generator[None, None, None]:
    def confirmation(j: int, position: int) -> bytes:
        return tagged_hash(_CONFIRMATION_DOMAIN, party.session, keys[j], bytes([j, position]))

    for peer in party.peers:
        party.tell(peer, b"".join(confirmation(j, party.position) for j in shared[peer]))
    confirmed = {peer: party.hear(peer, _HASH * len(shared[peer])) for peer in party.peers}
    yield
    for peer in party.peers:
        for place, j in enumerate(shared[peer]):
            if confirmed[peer].content[place * _HASH : (place + 1) * _HASH] != confirmation(j, peer):
                # The peer, or the third holder, who may have opened different contributions to the two of us.
                (third,) = set(POSITIONS) - {party.position, peer, j}
                raise party.complain(abort.INCONSISTENT, peer, third)


def _shared(position: int, peer: int) -> tuple[int, ...]:
    """The components whose keys both hold, ascending."""
    return tuple(j for j in POSITIONS if j not in (position, peer))


def _bound(party: Party, j: int, secret: bytes) -> bytes:
    return _bound_to(party.session, party.position, j, secret)


def _bound_to(session: bytes, position: int, j: int, secret: bytes) -> bytes:
    return session + bytes([position, j]) + secret
