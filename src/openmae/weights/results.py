"""The result of a conversion. Imports no torch, so that help and renderers stay fast."""

from typing import Literal, TypedDict

TargetName = Literal["fair", "mmpretrain", "huggingface", "timm"]
"""Whose layout `openmae convert` writes."""


class Conversion(TypedDict):
    """Weights written in another layout, and the proof that they are the same."""

    source: str
    """Layout of the source."""
    target: TargetName
    """Layout of the result."""
    tensors: int
    """Number of tensors written."""
    dropped: list[str]
    """Parts of the source that the target cannot hold and that were left out."""
    not_said: list[str]
    """Facts about the network that the result does not state, and that a reader would assume differently."""
    largest_difference: float | None
    """Largest difference between the outputs of source and result, computed in double precision; None: not computed."""
    checked_with: str
    """Library and version that loaded the result; "" when only the round trip was checked."""
    out: str
    """The file or folder."""
