"""Read and verify the weights that `--weights` names."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from openmae.errors import UserError
from openmae.weights.finding import weights_file
from openmae.weights.formats import own
from openmae.weights.weights import Weights


def read_weights(spec: str | Path, *, with_decoder: bool = False) -> Weights:
    """Read a run folder, a checkpoint or a `.safetensors` file of ours.

    Raises:
        UserError: when there is none, or when `with_decoder` and the file holds only an encoder.
    """
    path = Path(spec)
    if not path.exists():
        raise UserError(f"there are no weights at {path}; give a run folder, a checkpoint or an encoder.safetensors")
    file = weights_file(path, with_decoder=with_decoder)
    tensors, metadata = _read_safetensors(file)
    if not own.recognises(metadata):
        raise UserError(
            f"{file} does not say which network it is for, so OpenMAE did not write it; give a run folder of "
            "`openmae pretrain`, one of its checkpoints or its encoder.safetensors"
        )
    return own.weights_from(tensors, metadata, file)


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} cannot be read as safetensors ({error}); check that it was copied whole") from error
