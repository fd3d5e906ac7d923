"""Features in two dimensions, to draw images as points: near points are like images."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from openmae.errors import UserError

Projection = Literal["pca", "tsne", "umap"]
MOST_COMPONENTS = 50
PERPLEXITY = 30
NEIGHBOURS = 15


def projection(features_ND: NDArray[np.floating], method: Projection = "tsne", *, seed: int = 0) -> NDArray[np.float32]:
    """Features [N, D] as points [N, 2]; the same features and seed give the same points.

    - pca: the first two principal components, as they are; the largest loading of each is positive.
    - tsne: t-SNE of scikit-learn (van der Maaten and Hinton 2008) on the first 50 components of features of length 1,
      starting from the first two; perplexity 30, or a third of the images when they are few.
    - umap: UMAP (arXiv 1802.03426) with cosine distances; the extra `umap`.

    t-SNE takes seconds for a thousand images and minutes for tens of thousands: choose a part of many images first.

    Raises:
        UserError: when the method is unknown, or its package is not installed.
    """
    if method not in ("pca", "tsne", "umap"):
        raise UserError(f"there is no projection called {method!r}; use pca, tsne or umap")
    if len(features_ND) < 3:  # two points have one distance, which any picture shows
        return np.array([[place, 0] for place in range(len(features_ND))], dtype=np.float32).reshape(-1, 2)
    if method == "pca":
        return _principal(features_ND, 2, seed)
    lengths_N1 = np.linalg.norm(features_ND, axis=1, keepdims=True)
    unit_ND = (features_ND / np.maximum(lengths_N1, np.finfo(np.float32).tiny)).astype(np.float32)
    if np.ptp(unit_ND, axis=0).max() == 0:  # all alike: neither method can divide by their distances
        return np.zeros((len(features_ND), 2), dtype=np.float32)
    return _tsne(unit_ND, seed) if method == "tsne" else _umap(unit_ND, seed)


def _principal(features_ND: NDArray[np.floating], components: int, seed: int) -> NDArray[np.float32]:
    from sklearn.decomposition import PCA

    possible = min(components, *features_ND.shape)
    # scikit-learn divides by the total variance, which is 0 when all images are alike.
    with np.errstate(invalid="ignore", divide="ignore"):
        found = PCA(possible, svd_solver="covariance_eigh", random_state=seed).fit_transform(
            features_ND.astype(np.float64)
        )
    return np.pad(found, ((0, 0), (0, max(0, 2 - possible)))).astype(np.float32)


def _tsne(unit_ND: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    from sklearn.manifold import TSNE

    reduced = _principal(unit_ND, MOST_COMPONENTS, seed)
    perplexity = min(PERPLEXITY, (len(unit_ND) - 1) / 3)
    points: NDArray[np.float32] = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(reduced)
    return points.astype(np.float32)


def _umap(unit_ND: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    try:
        from umap import UMAP
    except ImportError as error:
        raise UserError(
            "UMAP needs umap-learn, which is not installed; run `pip install 'openmae[umap]'`, or use pca or tsne"
        ) from error
    fit = UMAP(
        n_neighbors=min(NEIGHBOURS, len(unit_ND) - 1),
        metric="cosine",
        # Its spectral start needs more images than dimensions.
        init="spectral" if len(unit_ND) > NEIGHBOURS else "random",
        random_state=seed,
        n_jobs=1,  # a seed allows no more
    )
    return np.asarray(fit.fit_transform(unit_ND), dtype=np.float32)
