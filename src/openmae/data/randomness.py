"""Random numbers as a function of (seed, epoch, image index)."""

import enum

import numpy as np


class Stream(enum.IntEnum):
    """Independent sequences of random numbers drawn from one seed."""

    ORDER = 0
    AUGMENTATION = 1
    MASK = 2
    REPLACEMENT = 3
    SUBSET = 4
    STEP = 5
    QUALITY = 6


def random_stream(seed: int, stream: Stream, *, epoch: int = 0, index: int = 0, repeat: int = 0) -> np.random.Generator:
    """The random numbers of one image in one epoch. The generator is counter-based: none is costly to reach.

    >>> a, b = (random_stream(1, Stream.MASK, epoch=3, index=7).random() for _ in range(2))
    >>> a == b
    True
    """
    # Drawing numbers advances the lowest word of the counter; the other words keep images and epochs apart.
    return np.random.Generator(np.random.Philox(key=[seed, int(stream)], counter=[0, index, epoch, repeat]))
