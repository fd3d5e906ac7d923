"""Find the file that `--weights` names."""

from pathlib import Path

from openmae.checkpoints.checkpoint import EMA, MANIFEST, MODEL, Damaged
from openmae.checkpoints.names import CHECKPOINTS, ENCODER
from openmae.checkpoints.reading import newest_verified, verify
from openmae.errors import UserError
from openmae.reporter import say


def weights_file(path: Path, *, with_decoder: bool) -> Path:
    """The weights file that `path` is, or that the run folder or checkpoint `path` holds.

    A run folder gives its encoder.safetensors, or, with `with_decoder` or without that file, its newest checkpoint that
    is not damaged. A checkpoint gives its averaged weights if it has them.

    Raises:
        UserError: when there is no such file, it is damaged, or reading it could execute code.
    """
    if path.is_file():
        if path.suffix != ".safetensors":
            raise UserError(
                f"{path} is not a .safetensors file; OpenMAE does not open formats that can execute code "
                "when they are read"
            )
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
    if (path / ENCODER).is_file():
        return path / ENCODER
    detail = f" ({'; '.join(damaged)})" if damaged else ""
    raise UserError(f"{path} holds no weights{detail}; give a folder that `openmae pretrain --out` has filled")
