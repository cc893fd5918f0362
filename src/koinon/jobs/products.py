"""Commitments to matrices and their product, and the one number that shows a product to be wrong.

    terms = ProductTerms(worker, *shape, row_root(left), row_root(right.T), …)     both sides, before anybody pays
    cell = wrong_number(left, right, claimed, rng)                                 the client, who multiplies nothing
    await contract.refute(job, row_root(claimed), signature, evidence(left, right, claimed, *cell))

The root over the rows of a matrix is that of a Merkle tree (``crypto.merkle``) with a row's words in each leaf.
"""

import numpy as np

from koinon.contracts.products import Cell
from koinon.crypto import merkle
from koinon.kernel.ids import Hash32
from koinon.privacy.multiplication import to_words


def row_root(matrix: np.ndarray) -> Hash32:
    """The commitment to an int64 matrix by its rows; of its transpose, by its columns."""
    return merkle.root(_leaves(matrix))


def evidence(left: np.ndarray, right: np.ndarray, claimed: np.ndarray, row: int, column: int) -> Cell:
    """What shows that one number of a claimed product is wrong, which is for the contract to find."""
    lefts, rights, products = _leaves(left), _leaves(right.T), _leaves(claimed)
    return Cell(
        row=row,
        column=column,
        left=lefts[row],
        left_proof=merkle.prove(lefts, row),
        right=rights[column],
        right_proof=merkle.prove(rights, column),
        product=products[row],
        product_proof=merkle.prove(products, row),
    )


def _leaves(matrix: np.ndarray) -> list[bytes]:
    words, size = to_words(matrix), 8 * matrix.shape[1]
    return [words[start : start + size] for start in range(0, len(words), size)]
