"""The images whose features are nearest to those of others."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from openmae.errors import UserError

NEAREST = 7
QUERIES_AT_ONCE, FEATURES_AT_ONCE = 256, 65536
"""At most 64 MiB of similarities exist at a time."""


@torch.inference_mode()
def neighbours(
    features_ND: NDArray[np.floating], queries_MD: NDArray[np.floating], count: int = NEAREST
) -> NDArray[np.int64]:
    """The indices of the `count` features most similar to each query (cosine), the most similar first: [M, count].

    Among equally similar ones the first comes first. A query that is itself among the features finds itself. When there
    are fewer than `count` features, all of them: [M, N].

    Raises:
        UserError: when the two are of different widths, or there are no features.
    """
    if not len(features_ND):
        raise UserError("there are no images to find neighbours among; give --data some that can be read")
    if features_ND.shape[1] != queries_MD.shape[1]:
        raise UserError(
            f"features of {features_ND.shape[1]} values cannot be compared with queries of {queries_MD.shape[1]}; "
            "encode both with the same weights"
        )
    count = min(count, len(features_ND))
    found = [np.empty((0, count), dtype=np.int64)]
    for start in range(0, len(queries_MD), QUERIES_AT_ONCE):
        queries = _unit(queries_MD[start : start + QUERIES_AT_ONCE])
        best, index = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
        for first in range(0, len(features_ND), FEATURES_AT_ONCE):
            similarity = queries @ _unit(features_ND[first : first + FEATURES_AT_ONCE]).T
            places = torch.arange(first, first + similarity.shape[1]).expand(len(queries), -1)
            similarity, places = torch.cat([best, similarity], dim=1), torch.cat([index, places], dim=1)
            best, chosen = similarity.topk(min(count, similarity.shape[1]), dim=1)
            index = places.gather(1, chosen)
        by_place = index.argsort(dim=1)
        order = by_place.gather(1, best.gather(1, by_place).argsort(dim=1, descending=True, stable=True))
        found.append(index.gather(1, order).numpy())
    return np.concatenate(found)


def _unit(rows: NDArray[np.floating]) -> torch.Tensor:
    return F.normalize(torch.from_numpy(np.array(rows, dtype=np.float32)), dim=1)
