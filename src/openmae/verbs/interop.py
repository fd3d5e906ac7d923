"""Verbs between this program and others: the published files, and weights in other layouts."""

from pathlib import Path

from openmae.recipes.zoo import ENTRIES, find_published
from openmae.reporting.zoo import ZooDetails, ZooRow, details_of, row_of
from openmae.verbs.verb import verb
from openmae.weights.results import Conversion, TargetName


@verb
def zoo(name: str = "") -> list[ZooRow] | ZooDetails:
    """List the published weights, or print everything about one.

    Args:
        name: One row of the table; all of them when not given.
    """
    return details_of(find_published(name)) if name else [row_of(entry) for entry in ENTRIES]


@verb
def convert(src: str | Path, dst: str | Path, *, to: TargetName, drop: bool = False) -> Conversion:
    """Write weights for other software, and prove that they compute the same.

    The result is read back and compared bit for bit. Where the library that it is for is installed (timm,
    transformers), source and result also run on one random input. A result that differs is removed.

    Args:
        src: A run folder, a checkpoint, or a file or folder of fair, OpenMMLab, Hugging Face or timm.
        dst: A .pth file for fair and mmpretrain, a folder for huggingface, a .safetensors file or a folder for timm.
        to: Whose layout to write.
        drop: Leave out what the layout has no place for, such as a decoder in timm.
    """
    from openmae.weights.converting import convert_weights

    return convert_weights(src, Path(dst), target=to, drop=drop)
