"""The one way to load weights: what `--weights` names, checked against the network it is meant for."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from timm.models._manipulate import adapt_input_conv
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from openmae.core.decoder import DecoderConfig
from openmae.core.encoder import create_encoder, encoder_geometry, fix_positions, initialise
from openmae.core.model import MaskedAutoencoder
from openmae.core.positions import resize_positions
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe, Recipe
from openmae.recipes.saved import from_yaml, to_yaml
from openmae.training import checkpoints
from openmae.training.runs import ENCODER

RECIPE_KEY = "openmae.recipe"
ARCHITECTURE = ("backbone", "patch_size", "width", "depth", "heads")


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
    file = _weights_file(path, with_decoder=with_decoder)
    tensors, metadata = _read_safetensors(file)
    if RECIPE_KEY not in metadata:
        raise UserError(
            f"{file} does not say which network it is for, so OpenMAE did not write it; give a run folder of "
            "`openmae pretrain`, one of its checkpoints or its encoder.safetensors"
        )
    return Weights(tensors=tensors, recipe=from_yaml(metadata[RECIPE_KEY]), file=file)


def load_encoder(spec: str | Path) -> VisionTransformer:
    """The pre-trained or fine-tuned encoder: a plain timm VisionTransformer, unmasked, in eval mode, no classifier."""
    return encoder_from(read_weights(spec))


def encoder_from(weights: Weights) -> VisionTransformer:
    """Build the encoder that `weights` describe and load it strictly; a classifier on top of it is left out."""
    tensors = weights.encoder()
    options = {}
    if not isinstance(weights.recipe, PretrainRecipe):
        options["global_pool"] = "avg" if "fc_norm.weight" in tensors else "token"
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    with torch.device("meta"):  # a file may describe a network that no memory holds
        _require_same(build_encoder(weights.recipe, **options), tensors, weights.file)
    vit = build_encoder(weights.recipe, **options)
    load_strictly(vit, tensors, weights.file)
    return vit.eval()


def untrained_encoder(recipe: Recipe) -> VisionTransformer:
    """The same network as a pre-training run starts from: fresh weights by the recipe's seed, fixed positions."""
    torch.manual_seed(recipe.seed)
    if isinstance(recipe, PretrainRecipe):
        return build_autoencoder(recipe).encoder.eval()
    vit = build_encoder(recipe)
    initialise(vit)
    fix_positions(vit, "column-first")
    return vit.eval()


def load_autoencoder(spec: str | Path) -> tuple[MaskedAutoencoder, PretrainRecipe]:
    """The whole pre-training model, in eval mode, with its recipe.

    Raises:
        UserError: when the file holds no decoder; the message says which one does.
    """
    weights = read_weights(spec, with_decoder=True)
    recipe = weights.recipe
    if not isinstance(recipe, PretrainRecipe) or not any(name.startswith("decoder.") for name in weights.tensors):
        raise UserError(
            f"{weights.file} holds an encoder without its decoder, which cannot reconstruct; give the run folder of "
            f"the pre-training, or its checkpoints/step-*/{checkpoints.MODEL}, which hold both"
        )
    with torch.device("meta"):  # a file may describe a network that no memory holds
        _require_same(build_encoder(recipe), weights.encoder(), weights.file)
        _require_same(build_autoencoder(recipe), weights.tensors, weights.file)
    model = build_autoencoder(recipe)
    load_strictly(model, weights.tensors, weights.file)
    return model.eval(), recipe


def build_encoder(recipe: Recipe, **options: Any) -> VisionTransformer:
    """The recipe's backbone, without weights; `options` go to timm."""
    return create_encoder(
        recipe.backbone,
        image_size=recipe.image_size,
        patch_size=recipe.patch_size,
        channels=recipe.channels,
        width=recipe.width,
        depth=recipe.depth,
        heads=recipe.heads,
        **options,
    )


def build_autoencoder(recipe: PretrainRecipe) -> MaskedAutoencoder:
    """The recipe's whole pre-training model, freshly initialised from torch's generator."""
    decoder = DecoderConfig(width=recipe.decoder_width, depth=recipe.decoder_depth, heads=recipe.decoder_heads)
    return MaskedAutoencoder(
        build_encoder(recipe),
        decoder=decoder,
        normalise_target=recipe.normalise_target,
        axis_order=recipe.axis_order,
        mlp_bias_std=recipe.mlp_bias_std,
    )


def require_architecture(weights: Weights, recipe: Recipe) -> None:
    """Raise UserError unless `weights` are of the network that `recipe` builds; image size and channels may differ."""
    theirs, ours = _architecture(weights.recipe), _architecture(recipe)
    differing = [name for name in ARCHITECTURE if theirs[name] != ours[name]]
    if differing:
        found = ", ".join(f"{name} {theirs[name]} instead of {ours[name]}" for name in differing)
        flags = " ".join(f"--{name.replace('_', '-')} {theirs[name]}" for name in differing)
        raise UserError(
            f"{weights.file} is of another network than {recipe.name} ({found}); use a recipe for that network, or "
            f"add {flags}"
        )


def _architecture(recipe: Recipe) -> dict[str, Any]:
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


def start_from(vit: VisionTransformer, weights: Weights) -> None:
    """Load a pre-trained encoder into `vit`, in place; positions are resized to its image size, and the patch
    embedding is adapted from three channels to another number as timm does it.

    What may differ is listed here and nowhere else: the classifier and its norm start fresh, and the encoder's final
    norm is left out where the classifier pools patches before its own norm (as the reference does).
    """
    tensors = {name: tensor for name, tensor in weights.encoder().items() if not name.startswith("head.")}
    own = vit.state_dict()
    if "norm.weight" not in own:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("norm.")}
    trained = weights.recipe
    _, _, grid = encoder_geometry(vit)
    old_grid = tuple(side // patch for side, patch in zip(trained.image_size, vit.patch_embed.patch_size, strict=True))
    if vit.pos_embed is not None and "pos_embed" in tensors:
        prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
        tensors["pos_embed"] = resize_positions(
            tensors["pos_embed"], old_grid=(old_grid[0], old_grid[1]), new_grid=grid, prefix_tokens=prefix
        )
    channels = vit.patch_embed.proj.in_channels
    if channels != trained.channels:
        kernel = tensors["patch_embed.proj.weight"]
        try:
            tensors["patch_embed.proj.weight"] = adapt_input_conv(channels, kernel)
        except NotImplementedError as error:
            raise UserError(
                f"{weights.file} is for {trained.channels} channels and cannot start a model for {channels}; only "
                "weights for 3 channels can start one for another number"
            ) from error
    fresh = {name: tensor for name, tensor in own.items() if name.startswith(("head.", "fc_norm."))}
    load_strictly(vit, {**fresh, **tensors}, weights.file)


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """`load_state_dict` whose refusal is one readable sentence."""
    _require_same(module, tensors, file)
    module.load_state_dict(dict(tensors))


def _require_same(module: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    own = module.state_dict()
    missing, unexpected = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    shapes = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    for names, problem in ((missing, "lacks"), (unexpected, "has in addition"), (shapes, "has in another shape")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(
                f"{file} is of another network: it {problem} {', '.join(names[:3])}{more}; use the recipe that it was "
                "trained with"
            )


def _weights_file(path: Path, *, with_decoder: bool) -> Path:
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
    if (path / checkpoints.MANIFEST).is_file():
        try:
            checkpoints.verify(path)
        except checkpoints.Damaged as error:
            raise UserError(f"{path} is damaged ({error}); give another checkpoint of the run") from error
        folder: Path | None = path
    else:
        folder = checkpoints.newest_verified(path / "checkpoints", damaged.append)
    if damaged and folder is not None:
        warnings.warn(f"{'; '.join(damaged)}; {folder.name} is used instead", stacklevel=3)
    if folder is not None:
        return folder / (checkpoints.EMA if (folder / checkpoints.EMA).is_file() else checkpoints.MODEL)
    if (path / ENCODER).is_file():
        return path / ENCODER
    detail = f" ({'; '.join(damaged)})" if damaged else ""
    raise UserError(f"{path} holds no weights{detail}; give a folder that `openmae pretrain --out` has filled")


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} cannot be read as safetensors ({error}); check that it was copied whole") from error
