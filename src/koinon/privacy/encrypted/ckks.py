"""Approximate arithmetic on encrypted numbers (Cheon, Kim, Kim and Song, ASIACRYPT 2017), through TenSEAL and SEAL.

Every column of the caller's rows is one ciphertext with a row in each slot: a model then needs no rotation, so the
caller sends half a megabyte of keys instead of tens. Parameters have 128-bit security by the Homomorphic Encryption
Standard (2018), which SEAL enforces.

TenSEAL is an extra: ``pip install koinon[encrypted]``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from koinon.kernel.errors import InvalidInput, MalformedMessage, Unavailable
from koinon.privacy.encrypted.models import EncryptedModel

if TYPE_CHECKING:
    import tenseal

SCALE_BITS: Final = 40
_MODULI: Final = {2: 8192, 5: 16384}
"""Depth → degree of the ring: the smallest that leaves room for so many products of 40 bits."""
DEEPEST: Final = max(_MODULI)
LARGEST_CONTEXT: Final = 16 * 1024 * 1024
LARGEST_CIPHERTEXT: Final = 4 * 1024 * 1024
LARGEST_INPUT: Final = 2.0**18
LARGEST_SUMMAND: Final = 2.0**20
_LEAST_WEIGHT: Final = 2.0**-SCALE_BITS


def library() -> Any:
    """The tenseal module. Raises Unavailable where the extra is not installed."""
    try:
        import tenseal
    except ImportError:
        raise Unavailable("computing on ciphertexts needs TenSEAL: pip install 'koinon[encrypted]'") from None
    return tenseal


def degree_for(depth: int) -> int:
    """Degree of the ring for so many products one after the other. Raises InvalidInput beyond the deepest."""
    for deepest, degree in _MODULI.items():
        if depth <= deepest:
            return degree
    raise InvalidInput(f"the model multiplies {depth} times in a row; parameters here leave room for {DEEPEST}")


def rows_for(depth: int) -> int:
    """Rows that fit into one batch."""
    return degree_for(depth) // 2


@dataclass(frozen=True)
class Keys:
    """A caller's keys. ``context`` holds the secret key and never leaves this process; ``public`` is what is sent."""

    context: "tenseal.Context"
    public: bytes
    depth: int

    def encrypt(self, rows: np.ndarray) -> list[bytes]:
        """One ciphertext for each column of (n, columns).

        Raises:
            InvalidInput: rows of another shape, too many of them, or numbers that are not finite or too large. None
                is quoted.
        """
        values = np.asarray(rows, np.float64)
        if values.ndim != 2 or not 1 <= len(values) <= rows_for(self.depth):
            raise InvalidInput(
                f"encrypt 1 to {rows_for(self.depth)} rows at once; got an array of shape {values.shape}"
            )
        if not (np.isfinite(values).all() and np.abs(values).max() <= LARGEST_INPUT):
            raise InvalidInput(f"inputs are finite numbers up to {LARGEST_INPUT:.0f}; scale the columns")
        return [library().ckks_vector(self.context, column.tolist()).serialize() for column in values.T]

    def decrypt(self, ciphertexts: list[bytes], rows: int, decimals: int) -> np.ndarray:
        """(rows, outputs), rounded.

        The digits that rounding drops hold the encryption's noise. Whoever knows them and the ciphertext can find the
        secret key (Li and Micciancio, EUROCRYPT 2021), so they are dropped here, before anybody can be told. That is no
        proof: a number as near to the edge of its rounding as the noise is large tells a bit of it. Fresh ciphertexts
        and their sums have noise of a deviation of 4 · 10⁻⁹, so with four decimals that is one number of ten thousand.

        Raises:
            MalformedMessage: what came back is no answer under these keys.
        """
        columns = []
        for ciphertext in ciphertexts:
            numbers = _vector(self.context, ciphertext).decrypt()
            if len(numbers) != rows:
                raise MalformedMessage(f"an answer for {rows} rows came back with {len(numbers)}")
            columns.append(numbers)
        return np.round(np.column_stack(columns), decimals)


def generate(depth: int) -> Keys:
    """Fresh keys for models of this depth. Raises InvalidInput for a depth there are no parameters for."""
    context = _fresh(depth)
    if depth > 1:
        context.generate_relin_keys()
    public = context.serialize(
        save_public_key=True, save_secret_key=False, save_galois_keys=False, save_relin_keys=depth > 1
    )
    return Keys(context, public, depth)


def secret_bytes(keys: Keys) -> bytes:
    """Everything that opens what is under these keys; for the disk of whoever made them."""
    return bytes(
        keys.context.serialize(
            save_public_key=False, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
        )
    )


def keys_from(secret: bytes, depth: int) -> Keys:
    """Keys that can open and nothing else. Raises MalformedMessage for bytes that ``secret_bytes`` did not write."""
    context = _context(secret, depth)
    if not context.has_secret_key():
        raise MalformedMessage("these keys open nothing")
    return Keys(context, b"", depth)


def encrypt_numbers(public: bytes, numbers: np.ndarray, depth: int) -> bytes:
    """Numbers (k,) in the slots of one ciphertext under somebody else's key, to be added and no more.

    Raises:
        InvalidInput: too many, too large, or not finite.
        MalformedMessage: a public key that is none.
    """
    values = np.asarray(numbers, np.float64)
    if values.ndim != 1 or not 1 <= values.size <= rows_for(depth):
        raise InvalidInput(f"a ciphertext holds 1 to {rows_for(depth)} numbers; got an array of shape {values.shape}")
    if not (np.isfinite(values).all() and np.abs(values).max() <= LARGEST_SUMMAND):
        raise InvalidInput(f"numbers to be added are finite and up to {LARGEST_SUMMAND:.0f}")
    sealed: bytes = library().ckks_vector(_public_context(public, depth), values.tolist()).serialize()
    return sealed


def added(ciphertexts: Sequence[bytes], depth: int) -> bytes:
    """The sum of ciphertexts under one key: the same bytes wherever it is computed. No key is needed.

    Raises:
        MalformedMessage: none, or bytes that are no ciphertexts of these parameters and of as many numbers.
    """
    if not ciphertexts:
        raise MalformedMessage("there is nothing to add")
    context = _fresh(depth)
    vectors = [_vector(context, each) for each in ciphertexts]
    shapes = {(vector.size(), *(one.scale for one in vector.ciphertext())) for vector in vectors}
    (size, *scales), *others = shapes
    if others or not 1 <= size <= rows_for(depth) or scales != [2.0**SCALE_BITS]:
        raise MalformedMessage("these are no ciphertexts of the same number of numbers, never multiplied")
    total = vectors[0]
    for each in vectors[1:]:
        total += each
    sealed: bytes = total.serialize()
    return sealed


def evaluate(model: EncryptedModel, public: bytes, columns: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The model's last layer on encrypted columns: one ciphertext for each output.

    Everything but the model is hostile: run it in a child with limits (``worker``).

    Raises:
        InvalidInput: another number of columns than the model takes.
        MalformedMessage: keys or ciphertexts that are none, of other parameters, or too long.
    """
    model.check()
    if len(columns) != model.features:
        raise InvalidInput(f"the model takes {model.features} columns; {len(columns)} came")
    context = _public_context(public, model.depth)
    values = [_vector(context, column) for column in columns]
    if len({value.size() for value in values}) != 1:
        raise MalformedMessage("the columns have different numbers of rows")
    for layer in model.layers:
        units = []
        for weights, bias in zip(layer.weights, layer.bias, strict=True):
            # A product with 0 would be the ciphertext that anybody can read, which SEAL refuses to make.
            products = [
                value * (w if abs(w) > _LEAST_WEIGHT else _LEAST_WEIGHT)
                for value, w in zip(values, weights, strict=True)
            ]
            total = products[0]
            for product in products[1:]:
                total += product
            total += bias
            units.append(total.square() if layer.square else total)
        values = units
    return tuple(value.serialize() for value in values)


def _public_context(encoded: bytes, depth: int) -> "tenseal.Context":
    context = _context(encoded, depth)
    if context.has_secret_key():
        raise MalformedMessage("the keys hold the caller's secret key; send the public ones alone and make new keys")
    if depth > 1 and not context.has_relin_keys():
        raise MalformedMessage(f"the model needs keys for depth {depth}; these are others")
    return context


def _context(encoded: bytes, depth: int) -> "tenseal.Context":
    if len(encoded) > LARGEST_CONTEXT:
        raise MalformedMessage(f"keys of {len(encoded)} bytes are longer than any that are needed")
    try:
        context = library().context_from(encoded)
        parameters, scale = context.seal_context().data.key_parms_id(), context.global_scale
    except MemoryError:
        raise
    except Exception as problem:  # SEAL raises whatever the bytes make it raise
        raise MalformedMessage(f"the keys are not what TenSEAL writes ({type(problem).__name__})") from None
    if parameters != _parameters_for(depth) or scale != 2.0**SCALE_BITS:
        raise MalformedMessage(f"the model needs keys for depth {depth}; these are others")
    return context


def _vector(context: "tenseal.Context", encoded: bytes) -> "tenseal.CKKSVector":
    if len(encoded) > LARGEST_CIPHERTEXT:
        raise MalformedMessage(f"a ciphertext of {len(encoded)} bytes is longer than any that is needed")
    try:
        return library().ckks_vector_from(context, encoded)
    except MemoryError:
        raise
    except Exception as problem:  # SEAL raises whatever the bytes make it raise
        raise MalformedMessage(f"a ciphertext is not one under these keys ({type(problem).__name__})") from None


@cache
def _parameters_for(depth: int) -> list[int]:
    """SEAL's hash of the parameters for a depth."""
    identity: list[int] = _fresh(depth).seal_context().data.key_parms_id()
    return identity


def _fresh(depth: int) -> "tenseal.Context":
    room = next(deepest for deepest in _MODULI if depth <= deepest)
    sizes = [60, *[SCALE_BITS] * room, 60]
    context = library().context(library().SCHEME_TYPE.CKKS, degree_for(depth), coeff_mod_bit_sizes=sizes)
    context.global_scale = 2**SCALE_BITS
    return context
