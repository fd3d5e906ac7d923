"""Points lie near each other when images are alike, and are the same each time."""

import sys

import numpy as np
import pytest

from openmae.evaluation.views import projection
from openmae.evaluation.views.projection import Projection

METHODS: list[Projection] = ["pca", "tsne", "umap"]


def groups(count: int = 20, *, width: int = 16) -> np.ndarray:
    """Three groups of features in directions of their own."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, width)) * 5
    return np.concatenate([centre + rng.normal(size=(count, width)) for centre in centres]).astype(np.float32)


def require(method: Projection) -> None:
    if method == "umap":
        pytest.importorskip("umap", reason="needs the extra umap")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore::Warning:umap|numba|sklearn")
def test_groups_stay_together_and_the_points_are_the_same_again(method: Projection) -> None:
    require(method)
    points = projection(groups(), method, seed=3)
    assert points.shape == (60, 2)
    assert np.array_equal(points, projection(groups(), method, seed=3))
    middles = points.reshape(3, 20, 2).mean(axis=1)
    distances = np.linalg.norm(points[:, None] - middles, axis=-1)
    assert (distances.argmin(axis=1) == np.repeat(range(3), 20)).all()


def test_principal_components_keep_the_distances_of_a_plane() -> None:
    rng = np.random.default_rng(0)
    plane_N2 = rng.normal(size=(30, 2)) * [3, 1]
    basis, _ = np.linalg.qr(rng.normal(size=(9, 2)))
    points = projection(plane_N2 @ basis.T + 7, "pca")

    def distances(of: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.norm(of[:, None] - of, axis=-1))

    assert distances(points) == pytest.approx(distances(plane_N2), abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
@pytest.mark.filterwarnings("ignore::Warning:umap|numba|sklearn")
def test_few_images_and_equal_ones_have_points_too(method: Projection, count: int) -> None:
    require(method)
    for features in (groups()[:count], np.ones((count, 16), dtype=np.float32), np.ones((count, 1), dtype=np.float32)):
        points = projection(features, method)
        assert points.shape == (count, 2)
        assert np.isfinite(points).all()


def test_without_umap_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match=r"pip install 'openmae\[umap\]'"):
        projection(groups(), "umap")


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="'lda'; use pca, tsne or umap"):
        projection(groups(), "lda")  # type: ignore[arg-type]
