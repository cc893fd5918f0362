"""ONNX Runtime whose sessions answer on rows nobody shows: ``from koinon.privacy import onnxruntime as rt``.

Everything here is ONNX Runtime's own except ``InferenceSession``, whose ``run`` shares its inputs among four parties
and opens nothing but the outputs that were asked for. The graph and its weights are public to all four; to keep a
model's weights secret too, see ``koinon.privacy.inference``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as _onnxruntime

from koinon.kernel.errors import InvalidInput
from koinon.privacy.arrays import SecretArray
from koinon.privacy.backend import Backend
from koinon.privacy.computation import Revealed, reveal, run, table
from koinon.privacy.graphs.onnx_model import evaluate_model

__all__ = ["InferenceSession"]

_LABEL: Final = "output {}"


class InferenceSession(_onnxruntime.InferenceSession):  # type: ignore[misc]
    """``onnxruntime.InferenceSession`` on secret inputs; ONNX Runtime itself only checks the model and describes it."""

    def __init__(self, path_or_bytes: str | bytes | Path, *arguments: Any, **settings: Any) -> None:
        """As ONNX Runtime's. Raises its errors for a model that is none."""
        import onnx

        super().__init__(path_or_bytes, *arguments, **settings)
        data = path_or_bytes if isinstance(path_or_bytes, bytes) else Path(path_or_bytes).read_bytes()
        self._graph = onnx.load_model_from_string(data)

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: Any = None,
        *,
        engine: Backend | None = None,
    ) -> list[np.ndarray]:
        """The outputs for inputs that are shared among four parties; labels are whole numbers.

        Args:
            output_names: all outputs where none are named.
            engine: by default four parties in this process.

        Raises:
            InvalidInput: inputs that do not fit the model, or a model that does something not done with secrets.
            Refused: some input within its range could overflow the model.
            ProtocolAbort: a party deviated.
        """
        del run_options
        names = list(output_names or [output.name for output in self.get_outputs()])
        given = {name: np.asarray(values, np.float64) for name, values in input_feed.items()}
        if not given or not all(each.size for each in given.values()):
            raise InvalidInput("a session answers inputs of at least one number")
        numbers = table(np.concatenate([each.ravel() for each in given.values()]))

        def compute(shared: SecretArray) -> Revealed:
            inputs, start = {}, 0
            for name, each in given.items():
                inputs[name] = shared[start : start + each.size, 0].reshape(*each.shape)
                start += each.size
            found = evaluate_model(self._graph, inputs, names)
            arrays = {_LABEL.format(place): found[name] for place, name in enumerate(names)}
            return reveal(**arrays)  # type: ignore[arg-type]  # reveal refuses what is public already

        opened = run(compute, [numbers], engine).outputs
        whole = [output.name for output in self.get_outputs() if "int" in output.type]
        results = [opened[_LABEL.format(place)] for place in range(len(names))]
        return [
            np.rint(each).astype(np.int64) if name in whole else each.astype(np.float32)
            for name, each in zip(names, results, strict=True)
        ]


def __getattr__(name: str) -> Any:
    """Whatever is not about answering is ONNX Runtime's own."""
    return getattr(_onnxruntime, name)
