"""Whether weights are of the network that a recipe builds."""

from typing import Any

import torch

from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.weights.building import build_encoder
from openmae.weights.reading import Weights

ARCHITECTURE = ("backbone", "patch_size", "width", "depth", "heads")


def require_architecture(weights: Weights, recipe: Recipe) -> None:
    """Raise UserError unless `weights` are of the network that `recipe` builds; image size and channels may differ."""
    theirs, ours = architecture(weights.recipe), architecture(recipe)
    differing = [name for name in ARCHITECTURE if theirs[name] != ours[name]]
    if differing:
        found = ", ".join(f"{name} {theirs[name]} instead of {ours[name]}" for name in differing)
        flags = " ".join(f"--{name.replace('_', '-')} {theirs[name]}" for name in differing)
        raise UserError(
            f"{weights.file} is of another network than {recipe.name} ({found}); use a recipe for that network, or "
            f"add {flags}"
        )


def architecture(recipe: Recipe) -> dict[str, Any]:
    """The fields that decide the network, with what the backbone defines filled in where the recipe leaves it open."""
    with torch.device("meta"):
        vit = build_encoder(recipe)
    built = {
        "patch_size": vit.patch_embed.patch_size[0],
        "width": vit.embed_dim,
        "depth": len(vit.blocks),
        "heads": getattr(vit.blocks[0].attn, "num_heads", None),
    }
    return {name: built.get(name, getattr(recipe, name)) for name in ARCHITECTURE}
