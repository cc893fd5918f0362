"""TLS contexts made in memory from a node key. A certificate says nothing but the key; only the key is trusted."""

import os
import ssl
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from koinon.crypto.signature import NodeKey
from koinon.kernel.errors import Forged
from koinon.kernel.ids import NodeId

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME: Final = "koinon"
_BEGIN: Final = datetime(2020, 1, 1, tzinfo=UTC)
_END: Final = datetime(2120, 1, 1, tzinfo=UTC)


def server_context(key: NodeKey) -> ssl.SSLContext:
    """TLS 1.3 only, with a self-signed certificate for the node's own Ed25519 key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509 import CertificateBuilder, Name, NameAttribute
    from cryptography.x509.oid import NameOID

    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    name = Name([NameAttribute(NameOID.COMMON_NAME, _NAME)])
    certificate = (
        CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .sign(private, None)
    )
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    text += certificate.public_bytes(Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a resumed session would carry no certificate to pin
    with _readable_path(text) as path:
        context.load_cert_chain(path)
    return context


@lru_cache(maxsize=1)
def client_context() -> ssl.SSLContext:
    """TLS 1.3 only. Trusts no authority: ``certified_key`` is compared with the key that was called."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def certified_key(der: bytes | None) -> NodeId:
    """The Ed25519 key in a peer's certificate, of which the TLS handshake has proven possession.

    Raises:
        Forged: no certificate, or none for an Ed25519 key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.x509 import load_der_x509_certificate

    try:
        public = load_der_x509_certificate(der or b"").public_key()
    except ValueError:
        raise Forged("the peer shows no certificate that can be read") from None
    if not isinstance(public, Ed25519PublicKey):
        raise Forged("the peer's certificate is not for an Ed25519 key")
    return NodeId(public.public_bytes_raw())


@contextmanager
def _readable_path(text: bytes) -> "Iterator[str]":
    """A path from which OpenSSL can read ``text``: memory where the system has it, or a file for a moment."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC)
        try:
            os.write(descriptor, text)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:  # mode 0600, removed when the block ends
            file.write(text)
            file.flush()
            yield file.name
