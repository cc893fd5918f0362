"""The one way in which onnxruntime is opened here: from bytes, one thread, no custom operators, silent."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime


def open_session(onnx_bytes: bytes, *, optimise: bool = True) -> "onnxruntime.InferenceSession":
    """A session over ``onnx_bytes`` on the CPU. Loading from bytes gives the model no folder to point into.

    Raises:
        onnxruntime's own errors; whoever opens untrusted bytes does so in ``models.child`` and reports the kind only.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
