"""Small recipes that a laptop can run: the bundled Fashion-MNIST images, and CIFAR-10."""

from collections.abc import Iterator
from dataclasses import replace

from openmae.recipes.recipe import Recipe
from openmae.recipes.stages import FinetuneRecipe, LinearRecipe, PretrainRecipe
from openmae.recipes.values import ImageSize


def small_recipes() -> Iterator[Recipe]:
    """Pre-training, linear evaluation and fine-tuning for each small data set."""
    fashion = PretrainRecipe(
        name="fashion-mnist",
        follows="openmae",
        note="the demo: a few minutes on two cores",
        data="fashion-mnist",
        backbone="vit_tiny_patch16_224",
        image_size=ImageSize(28, 28),
        patch_size=4,
        channels=1,
        width=128,
        depth=4,
        heads=4,
        mean=(0.286,),
        std=(0.353,),
        crop_scale=(0.9, 1.0),
        decode="exact",  # for images this small, Pillow is as fast
        epochs=8,
        # Small batches: at this scale the number of steps matters more to the features than the number of images.
        batch_size=64,
        optimizer="muon",
        base_lr=1.6e-2,
        momentum=0.95,
        warmup_epochs=1,
        normalise_target=False,
        decoder_width=64,
        decoder_depth=2,
        decoder_heads=2,
    )
    yield from family(fashion)
    yield from family(
        replace(
            fashion,
            name="cifar10",
            note="22 minutes on two fast cores",
            data=None,
            image_size=ImageSize(32, 32),
            channels=3,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.247, 0.2435, 0.2616),
            depth=6,
            crop_scale=(1.0, 1.0),
            epochs=13,
            normalise_target=True,
        )
    )


def family(pretrain: PretrainRecipe) -> Iterator[Recipe]:
    """A pre-training recipe, and its linear evaluation and fine-tuning on the same data and network."""
    yield pretrain
    network = {
        name: getattr(pretrain, name)
        for name in (
            "data",
            "backbone",
            "image_size",
            "patch_size",
            "channels",
            "width",
            "depth",
            "heads",
            "mean",
            "std",
            "decode",
        )
    }
    yield LinearRecipe(
        **network,
        name=f"{pretrain.name}-linear",
        follows="openmae",
        pool="mean",
        epochs=20,
        batch_size=512,
        optimizer="lars",
        base_lr=0.1,
        weight_decay=0.0,
        warmup_epochs=2,
        crop_scale=(0.5, 1.0),
    )
    yield FinetuneRecipe(
        **network,
        name=f"{pretrain.name}-finetune",
        follows="openmae",
        # Mixing and erasing help long training on many labels; on few labels they only slow it down.
        note="for few labels; add --mixup 0.8 --cutmix 1 --erasing 0.25 for long training on many",
        pool="mean",
        epochs=30,
        batch_size=32,
        base_lr=8e-3,
        betas=(0.9, 0.999),
        warmup_epochs=3,
        min_lr=1e-6,
        layer_decay=0.75,
        decay_tokens=False,
        crop_scale=(0.9, 1.0),
        rand_augment=None,
        erasing=0.0,
        mixup=0.0,
        cutmix=0.0,
    )
