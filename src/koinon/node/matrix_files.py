"""Matrices of the operator's as .npy files, and as int64 with a fixed point."""

import os
from pathlib import Path
from typing import Final

import numpy as np

from koinon.kernel.errors import InvalidInput, Unavailable

LARGEST_FILE: Final = 64 * 1024**2
MOST_FRACTION_BITS: Final = 29


def read_matrix(path: Path, fraction_bits: int) -> np.ndarray:
    """A matrix as int64: integers as they are, or any numbers times 2 to the fraction bits, rounded.

    Raises:
        InvalidInput: no .npy file, no matrix of numbers, or numbers that do not fit. None is quoted.
    """
    if not 0 <= fraction_bits <= MOST_FRACTION_BITS:
        raise InvalidInput(f"fraction bits are 0 to {MOST_FRACTION_BITS}; got {fraction_bits}")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InvalidInput(f"{path.name} is larger than {LARGEST_FILE} bytes; cut the matrix")
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise InvalidInput(f"{path.name} is not a .npy file; write one with numpy.save")
        # Mapped, so that a file whose head promises more than follows is refused before room is made for it.
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as problem:
        raise InvalidInput(f"cannot read {path.name}: {problem.strerror or 'it is cut short'}") from None
    except (ValueError, EOFError):
        raise InvalidInput(f"{path.name} holds no array of numbers; write it with numpy.save") from None
    if matrix.ndim != 2 or not matrix.size:
        raise InvalidInput(f"{path.name} holds an array of shape {matrix.shape}; a matrix with rows and columns is due")
    if matrix.dtype.kind in "iu" and fraction_bits == 0:
        if matrix.dtype == np.uint64 and matrix.max() >= 1 << 63:
            raise InvalidInput(f"{path.name} holds numbers of more than 63 bits; use smaller ones")
        return np.array(matrix, np.int64)
    if matrix.dtype.kind not in "iuf":
        raise InvalidInput(f"{path.name} holds {matrix.dtype}; integers or real numbers are due")
    if fraction_bits == 0:
        raise InvalidInput(f"{path.name} holds {matrix.dtype}; say how many bits after the point to keep of them")
    scaled = np.rint(matrix.astype(np.float64) * 2.0**fraction_bits)
    if not (np.isfinite(scaled).all() and np.abs(scaled).max() < 2.0**60):
        raise InvalidInput(f"{path.name} holds numbers that are not finite or too large for {fraction_bits} bits")
    return np.array(scaled, np.int64)


def check_new(path: Path) -> None:
    """Raises InvalidInput where a file could not be written, before anything is paid for it."""
    if path.exists():
        raise InvalidInput(f"{path.name} exists already; choose another name or remove it")
    if not path.parent.is_dir():
        raise InvalidInput(f"there is no folder {path.parent.name} to write {path.name} to")


def write_product(path: Path, product: np.ndarray, fraction_bits: int) -> None:
    """A product of two such matrices to a new file: int64, or float64 where they have fraction bits.

    Raises:
        Unavailable: it cannot be written.
    """
    values = product if fraction_bits == 0 else product / 2.0 ** (2 * fraction_bits)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            np.save(file, values, allow_pickle=False)
    except OSError as problem:
        raise Unavailable(f"cannot write {path.name}: {problem.strerror}; the product was paid for") from None
