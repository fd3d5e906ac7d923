"""The result of a conversion. Imports no torch, so that help and renderers stay fast."""

from typing import Literal, TypedDict

TargetName = Literal["fair", "mmpretrain", "huggingface", "timm"]
"""Whose layout of weights `openmae convert` writes."""
Software = TargetName | Literal["onnx"]
"""For which software `openmae convert` writes."""
OnnxPart = Literal["encoder", "classifier", "autoencoder"]
"""The part of a network that an ONNX file computes."""
OnnxPixels = Literal["normalised", "unit", "uint8"]
"""The form of the images that an ONNX file takes: normalised by the caller, in 0 … 1, or bytes."""


class Conversion(TypedDict):
    """Weights written in another layout, and the proof that they are the same."""

    source: str
    """Layout of the source."""
    target: Software
    """Layout of the result."""
    tensors: int
    """Number of tensors written."""
    dropped: list[str]
    """Parts of the source that the target cannot hold and that were left out."""
    not_said: list[str]
    """Facts about the network that the result does not state, and that a reader would assume differently."""
    inputs: list[str]
    """The inputs of an ONNX graph, each as "images [batch, 3, 224, 224] float"; [] for a layout of weights."""
    outputs: list[str]
    """Its outputs, likewise."""
    largest_difference: float | None
    """Largest difference between the outputs of source and result, computed in double precision, for ONNX in single
    precision; None: not computed."""
    checked_with: str
    """Library and version that loaded the result; "" when only the round trip was checked."""
    out: str
    """The file or folder."""
    url: str | None
    """The address of the model on the Hugging Face hub, when it was uploaded."""
