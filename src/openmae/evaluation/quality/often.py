"""How many images are looked at, and after how many epochs: numbers of images decide it, never the clock."""

from math import ceil

from openmae.core.model import MaskedAutoencoder

# Of the training images; the features of a small set need no more for a trend.
SHARE_OF_IMAGES, FEWEST_IMAGES, MOST_IMAGES = 0.018, 64, 512
# Labelled images that others are compared with, for each image of the sample.
BANK = 2
# The pixels of the sample stay in memory.
MOST_BYTES = 256 * 2**20
# The estimate below is above the measured cost (benchmarks/quality.py): training also decodes, updates and waits.
SHARE_OF_TRAINING = 0.03
MOST_MEASUREMENTS = 100


def sample_size(training_images: int, *, bytes_each: int) -> int:
    """How many images are looked at: 1.8 % of those that are trained on, from 64 to 512.

    >>> sample_size(10_000, bytes_each=784), sample_size(1_281_167, bytes_each=150_528)
    (180, 512)
    """
    wanted = min(MOST_IMAGES, max(FEWEST_IMAGES, round(SHARE_OF_IMAGES * training_images)))
    return max(1, min(wanted, MOST_BYTES // ((1 + BANK) * bytes_each)))


def cost(model: MaskedAutoencoder, *, kept: int, masked: int, whole: int) -> float:
    """What it costs to reconstruct `masked` images and to encode `whole` ones, in images that are trained on.

    Tokens times the weights of the blocks; a training step is three times its forward pass.
    """
    encoder, decoder = (
        sum(weights.numel() for weights in part.blocks.parameters()) for part in (model.encoder, model.decoder)
    )
    forward = encoder * kept + decoder * model.geometry.patches
    return (masked * forward + whole * encoder * model.geometry.patches) / (3 * forward)


def epochs_between(*, cost: float, images: int, epochs: int) -> int:
    """The fewest epochs between two measurements that keep to 3 % of the training and to 100 measurements in all.

    Args:
        cost: of one, in images that are trained on.
        images: that an epoch trains on.
        epochs: of the whole run, whose end is always measured.

    >>> epochs_between(cost=600, images=10_000, epochs=8), epochs_between(cost=900, images=1_281_167, epochs=1600)
    (2, 16)
    """
    most = min(MOST_MEASUREMENTS, max(1, int(SHARE_OF_TRAINING * images * epochs / cost)))
    return ceil(epochs / most)
