"""Weights written in the layouts of other projects, with proof that they compute the same."""

from pathlib import Path

from openmae.errors import UserError
from openmae.weights.fitting import fit
from openmae.weights.foreign_files import is_folder, require_place, writing
from openmae.weights.model_card import model_card
from openmae.weights.proving import TOLERANCE, compare, require_same_tensors
from openmae.weights.pushing import push_folder, require_address
from openmae.weights.reading import read_weights, read_whole
from openmae.weights.results import Conversion, TargetName
from openmae.weights.weights import Weights


def convert_weights(
    source: str | Path, out: Path, *, target: TargetName, drop: bool = False, push: str | None = None
) -> Conversion:
    """Write weights in another layout. `out` appears only after the proof.

    Args:
        source: what `read_weights` reads. Of a run folder of a pre-training the whole autoencoder is written, to timm
            its encoder.
        out: the file or folder to write.
        target: whose layout.
        drop: leave out the parts that the target cannot hold, rather than refuse.
        push: owner/name on the Hugging Face hub, to which the folder is uploaded after the proof.

    Raises:
        UserError: when `out` exists, when something would be lost, or when the result is not the same.
    """
    require_place(target, out)
    repository = None if push is None else _address(push, target, out)
    weights, dropped = fit(_read(source, target), target, drop=drop)
    card = _card(source, weights, target, repository or out.name) if is_folder(target, out) else ""
    with writing(weights, target, out, card=card) as written:
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
        "url": None if repository is None else push_folder(out, repository),
    }


def _card(source: str | Path, weights: Weights, target: TargetName, name: str) -> str:
    return model_card(source, weights, "timm" if target == "timm" else "huggingface", name)


def _address(push: str, target: TargetName, out: Path) -> str:
    if not is_folder(target, out):
        raise UserError(
            f"--push uploads a folder, and {out} is one file; use --to huggingface, or --to timm without a suffix"
        )
    return require_address(push)


def _read(source: str | Path, target: TargetName) -> Weights:
    return read_weights(source) if target == "timm" else read_whole(source)
