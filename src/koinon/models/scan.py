"""Reading an untrusted ONNX file before anything runs it: what it may contain, and how much memory it can ask for.

A file of 142 bytes can ask for 40 GB; another can point at ``/etc/passwd`` as its weights. ``scan`` never opens it in
onnxruntime. It still parses hostile bytes with protobuf and with onnx's shape inference, so ``SandboxedModel`` runs it
inside the disposable child; its memory limit is the second wall, and a watchdog the third.

Refused: external data of any kind, operators outside the ONNX standard, model-local functions, training graphs,
subgraphs (Loop, Scan, If, SequenceMap), operators that draw random numbers, sparse constants, constants that declare
more than the file holds, operators whose output size is computed from values that are not known before the run, and
shapes that exceed the budget.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Final

from koinon.kernel.errors import InvalidInput

if TYPE_CHECKING:
    import onnx

STANDARD_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})
SUBGRAPH_OPERATORS: Final = frozenset({"Loop", "Scan", "If", "SequenceMap"})
RANDOM_OPERATORS: Final = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
VALUE_SIZED_OPERATORS: Final = frozenset(
    {"ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Upsample", "OneHot", "Pad", "Reshape", "CenterCropPad"}
    | {"MaxUnpool", "Col2Im", "AffineGrid", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix", "DFT"}
)
"""Operators whose output size is one of their input's *values*; it must be computable before the run."""

_NOT_SUPPORTED: Final = frozenset(
    {"UNDEFINED", "STRING", "COMPLEX64", "COMPLEX128", "INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1"}
)
_STRING_BYTES: Final = 64
"""What one string counts as; its characters are bounded by the file."""


@dataclass(frozen=True)
class ScanLimits:
    """How large a model may be.

    Attributes:
        model_bytes: of the file.
        nodes: operators in the graph.
        constant_bytes: of all constants together, as they lie in memory.
        activation_bytes: bound on the sum of all intermediate results for ``batch_rows`` rows.
        batch_rows: the batch for which ``activation_bytes`` is computed.
    """

    model_bytes: int = 64 * 1024 * 1024
    nodes: int = 20_000
    constant_bytes: int = 256 * 1024 * 1024
    activation_bytes: int = 256 * 1024 * 1024
    batch_rows: int = 1024


DEFAULT_SCAN_LIMITS: Final = ScanLimits()


@dataclass(frozen=True)
class ScanReport:
    """What a model that passed contains.

    Attributes:
        model_bytes: size of the file.
        operators: how often each operator occurs, by name.
        constant_bytes: memory of all constants.
        activation_bytes: memory of all intermediate results for the limits' batch, as far as shapes are known.
        unknown_shapes: results whose shape is known only at run time; the sandbox's memory limit bounds those.
        opset: version of the standard operator set.
    """

    model_bytes: int
    operators: tuple[tuple[str, int], ...]
    constant_bytes: int
    activation_bytes: int
    unknown_shapes: int
    opset: int


def scan(onnx_bytes: bytes, limits: ScanLimits = DEFAULT_SCAN_LIMITS) -> ScanReport:
    """Check an untrusted model without running it.

    Raises:
        InvalidInput: one sentence that names what was found, by operator or constant name.
    """
    model = _parse(onnx_bytes, limits)
    constant_bytes = _check_contents(model, limits)
    opset = _check_frame(model)
    _check_interface(model)
    activation_bytes, unknown = _bound_activations(model, limits)
    operators = Counter(node.op_type for node in model.graph.node)
    return ScanReport(
        len(onnx_bytes), tuple(sorted(operators.items())), constant_bytes, activation_bytes, unknown, opset
    )


def _parse(onnx_bytes: bytes, limits: ScanLimits) -> "onnx.ModelProto":
    if not onnx_bytes:
        raise InvalidInput("the model file is empty")
    if len(onnx_bytes) > limits.model_bytes:
        raise InvalidInput(f"the model file has {len(onnx_bytes)} bytes; at most {limits.model_bytes} are allowed")
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs among our packages

    model = onnx.ModelProto()
    try:
        model.ParseFromString(onnx_bytes)
    except (DecodeError, RecursionError):
        raise InvalidInput(
            "the file is not an ONNX model; only ONNX is accepted, never pickle or other formats"
        ) from None
    if not model.HasField("graph") or not model.graph.node:
        raise InvalidInput("the file holds no ONNX graph; only ONNX is accepted, never pickle or other formats")
    return model


def _check_frame(model: "onnx.ModelProto") -> int:
    import onnx

    if len(model.functions):
        raise InvalidInput("the model defines functions of its own; export it with its functions inlined")
    if len(model.training_info):
        raise InvalidInput("the model carries training graphs; export it for inference only")
    versions: dict[str, int] = {}
    for imported in model.opset_import:
        if imported.domain not in STANDARD_DOMAINS:
            raise InvalidInput(
                f"the model needs operators of {_quote(imported.domain)}; only standard ONNX operators run here"
            )
        versions["" if imported.domain == "ai.onnx" else imported.domain] = imported.version
    opset = versions.get("", 0)
    if not (7 <= opset <= onnx.defs.onnx_opset_version()):
        raise InvalidInput(f"the model uses operator set {opset}; 7 to {onnx.defs.onnx_opset_version()} are supported")
    return opset


def _check_contents(model: "onnx.ModelProto", limits: ScanLimits) -> int:
    """Visit every message of the file, so that no attribute hides a constant. Returns the constants' bytes."""
    import onnx

    # The file's size bounds its messages only loosely (two bytes can make one); this bounds the time.
    budget = 50 * limits.nodes
    nodes = 0
    constant_bytes = 0
    for message in _messages(model):
        budget -= 1
        if budget < 0:
            raise InvalidInput("the model has too many parts to be checked; simplify it before export")
        if isinstance(message, onnx.TensorProto):
            constant_bytes += _check_constant(message)
            if constant_bytes > limits.constant_bytes:
                raise InvalidInput(f"the model's constants need more than the {limits.constant_bytes} bytes allowed")
        elif isinstance(message, onnx.SparseTensorProto):
            raise InvalidInput(
                "the model has sparse constants, whose memory is not bounded by the file; store them dense"
            )
        elif isinstance(message, onnx.NodeProto):
            nodes += 1
            if nodes > limits.nodes:
                raise InvalidInput(f"the model has more than the {limits.nodes} operators allowed")
            _check_node(message)
    return constant_bytes


def _messages(message: Any) -> Iterator[Any]:
    """Every message below ``message``, without recursion in Python."""
    waiting = [message]
    while waiting:
        current = waiting.pop()
        for field, value in current.ListFields():
            # Protobuf hands over bytes where a name is no text; everything after this relies on text.
            if field.type == field.TYPE_STRING and any(isinstance(name, bytes) for name in _all(value)):
                raise InvalidInput("the model has names that are not UTF-8 text; the file is damaged")
            if field.message_type is not None:
                waiting.extend(_all(value))
        yield current


def _all(value: Any) -> Iterable[Any]:
    """The values of a field: a repeated field is a container of them, a singular one is its value."""
    return (value,) if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value


def _check_node(node: "onnx.NodeProto") -> None:
    import onnx

    operator = _quote(node.op_type)
    if node.domain not in STANDARD_DOMAINS:
        raise InvalidInput(
            f"operator {operator} belongs to {_quote(node.domain)}; only standard ONNX operators run here"
        )
    if node.op_type in SUBGRAPH_OPERATORS:
        raise InvalidInput(
            f"operator {operator} runs a subgraph an unbounded number of times; export the model without it"
        )
    if node.op_type in RANDOM_OPERATORS:
        raise InvalidInput(f"operator {operator} draws random numbers, so no answer could be checked; remove it")
    if not onnx.defs.has(node.op_type, "" if node.domain == "ai.onnx" else node.domain):
        raise InvalidInput(f"operator {operator} is not a standard ONNX operator")
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            raise InvalidInput(f"operator {operator} carries a subgraph; export the model without it")
        if attribute.ref_attr_name:
            raise InvalidInput(f"operator {operator} refers to an attribute of a function; export it inlined")
        if node.op_type == "Dropout" and attribute.name == "training_mode":
            raise InvalidInput("operator 'Dropout' is in training mode; export the model for inference")


def _check_constant(tensor: "onnx.TensorProto") -> int:
    """Bytes of a constant in memory. Refuses one that lies elsewhere or declares more than it holds."""
    import onnx

    name = _quote(tensor.name)
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise InvalidInput(f"constant {name} lies outside the model file; save the model with all its data inside")
    if tensor.HasField("segment"):
        raise InvalidInput(f"constant {name} is stored in segments, which ONNX runtimes do not support")
    if any(size < 0 for size in tensor.dims):
        raise InvalidInput(f"constant {name} has a negative size")
    elements: int = prod(tensor.dims)
    if tensor.data_type == onnx.TensorProto.STRING:
        held, item_bytes = len(tensor.string_data), _STRING_BYTES
    else:
        item_bytes = _item_bytes(tensor.data_type)
        if not item_bytes:
            raise InvalidInput(f"constant {name} has a number type that is not supported here; store it as float32")
        if tensor.HasField("raw_data"):
            held, rest = divmod(len(tensor.raw_data), item_bytes)
            held += bool(rest)
        else:
            typed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
            held = sum(len(values) for values in typed)
    if held != elements:
        raise InvalidInput(f"constant {name} declares {elements} numbers but the file holds {held}")
    return elements * item_bytes


def _item_bytes(data_type: int) -> int:
    """Bytes of one number of a type that whole bytes hold; 0 for any other type."""
    from onnx import TensorProto, helper

    if data_type not in helper.get_all_tensor_dtypes() or TensorProto.DataType.Name(data_type) in _NOT_SUPPORTED:
        return 0
    return int(helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def _check_interface(model: "onnx.ModelProto") -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if not inputs or not model.graph.output:
        raise InvalidInput("the model needs at least one input and one output")
    for value in (*inputs, *model.graph.output):
        if not value.type.HasField("tensor_type"):
            raise InvalidInput(
                f"{_quote(value.name)} is not a tensor; export the model without maps, sequences and optionals"
            )


def _bound_activations(model: "onnx.ModelProto", limits: ScanLimits) -> tuple[int, int]:
    """Memory of all intermediate results for the limits' batch, and how many have no shape before the run."""
    import onnx
    from onnx import TensorProto

    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    # What the file says about its own intermediate shapes is a claim; only what inference computes counts.
    del bound.graph.value_info[:]
    for value in bound.graph.output:
        value.type.tensor_type.ClearField("shape")
    for value in bound.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            if not dimension.HasField("dim_value"):
                dimension.dim_value = limits.batch_rows
            elif dimension.dim_value < 0:
                raise InvalidInput(f"input {_quote(value.name)} has a negative size")
    try:
        onnx.checker.check_model(model)
        inferred = onnx.shape_inference.infer_shapes(bound, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        raise InvalidInput(
            "the model is not valid ONNX: its operators, types or shapes contradict each other"
        ) from None
    except MemoryError:
        raise InvalidInput("the model's shapes ask for more memory than is allowed") from None
    shapes: dict[str, int | None] = {}
    for value in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input):
        tensor = value.type.tensor_type
        known = tensor.HasField("shape") and all(dimension.HasField("dim_value") for dimension in tensor.shape.dim)
        item_bytes = _STRING_BYTES if tensor.elem_type == TensorProto.STRING else _item_bytes(tensor.elem_type)
        elements = prod(dimension.dim_value for dimension in tensor.shape.dim) if known else 0
        shapes[value.name] = elements * max(1, item_bytes) if known else None
    total, unknown = sum(shapes.get(value.name) or 0 for value in inferred.graph.input), 0
    for node in model.graph.node:
        for output in node.output:
            size = shapes.get(output)
            if size is not None:
                total += size
            elif output:
                unknown += 1
                if node.op_type in VALUE_SIZED_OPERATORS:
                    raise InvalidInput(
                        f"operator {_quote(node.op_type)} makes a result whose size is only known at run time; "
                        "export the model with fixed shapes"
                    )
        if total > limits.activation_bytes:
            raise InvalidInput(
                f"operator {_quote(node.op_type)} brings the model's results to more than the "
                f"{limits.activation_bytes} bytes allowed"
            )
    return total, unknown


def _quote(text: str) -> str:
    """A name from the file, short and without control characters."""
    return repr(text[:60])
