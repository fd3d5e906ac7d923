"""The recipe that goes on from the weights of others, on one's own images. It takes its network from these weights."""

from openmae.recipes.recipe import AS_WEIGHTS
from openmae.recipes.stages import PretrainRecipe

WARMUP_SHARE = 0.05
EPOCHS = 100


def adapting_recipe() -> PretrainRecipe:
    """Pre-training that goes on, for a thousand to some hundred thousand images.

    The published batch of 4096 would leave too few steps for such a number of images. AdamW's rate falls with the
    square root of the batch: a quarter of the published 2.4e-3 for 256 images, and a quarter of that again, because
    the weights are good already.
    """
    return PretrainRecipe(
        name="adapt",
        follows="openmae",
        note="goes on from any --weights on your own images; the network and the optimizer are those of the weights",
        backbone=AS_WEIGHTS,
        epochs=EPOCHS,
        batch_size=256,
        base_lr=1.5e-4,
        warmup_epochs=WARMUP_SHARE * EPOCHS,
        encoder_frozen_epochs="auto",
    )
