"""Features of patches as colours: like colours are like features, in all images together."""

import numpy as np
from numpy.typing import NDArray

COLOURS = 3
DARKEST, BRIGHTEST = 0.01, 0.99
"""These quantiles of a component become 0 and 1: one patch that is far from all others would leave the rest grey."""


def patch_colours(features_NLD: NDArray[np.floating]) -> NDArray[np.float32]:
    """The first three principal components of the patches' features as red, green and blue: [N, L, 3] in 0 … 1.

    The components are those of all patches of all images together, so that colours can be compared between images
    (DINOv2, arXiv 2304.07193, section 7.6; here without its separation of the foreground). A component has no sign of
    its own: the largest of its loadings is made positive. A component along which nothing varies is 0.5.

    Args:
        features_NLD: of L patches of N images, D values each: the encoder's tokens without the prefix.
    """
    images, patches, width = features_NLD.shape
    mean_D = features_NLD.mean(axis=(0, 1), dtype=np.float64)
    covariance_DD = np.zeros((width, width))
    for tokens_LD in features_NLD:  # the images one by one: a copy of them all in double precision is large
        centred_LD = tokens_LD.astype(np.float64) - mean_D
        covariance_DD += centred_LD.T @ centred_LD
    shown = min(COLOURS, width)
    # eigh sorts from the smallest to the largest.
    variances, directions_DD = np.linalg.eigh(covariance_DD)
    directions_DC = directions_DD[:, ::-1][:, :shown]
    largest = np.abs(directions_DC).argmax(axis=0)
    directions_DC = directions_DC * np.sign(directions_DC[largest, range(shown)])
    components_NLC = np.stack([(tokens_LD - mean_D) @ directions_DC for tokens_LD in features_NLD])

    colours = np.full((images, patches, COLOURS), 0.5, dtype=np.float32)
    limits = np.quantile(components_NLC.reshape(-1, shown), (DARKEST, BRIGHTEST), axis=0)
    rounding = np.finfo(features_NLD.dtype).eps * max(variances[-1], np.square(mean_D).sum() * images * patches)
    for component in range(shown):
        low, high = limits[:, component]
        if variances[::-1][component] > rounding and high > low:
            colours[..., component] = ((components_NLC[..., component] - low) / (high - low)).clip(0, 1)
    return colours
