"""The memory that an ONNX graph would take, computed from its shapes before it runs."""

from math import prod
from pathlib import Path
from typing import Any

from openmae.errors import UserError, one_line
from openmae.evaluation.onnx.packages import package

MOST_VALUES = 2**28
"""Of one tensor for one image. The attention of a ViT-H on 448 pixels has 2^24."""
SMALL = 2000  # bytes: constants that may be shapes themselves


def require_bounded(model: Any, file: Path) -> None:
    """Raise UserError unless every tensor of a graph from images to vectors has a known, moderate size for one image.

    A file of a few bytes may describe tensors that no memory holds.
    """
    onnx = package("onnx")
    try:
        inferred = onnx.shape_inference.infer_shapes(
            _without_weights(onnx, model), check_type=True, strict_mode=True, data_prop=True
        )
    except Exception as error:  # onnx raises its own kinds
        raise UserError(
            f"{file} has a graph whose parts do not fit together ({one_line(error)[:120]}); write it anew"
        ) from error
    graph = inferred.graph
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.output)}
    for node in graph.node:
        for name in filter(None, node.output):
            shape = shapes.get(name)
            if shape is None or prod(shape) > MOST_VALUES:
                found = "of unknown size" if shape is None else f"of {prod(shape):,} values for one image"
                raise UserError(
                    f"{file} computes a tensor {found} ({node.op_type}), more than {MOST_VALUES:,}; give the weights "
                    "that it was made from"
                )


def _without_weights(onnx: Any, model: Any) -> Any:
    """The graph for one image, with large constants as inputs, so that it is small."""
    bare = onnx.ModelProto(ir_version=model.ir_version)
    bare.opset_import.extend(model.opset_import)
    graph = bare.graph
    graph.name = "bare"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    for value in graph.input:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    for tensor in model.graph.initializer:
        if tensor.ByteSize() > SMALL:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        else:
            graph.initializer.append(tensor)
    for output in model.graph.output:
        value = graph.output.add(name=output.name)  # its own shape must not be believed
        value.type.tensor_type.elem_type = output.type.tensor_type.elem_type
    return bare


def _shape(value: Any) -> list[int] | None:
    """The size of a tensor; None where it is not known."""
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
        return None
    return [dim.dim_value for dim in dims]
