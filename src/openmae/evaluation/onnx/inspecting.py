"""An ONNX file from anyone: its content is read only when it is one plain graph of known operations, in one file.

Nothing that it names is opened. A graph may not contain other graphs, operations of other libraries, or data elsewhere.
"""

import hashlib
from pathlib import Path
from typing import Any

from openmae.errors import UserError, one_line
from openmae.evaluation.onnx.packages import package

MOST_BYTES = 2**31 - 1
"""The largest file of protobuf."""
OPERATIONS = frozenset(
    (
        *("Add", "BatchNormalization", "Cast", "Concat", "Constant", "Conv", "Div", "Erf", "Expand", "Flatten"),
        *("Gather", "GatherElements", "Gelu", "Gemm", "Identity", "LayerNormalization", "MatMul", "Mul", "Neg", "Pow"),
        *("Reciprocal", "ReduceMean", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze"),
        *("Sub", "Tanh", "TopK", "Transpose", "Unsqueeze", "Where"),
    )
)
"""Of ONNX itself, as torch's exporter writes Vision Transformers with them."""
GRAPHS = (5, 10)
"""AttributeProto.GRAPH and GRAPHS: a graph inside a graph."""
EXTERNAL = 1
"""TensorProto.EXTERNAL: the data lie in another file."""
REMEDY = "give a file of `openmae convert --to onnx`"


def read_model(file: Path) -> Any:
    """The content of an ONNX file.

    Raises:
        UserError: when it is none, or does more than a network has to.
    """
    onnx = package("onnx")
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UserError(f"{file} is larger than an ONNX file can be; {REMEDY}")
        model = onnx.load_model_from_string(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file} cannot be read ({one_line(error)}); check that it is there") from error
    except UserError:
        raise
    except Exception as error:  # protobuf has its own, in a module that differs between its versions
        raise UserError(f"{file} cannot be read as ONNX; check that it was copied whole") from error
    if not model.graph.node or not model.graph.input or not model.graph.output:
        raise UserError(f"{file} has no network in it; check that it was copied whole")
    reason = _refused(model)
    if reason:
        raise UserError(f"{file} {reason}, which no network of ours has; {REMEDY}")
    return model


def metadata_of(model: Any) -> dict[str, str]:
    """The metadata of a file, by key."""
    return {entry.key: entry.value for entry in model.metadata_props}


def digest_of_graph(model: Any) -> str:
    """The SHA-256 of a graph: its operations and their constants."""
    return hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()


def _refused(model: Any) -> str:
    """The reason why a model is not read, to follow the name of its file; "" when there is none."""
    if model.functions or model.training_info or model.graph.sparse_initializer:
        return "has functions, training or sparse tensors"
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATIONS:
            return f"has the operation {f'{node.domain}::{node.op_type}'.removeprefix('::')[:80]!r}"
        for attribute in node.attribute:
            if attribute.type in GRAPHS or attribute.HasField("g") or attribute.graphs:
                return "has a graph inside a graph"
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                return "has functions, training or sparse tensors"
            tensors += [*attribute.tensors, *([attribute.t] if attribute.HasField("t") else [])]
    if any(tensor.data_location == EXTERNAL or tensor.external_data for tensor in tensors):
        return "names data in another file"
    return ""
