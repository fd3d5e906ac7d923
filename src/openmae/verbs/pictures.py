"""Verbs that draw."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from openmae.errors import UserError
from openmae.recipes.constraints import BETWEEN_0_AND_1, NOT_NEGATIVE, at_least
from openmae.verbs.verb import verb


@verb
def reconstruct(
    images: Sequence[str | Path] = (),
    *,
    weights: str | Path,
    out: str | Path,
    data: str | Path | None = None,
    rows: Annotated[int, at_least(1)] = 8,
    mask_ratio: Annotated[float | None, BETWEEN_0_AND_1] = None,
    seed: Annotated[int, NOT_NEGATIVE] = 0,
) -> Path:
    """Draw images, the patches that the model sees of them, and its reconstructions.

    A row of the picture shows: original, masked, reconstruction, reconstruction with the visible patches.

    Args:
        images: Image files.
        weights: A run folder of `openmae pretrain`, one of its checkpoints, or foreign weights with a decoder: a path,
            zoo:NAME (`openmae zoo` marks them), hf://owner/name, https://….
        out: The PNG to write.
        data: Instead of image files: a data set, of which some training images are drawn.
        rows: Number of images to draw from the data set.
        mask_ratio: Share of the patches to hide; that of the pre-training when not given.
        seed: Seed of the masks, and of the choice of images.
    """
    from openmae.data.sources import open_data
    from openmae.reporting.pictures import reconstruct as draw
    from openmae.reporting.pictures import reconstruct_sample

    if data is None:
        return draw(weights, [Path(image) for image in images], Path(out), mask_ratio=mask_ratio, seed=seed)
    if images:
        raise UserError("image files and --data were both given; give one of them")
    source = open_data(str(data)).train
    return reconstruct_sample(weights, source, Path(out), rows=rows, mask_ratio=mask_ratio, seed=seed)
