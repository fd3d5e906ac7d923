"""Weights from files: tensors, and the recipe that says which network they are for."""

from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.recipes.recipe import from_yaml, to_yaml
from openmae.weights.finding import weights_file

RECIPE_KEY = "openmae.recipe"


class Weights(NamedTuple):
    """Tensors, the recipe they were made with, and the file that they came from."""

    tensors: dict[str, Tensor]
    recipe: Recipe
    file: Path

    def encoder(self) -> dict[str, Tensor]:
        """The encoder's tensors under timm's names, whether or not the file also holds a decoder."""
        inside = {name.removeprefix("encoder."): t for name, t in self.tensors.items() if name.startswith("encoder.")}
        return inside or self.tensors


def recipe_metadata(recipe: Recipe) -> dict[str, str]:
    """What a weights file says about itself: the whole recipe, so that the network can be built from the file alone."""
    return {RECIPE_KEY: to_yaml(recipe)}


def read_weights(spec: str | Path, *, with_decoder: bool = False) -> Weights:
    """Read a run folder, a checkpoint or a `.safetensors` file of ours.

    Raises:
        UserError: when there is none, or when `with_decoder` and the file holds only an encoder.
    """
    path = Path(spec)
    if not path.exists():
        raise UserError(f"there are no weights at {path}; give a run folder, a checkpoint or an encoder.safetensors")
    file = weights_file(path, with_decoder=with_decoder)
    tensors, metadata = read_safetensors(file)
    if RECIPE_KEY not in metadata:
        raise UserError(
            f"{file} does not say which network it is for, so OpenMAE did not write it; give a run folder of "
            "`openmae pretrain`, one of its checkpoints or its encoder.safetensors"
        )
    return Weights(tensors=tensors, recipe=from_yaml(metadata[RECIPE_KEY]), file=file)


def read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} cannot be read as safetensors ({error}); check that it was copied whole") from error
