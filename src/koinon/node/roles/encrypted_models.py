"""Models of this node's operator that answer encrypted rows: kept in the clear here, asked under the caller's keys."""

import asyncio
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from koinon.jobs.outsourcing import Task, job_name, job_of
from koinon.kernel.codec import decode, encode
from koinon.kernel.errors import InvalidInput, KoinonError, Refused
from koinon.kernel.ids import Hash32, NodeId
from koinon.node.context import Context
from koinon.node.datasets import write_private
from koinon.node.orders import AnswerEncrypted, AskEncrypted, Nothing, PrivateAnswers
from koinon.node.tasks import Narrator
from koinon.wire.encrypted import EncryptedQuestion, FetchEncryptedOffer

if TYPE_CHECKING:
    from koinon.privacy.encrypted.models import EncryptedModel, KeptModel
    from koinon.privacy.encrypted.service import Admits, Receipts

journal = logging.getLogger("koinon.encrypted-models")

MOST_MODELS: Final = 64
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_LARGEST: Final = 64 * 1024**2


class EncryptedModelsRole:
    """What the operator lets others ask, and the operator's own questions to others."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._models: dict[str, EncryptedModel] = {}
        self._callers: dict[str, tuple[NodeId, ...]] = {}
        self._paid: dict[str, tuple[Admits, Receipts]] = {}
        self._serving = False

    def offer(self) -> None:
        """Take the operator's orders, and answer for the models that are kept."""
        board, folder = self._context.board, self._context.home.encrypted_models
        board.offer("model.answer", self._answer)
        board.offer("model.ask_encrypted", self._ask)
        if folder.is_dir():
            self._read(folder)

    def _read(self, folder: Path) -> None:
        from koinon.privacy.encrypted.models import KeptModel

        for path in sorted(folder.glob("*.model")):
            try:
                kept = decode(KeptModel, path.read_bytes(), limit=_LARGEST)
                kept.model.check()
                self._serve(path.stem, kept)
            except (KoinonError, OSError) as problem:
                journal.error("the model in %s cannot be used: %s", path.name, problem)

    def report(self) -> list[str]:
        """Names of the models that this node answers for, for its status."""
        return sorted(self._models)

    def take_on(self, job: str, admits: "Admits", receipts: "Receipts") -> None:
        """Answer for somebody else's models too, for pay; ``admits`` decides who may ask what of them."""
        self._paid[job] = (admits, receipts)

    def show(self, name: str, model: "EncryptedModel") -> None:
        """A model of a job that was taken on; ``jobs.outsourcing.model_name`` says how it is called."""
        self._models[name] = model
        self._start()

    def let_go(self, job: str) -> None:
        """Answer no longer for a job that was taken on."""
        del self._paid[job]
        for name in [each for each in self._models if job_of(each) == job]:
            del self._models[name]

    def _serve(self, name: str, kept: "KeptModel") -> None:
        self._models[name], self._callers[name] = kept.model, kept.callers
        self._start()

    def _start(self) -> None:
        from koinon.privacy.encrypted.service import serve

        if not self._serving:
            transport, key = self._context.transport, self._context.keys.node
            serve(transport.handle, key, self._models, receipts=self._receipt, admits=self._admit)
            self._serving = True

    def _admit(self, caller: NodeId, asked: FetchEncryptedOffer | EncryptedQuestion) -> None:
        name = asked.model
        if (job := job_of(name)) in self._paid:
            self._paid[job][0](caller, asked)
            return
        if isinstance(asked, EncryptedQuestion) and asked.task:
            raise Refused("this node did not take the work that the question names; ask without a task")
        if (allowed := self._callers.get(name)) and caller not in allowed:
            raise Refused(f"the owner of {name} does not let this caller ask")

    def _receipt(self, task: bytes, question: Hash32, answer: Hash32) -> bytes:
        named = decode(Task, task)
        paid = self._paid.get(job_name(named.contract, named.job))
        if paid is None:
            raise Refused("this node did not take the work that the question names")
        return paid[1](task, question, answer)

    async def _answer(self, argument: bytes, narrator: Narrator) -> Nothing:
        """Answer encrypted rows with a model of the operator's from now on.

        Raises:
            InvalidInput: the name or the file cannot be used so.
            Unavailable: the extra that computes on ciphertexts is not installed.
        """
        from koinon.privacy.encrypted.ckks import library
        from koinon.privacy.encrypted.models import KeptModel

        order, folder = decode(AnswerEncrypted, argument), self._context.home.encrypted_models
        if not _NAME.fullmatch(order.name):
            raise InvalidInput("a model's name has 1 to 64 of a-z, 0-9, '-' and '.'")
        if order.name not in self._models and len(self._models) >= MOST_MODELS:
            raise InvalidInput(f"this node answers for {MOST_MODELS} models already")
        await asyncio.to_thread(library)
        kept = KeptModel(await asyncio.to_thread(_read_layers, Path(order.path)), order.callers)
        await asyncio.to_thread(_write, folder / f"{order.name}.model", encode(kept))
        self._serve(order.name, kept)
        narrator.say(f"answers encrypted rows of {kept.model.features} numbers from now on", 1.0)
        return Nothing()

    async def _ask(self, argument: bytes, narrator: Narrator) -> PrivateAnswers:
        """Have another node's model answer for the rows of a file, encrypted under keys of this question alone.

        Raises:
            KoinonError: see ``privacy.encrypted.service.EncryptedPredictor``.
        """
        from koinon.data.table import read_features
        from koinon.privacy.encrypted.service import EncryptedPredictor

        order, context = decode(AskEncrypted, argument), self._context
        rows = await asyncio.to_thread(read_features, Path(order.path), ())
        endpoint = (await context.directory.find_node(order.node)).endpoint
        predictor = await EncryptedPredictor.find(context.transport, endpoint, order.name)
        narrator.say(f"{len(rows)} rows leave this node encrypted", 0.3)
        answers = await predictor.predict(rows)
        narrator.say(f"{len(answers)} answers, which this node alone can decrypt", 1.0)
        return PrivateAnswers(order.name, int(answers.shape[1]), tuple(answers.ravel().tolist()))


def _read_layers(path: Path) -> "EncryptedModel":
    from koinon.node.onnx_files import read_onnx
    from koinon.privacy.encrypted.onnx_layers import layers_of

    return layers_of(read_onnx(path))


def _write(path: Path, content: bytes) -> None:
    """Replace a file whole. Raises Unavailable where the disk does not take it; the old one stays then."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    write_private(temporary, content)
    temporary.replace(path)
