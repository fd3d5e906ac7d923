"""Masked pre-training: the network, the images and the loss that the training loop receives."""

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from openmae.checkpoints.names import ENCODER
from openmae.core.geometry import size_text
from openmae.core.masking import kept_count, mask_from_noise
from openmae.core.model import MAEOutput, MaskedAutoencoder
from openmae.core.patches import patches_with_data
from openmae.data.batches import Batch, SeededImages
from openmae.data.pages import as_images
from openmae.data.sources import Source, open_data
from openmae.data.sources.taking import Taken, for_pretraining
from openmae.data.transforms import TrainTransform, normalise_pixels
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe
from openmae.recipes.batch import fit_batch
from openmae.reporter import say
from openmae.training.continuing import has_begun, keep_recorded
from openmae.training.deep_pixels import adopt_from, reading_before_adopting
from openmae.training.micro_batch import fit_accumulation
from openmae.training.observers.observer import Observer
from openmae.training.optimizers import build_optimizer
from openmae.training.pixels import hold_pixels, pixel_format, reading_of, resolve_pixels
from openmae.training.processes.devices import start_fabric
from openmae.training.runs import Run, open_run
from openmae.training.spec import TrainSpec
from openmae.training.trainer import train
from openmae.weights.adapting import as_weights, freeze_while_decoder_is_fresh
from openmae.weights.comparing import require_architecture
from openmae.weights.formats.own import recipe_metadata
from openmae.weights.networks import network_of
from openmae.weights.reading import read_whole
from openmae.weights.starting import start_decoder_from, start_from
from openmae.weights.weights import Weights


class Gathered(NamedTuple):
    """What a pre-training begins with: its recipe with all that images and weights decide, and these two.

    `asked` is the recipe as the user gave it, but for the network of the weights.
    """

    asked: PretrainRecipe
    recipe: PretrainRecipe
    taken: Taken
    source: Source
    weights: Weights | None


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """A pre-training that is about to begin or to go on, as an observer from a higher floor needs to know it.

    Args:
        fabric: the processes.
        run: the run folder.
        recipe: how it trains, with what the images decide filled in.
        taken: the data set, and the splits of it that are trained on.
    """

    fabric: Fabric
    run: Run
    recipe: PretrainRecipe
    taken: Taken


def run_pretraining(
    recipe: PretrainRecipe,
    out: Path,
    *,
    given: Collection[str] = (),
    fits_memory: bool = False,
    observers: Sequence[Callable[[Pretraining], Observer]] = (),
) -> dict[str, Any]:
    """Pre-train into a run folder, or continue what is there.

    Args:
        recipe: how to train.
        out: the run folder.
        given: the fields that the user gave: a recipe that takes its network from the weights keeps them.
        fits_memory: choose the accumulation steps, so that the batch fits into memory.
        observers: make observers of the training, in every process; they are called after the training's own.

    Returns:
        The results.
    """
    asked, recipe, taken, source, weights = gather(recipe, given)
    recipe = keep_recorded(out, asked, recipe)
    recipe = fit_batch(recipe, len(source) * recipe.repeats)
    recipe = freeze_while_decoder_is_fresh(recipe, weights)
    fabric = start_fabric(recipe)
    if fits_memory:
        recipe = fit_accumulation(fabric, out, recipe)
    with closing(open_run(fabric, out, recipe, images={"train": source}, weights=weights)) as run:
        if (results := run.finished()) is not None:
            return results
        torch.manual_seed(recipe.seed)
        model = network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std)
        if weights is not None:
            start_from(model.encoder, weights, norm_may_be_fresh=True)
            decoder = start_decoder_from(model, network_of(recipe), weights)
            if not has_begun(out):
                say(decoder)
        say(describe(recipe, model, len(source)))
        begun = Pretraining(fabric=fabric, run=run, recipe=recipe, taken=taken)
        figures = train(fabric, specify(recipe, model, source), run, [observe(begun) for observe in observers])
        return run.finish(
            {
                "protocol": "pretrain",
                "recipe": recipe.name,
                "seed": recipe.seed,
                "data": taken.record(),
                **figures,
                "out": str(out),
            }
        )


def gather(recipe: PretrainRecipe, given: Collection[str] = ()) -> Gathered:
    """Open the images and the weights of a recipe, and fill in what they decide: network, pixels, statistics.

    Args:
        recipe: how to train.
        given: the fields that the user gave: a recipe that takes its network from the weights keeps them.

    Raises:
        UserError: when there are no images, or the recipe does not fit them or the weights.
    """
    if recipe.data is None:
        raise UserError("no images to train on; give --data a folder of images, a Parquet file, or fashion-mnist")
    if recipe.pixel_range is not None and recipe.weights is None:
        raise UserError("--pixel-range is for images of another range than those of --weights; give both, or neither")
    data = open_data(recipe.data, labels=recipe.labels)
    weights = None if recipe.weights is None else read_whole(recipe.weights)
    asked = recipe = as_weights(recipe, weights, given)
    reading = reading_of(recipe)
    if weights is not None:
        require_architecture(weights, recipe)
        reading = reading_before_adopting(recipe, weights.network)
    taken = for_pretraining(as_images(data, reading), recipe.split)
    source = taken.images
    say(taken.sentence())
    if weights is not None:
        recipe = adopt_from(recipe, weights.network, source)
    return Gathered(asked, resolve_pixels(recipe, source), taken, source, weights)


def specify(recipe: PretrainRecipe, model: MaskedAutoencoder, source: Source) -> TrainSpec:
    """The training of this network on these images, as the training loop takes it."""
    transform = TrainTransform(
        size=recipe.image_size,
        crop_scale=recipe.crop_scale,
        flip=recipe.flip,
        interpolation=recipe.interpolation,
        exact=recipe.decode == "exact",
    )
    return TrainSpec(
        recipe=recipe,
        model=model,
        optimizer=partial(build_optimizer, recipe),
        dataset=SeededImages(
            source=source,
            transform=transform,
            format=pixel_format(recipe),
            reading=reading_of(recipe),
            seed=recipe.seed,
            uniform=model.geometry.patches,
            repeats=recipe.repeats,
            cache=hold_pixels(recipe, source, transform),
        ),
        loss=reconstruction_loss(recipe, model),
        evaluate=None,
        exports=lambda trained: {ENCODER: trained.get_submodule("encoder").state_dict()},
        metadata=recipe_metadata(recipe),
    )


def reconstruction_loss(recipe: PretrainRecipe, model: MaskedAutoencoder) -> Callable[[nn.Module, Batch], Tensor]:
    """The loss of one batch: its masks are made from the uniform numbers that came with each image."""
    grid = model.geometry.grid
    kept = kept_count(model.geometry.patches, recipe.mask_ratio)

    def loss(wrapped: nn.Module, batch: Batch) -> Tensor:
        images = normalise_pixels(batch.images, recipe.mean, recipe.std)
        mask = mask_from_noise(batch.uniform, kept, grid)
        arguments: tuple[Any, ...] = (images, mask)
        if batch.images.is_floating_point():  # no other pixels can be NaN, which means that they hold no data
            arguments += (patches_with_data(model.geometry.patchify(batch.images)),)
        out: MAEOutput = wrapped(*arguments)
        return out.loss

    return loss


def describe(recipe: PretrainRecipe, model: MaskedAutoencoder, images: int) -> str:
    """The training that is about to start, in two lines."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    geometry = model.geometry
    kept = kept_count(geometry.patches, recipe.mask_ratio)
    views = f", {recipe.repeats} crops and masks of each: {images * recipe.repeats:,} samples an epoch"
    return (
        f"pre-training {recipe.backbone} ({parameters / 1e6:.2f} M parameters with decoder) on {images:,} images for "
        f"{recipe.epochs} epochs{views if recipe.repeats > 1 else ''}\n"
        f"{recipe.image_size} pixels, {size_text(geometry.grid)} patches of which {kept} are visible, batch "
        f"{recipe.batch_size}, {recipe.optimizer} at {recipe.lr:.3g}"
    )
