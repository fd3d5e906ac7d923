"""Check that weights fit the network of a recipe."""

from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.weights.networks import network_of
from openmae.weights.weights import Weights


def require_architecture(weights: Weights, recipe: Recipe) -> None:
    """Raise UserError unless `weights` are of the network that `recipe` builds; image size and channels may differ."""
    theirs, ours = weights.network.architecture._asdict(), network_of(recipe).architecture._asdict()
    differing = [name for name in ours if theirs[name] != ours[name]]
    if differing:
        found = ", ".join(f"{name} {theirs[name]} instead of {ours[name]}" for name in differing)
        flags = " ".join(f"--{name.replace('_', '-')} {theirs[name]}" for name in differing)
        raise UserError(
            f"{weights.file} is of another network than {recipe.name} ({found}); use a recipe for that network, or "
            f"add {flags}"
        )
