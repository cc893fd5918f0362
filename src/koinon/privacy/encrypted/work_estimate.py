"""What encrypted work for strangers takes, and how much of the model each of them is shown, before it is paid for."""

from dataclasses import dataclass

from koinon.privacy.encrypted.models import EncryptedModel
from koinon.privacy.encrypted.parts import divided, parts_for, whole
from koinon.privacy.encrypted.replication import asking_order


@dataclass(frozen=True)
class WorkEstimate:
    """Counts, of which the first four follow from the work alone.

    Attributes:
        parts: that the model is cut into.
        pieces: to be paid for, each to as many workers as have to agree.
        answers: that are computed if nobody fails or lies.
        products: of a ciphertext and a weight, for the largest of the answers.
        whole_products: the same with the model in one.
        shown: parts of the model that a worker sees at most if nobody fails or lies.
        most_shown: the same, whoever fails or lies.
    """

    parts: int
    pieces: int
    answers: int
    products: int
    whole_products: int
    shown: int
    most_shown: int


def estimate_work(
    model: EncryptedModel, split: str, rows: int, piece_rows: int, workers: int, agree: int
) -> WorkEstimate:
    """For so many rows in pieces of ``piece_rows``, and so many workers of whom ``agree`` have to say the same.

    Raises:
        InvalidInput: the model cannot be split so, see ``parts.parts_for``.
    """
    parts = parts_for(model, split, workers, agree)
    division = divided(model, parts, lambda _: "") if parts > 1 else whole(model, lambda _: "")
    pieces = -(-rows // piece_rows) * parts
    return WorkEstimate(
        parts=parts,
        pieces=pieces,
        answers=pieces * agree,
        products=max(_products(part.model) for part in division.parts),
        whole_products=_products(model),
        shown=1 if parts == 1 else max(_shown(workers, agree, parts)),
        most_shown=max(parts - 1, 1),
    )


def _shown(workers: int, agree: int, parts: int) -> list[int]:
    """Parts that each place of the circle of workers is asked about, if nobody fails or lies."""
    asked = [place for part in range(parts) for place in asking_order(range(workers), part, parts)[:agree]]
    return [asked.count(place) for place in range(workers)]


def _products(model: EncryptedModel) -> int:
    return sum(len(layer.weights) * len(layer.weights[0]) for layer in model.layers)
