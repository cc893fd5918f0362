"""The model card: what a model is, where it came from and what it is for, as one hashed record.

Everything on a card is public.
"""

from typing import Final

from koinon.data.schema import Schema, check_schema
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import InvalidInput
from koinon.kernel.ids import Hash32
from koinon.wire.committee import Column

CARD_VERSION: Final = 1
MAXIMUM_CARD_BYTES: Final = 512 * 1024
_MAXIMUM_TEXT: Final = 4000
_DIGEST_BYTES: Final = 32


class Contribution(Record, frozen=True):
    """One data owner's part.

    Attributes:
        owner: the owner's account address, 20 bytes.
        dataset_hash: root of the owner's dataset commitment.
        rows: how many rows the owner gave; public by the study's agreement.
    """

    owner: bytes
    dataset_hash: bytes
    rows: int


class ModelCard(Record, frozen=True):
    """Who made what from what, for what.

    Attributes:
        name: what people call it, such as ``tumour-risk``.
        task: what it answers; ``binary-classification`` is what the evaluation suite measures.
        features: the input columns in order, each with its public range in original units.
        target: name of the column it predicts; the model answers the probability that it is 1.
        threshold_ppm: probability, in parts per million, from which on the answer counts as "yes".
        study_id: number of the study on the chain; 0 for a model that no study made.
        contributions: the data owners' parts; empty where no study made the model.
        committee: node ids of the compute nodes, 32 bytes each.
        code_hash: hash of the algorithm that was run.
        intended_use: a sentence for a human reader.
        licence: SPDX expression or a sentence.
        version: of this record's meaning; 1.
        engine, protection: how the study was computed, and against whom its rows were protected; empty where no study
            made the model.
    """

    name: str
    task: str
    features: tuple[Column, ...]
    target: str
    threshold_ppm: int
    study_id: int
    contributions: tuple[Contribution, ...]
    committee: tuple[bytes, ...]
    code_hash: bytes
    intended_use: str
    licence: str
    version: int = CARD_VERSION
    engine: str = ""
    protection: str = ""

    @property
    def schema(self) -> Schema:
        """The schema of rows that this model understands."""
        return Schema(self.features, self.target)


def check_card(card: ModelCard) -> None:
    """Refuse a card that contradicts itself. Raises InvalidInput naming the field."""
    if card.version != CARD_VERSION:
        raise InvalidInput(f"model card version {card.version} is not known here; version {CARD_VERSION} is")
    check_schema(card.schema)
    if not card.target:
        raise InvalidInput("the model card names no target; a model answers something")
    for field, text in (
        ("name", card.name),
        ("task", card.task),
        ("intended_use", card.intended_use),
        ("licence", card.licence),
    ):
        if not text.strip() or len(text) > _MAXIMUM_TEXT:
            raise InvalidInput(f"the model card's {field} must be 1 to {_MAXIMUM_TEXT} characters")
    if max(len(card.engine), len(card.protection)) > _MAXIMUM_TEXT or bool(card.engine) != bool(card.protection):
        raise InvalidInput("the model card names an engine and, in a sentence, against whom it protects, or neither")
    if not 0 < card.threshold_ppm < 1_000_000:
        raise InvalidInput("the model card's threshold must lie between 0 and 1,000,000 parts per million")
    if card.study_id < 0:
        raise InvalidInput("the model card's study id must not be negative")
    if len(card.code_hash) != _DIGEST_BYTES:
        raise InvalidInput("the model card's code hash must be 32 bytes")
    if any(len(member) != _DIGEST_BYTES for member in card.committee):
        raise InvalidInput("each committee member on the model card must be a node id of 32 bytes")
    for part in card.contributions:
        if len(part.owner) != 20 or len(part.dataset_hash) != _DIGEST_BYTES or part.rows < 1:
            raise InvalidInput("each contribution needs an owner address, a 32-byte dataset hash and at least one row")


def encode_card(card: ModelCard) -> bytes:
    """The card's one encoding. Raises InvalidInput where the card contradicts itself."""
    check_card(card)
    return encode(card)


def decode_card(data: bytes) -> ModelCard:
    """Read a card. Raises MalformedMessage for other bytes, InvalidInput for a card that contradicts itself."""
    card = decode(ModelCard, data, limit=MAXIMUM_CARD_BYTES)
    check_card(card)
    return card


def card_hash(card: ModelCard) -> Hash32:
    """Digest of the card, as the asset on the chain names it."""
    from koinon.crypto.hash import tagged_hash

    return tagged_hash("koinon/models/card/1", encode_card(card))
