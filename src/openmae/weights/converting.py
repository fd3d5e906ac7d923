"""Weights written in the layouts of other projects, with proof that they compute the same."""

from pathlib import Path

from openmae.errors import UserError
from openmae.weights.fitting import fit
from openmae.weights.foreign_files import require_place, writing
from openmae.weights.proving import TOLERANCE, compare, require_same_tensors
from openmae.weights.reading import read_weights, read_whole
from openmae.weights.results import Conversion, TargetName
from openmae.weights.weights import Weights


def convert_weights(source: str | Path, out: Path, *, target: TargetName, drop: bool = False) -> Conversion:
    """Write weights in another layout. `out` appears only after the proof.

    Args:
        source: what `read_weights` reads. Of a run folder of a pre-training the whole autoencoder is written, to timm
            its encoder.
        out: the file or folder to write.
        target: whose layout.
        drop: leave out the parts that the target cannot hold, rather than refuse.

    Raises:
        UserError: when `out` exists, when something would be lost, or when the result is not the same.
    """
    require_place(target, out)
    weights, dropped = fit(_read(source, target), target, drop=drop)
    with writing(weights, target, out) as written:
        not_said = require_same_tensors(weights, written)
        compared = compare(weights, target, written)
        if compared is not None and not compared.difference <= TOLERANCE:  # also refuses NaN
            raise UserError(
                f"{compared.library} computes something else from the converted weights (largest difference "
                f"{compared.difference:.2g}, more than {TOLERANCE:g}), so they were removed; try another --to"
            )
    return {
        "source": weights.layout,
        "target": target,
        "tensors": len(weights.tensors),
        "dropped": dropped,
        "not_said": not_said,
        "inputs": [],
        "outputs": [],
        "largest_difference": None if compared is None else compared.difference,
        "checked_with": "" if compared is None else compared.library,
        "out": str(out),
        "url": None,
    }


def _read(source: str | Path, target: TargetName) -> Weights:
    return read_weights(source) if target == "timm" else read_whole(source)
