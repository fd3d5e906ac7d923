"""The network that a recipe trains."""

from dataclasses import replace

from openmae.core.decoder import DecoderConfig
from openmae.core.network import Network
from openmae.recipes import PretrainRecipe, Recipe


def network_of(recipe: Recipe) -> Network:
    """The network of a recipe. Its mean and std are empty where the recipe leaves them to the images.

    Raises:
        UserError: when its values do not go together.
    """
    measured = len(recipe.mean) == len(recipe.std) == recipe.channels
    network = Network(
        backbone=recipe.backbone,
        image_size=recipe.image_size,
        patch_size=recipe.patch_size,
        channels=recipe.channels,
        width=recipe.width,
        depth=recipe.depth,
        heads=recipe.heads,
        pixel_type="uint8" if recipe.pixel_type == "auto" else recipe.pixel_type,
        mean=recipe.mean if measured else (),
        std=recipe.std if measured else (),
        nodata=recipe.nodata,
        pages=recipe.pages,
        interpolation=recipe.interpolation,
        eval_resize=recipe.resized_to,
        exact_decoding=recipe.decode == "exact",
    )
    if not isinstance(recipe, PretrainRecipe):
        return network
    return replace(
        network,
        decoder=DecoderConfig(width=recipe.decoder_width, depth=recipe.decoder_depth, heads=recipe.decoder_heads),
        normalise_target=recipe.normalise_target,
        axis_order=recipe.axis_order,
    )
