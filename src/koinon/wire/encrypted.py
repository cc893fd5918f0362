"""0x0Bxx: questions that a model answers without seeing them."""

from koinon.wire.catalogue import Done, Message, message


@message(0x0B01, limit=1024)
class EncryptedOffer(Message, frozen=True):
    """What a caller must know to ask: columns in, numbers out, products in a row, and what to do with the numbers."""

    features: int
    outputs: int
    depth: int
    link: str


@message(0x0B02, answers=(EncryptedOffer,), limit=1024)
class FetchEncryptedOffer(Message, frozen=True):
    """Does a node answer for this model on encrypted inputs?"""

    model: str


@message(0x0B03, limit=64 << 20)
class EncryptedAnswer(Message, frozen=True):
    """One ciphertext for each output, under the caller's keys.

    ``signature`` is the node's, over the hash of the question and of ``columns``: a wrong answer is evidence.
    ``receipt`` is its account's, for the contract that the question's task names; empty where it names none.
    """

    columns: tuple[bytes, ...]
    signature: bytes
    receipt: bytes = b""


@message(0x0B04, answers=(EncryptedAnswer,), limit=128 << 20)
class EncryptedQuestion(Message, frozen=True):
    """The caller's public keys and one ciphertext for each column of its rows.

    ``task`` names a piece of paid work, see ``jobs.outsourcing``; empty for a question outside any.
    """

    model: str
    public: bytes
    columns: tuple[bytes, ...]
    task: bytes = b""


@message(0x0B05, answers=(Done,), limit=1024)
class OfferWork(Message, frozen=True):
    """A client offers paid work to a worker that the job's terms name; ``Done`` says that its bond is there."""

    contract: bytes
    job: int


@message(0x0B06, answers=(Done,), limit=5 << 20)
class GiveModel(Message, frozen=True):
    """The client of a job that a worker took gives it the model, or the part of one, that it is to evaluate.

    ``model`` is the encoding of a ``privacy.encrypted.models.EncryptedModel``; questions name it by its hash.
    """

    contract: bytes
    job: int
    model: bytes


@message(0x0B07, limit=40 << 20)
class SignedProduct(Message, frozen=True):
    """A product's words, see ``privacy.multiplication``, and its worker's signature over their commitment."""

    words: bytes
    signature: bytes


@message(0x0B08, answers=(SignedProduct,), limit=72 << 20)
class OfferProduct(Message, frozen=True):
    """A client offers a worker the product of two matrices, whose sizes and commitments are in the job's terms.

    They are not hidden from the worker, which puts up its bond before it answers.
    """

    contract: bytes
    job: int
    left: bytes
    right: bytes
