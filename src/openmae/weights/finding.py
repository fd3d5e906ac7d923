"""Which file `--weights` names."""

from pathlib import Path

from openmae.checkpoints.checkpoint import EMA, MANIFEST, MODEL, Damaged
from openmae.checkpoints.names import CHECKPOINTS, ENCODER
from openmae.checkpoints.reading import newest_verified, verify, verify_file
from openmae.errors import UserError
from openmae.reporter import say

ONNX_SUFFIX = ".onnx"
FOREIGN = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names that Hugging Face and timm give to the weights in a folder; the first that is there counts."""


def is_onnx(spec: str | Path) -> bool:
    """Whether a path names an ONNX file, which onnxruntime runs: it has no weights that torch could train."""
    return str(spec).endswith(ONNX_SUFFIX) and "://" not in str(spec)


def weights_file(path: Path, *, with_decoder: bool) -> Path:
    """The file of a run folder, of a checkpoint, or of a folder of Hugging Face or timm; a file itself.

    Raises:
        UserError: when there is none, or only damaged ones.
    """
    if path.is_file():
        try:
            verify_file(path)
        except Damaged as error:
            raise UserError(f"{path} is damaged ({error}); give another checkpoint of the run") from error
        return path
    if not with_decoder and (path / ENCODER).is_file():
        return path / ENCODER
    damaged: list[str] = []
    if (path / MANIFEST).is_file():
        try:
            verify(path)
        except Damaged as error:
            raise UserError(f"{path} is damaged ({error}); give another checkpoint of the run") from error
        folder: Path | None = path
    else:
        folder = newest_verified(path / CHECKPOINTS, damaged.append)
    if folder is not None:
        if damaged:
            say(f"{'; '.join(damaged)}; {folder.name} is used instead")
        return folder / (EMA if (folder / EMA).is_file() else MODEL)
    for name in (ENCODER, *FOREIGN):
        if (path / name).is_file():
            return path / name
    detail = f" ({'; '.join(damaged)})" if damaged else ""
    raise UserError(f"{path} holds no weights{detail}; give a folder that `openmae pretrain --out` has filled")
