"""ONNX operators on secret arrays: one table, from the parts that hold them.

An operator is a function of its operands (secret, public or None where left out), its attributes and the opset's
version.
"""

from typing import Final

from koinon.privacy.graphs.onnx_elementwise import ELEMENTWISE
from koinon.privacy.graphs.onnx_layout import LAYOUT
from koinon.privacy.graphs.onnx_models import MODELS
from koinon.privacy.graphs.onnx_operands import Operator
from koinon.privacy.graphs.onnx_products import PRODUCTS
from koinon.privacy.graphs.onnx_reductions import REDUCTIONS
from koinon.privacy.graphs.onnx_trees import TREES

OPERATORS: Final[dict[str, Operator]] = {**ELEMENTWISE, **LAYOUT, **MODELS, **PRODUCTS, **REDUCTIONS, **TREES}
