"""Verbs that draw."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from openmae.errors import UserError
from openmae.recipes.constraints import BETWEEN_0_AND_1, NOT_NEGATIVE, at_least
from openmae.recipes.values import Pages, PixelRange, Places, as_text
from openmae.verbs.verb import verb


@verb
def reconstruct(
    images: Sequence[str | Path] = (),
    *,
    weights: str | Path,
    out: str | Path,
    data: Places | None = None,
    split: Sequence[str] = (),
    rows: Annotated[int, at_least(1)] = 8,
    mask_ratio: Annotated[float | None, BETWEEN_0_AND_1] = None,
    seed: Annotated[int, NOT_NEGATIVE] = 0,
    pages: Pages | None = None,
    max_pixels: Annotated[int | None, at_least(1)] = None,
    pixel_range: PixelRange | None = None,
) -> Path:
    """Draw images, the patches that the model sees of them, and its reconstructions.

    A row of the picture shows: original, masked, reconstruction, reconstruction with the visible patches.

    Args:
        images: Image files.
        weights: A run folder of `openmae pretrain`, one of its checkpoints, or foreign weights with a decoder: a path,
            zoo:NAME (`openmae zoo` marks them), hf://owner/name, https://….
        out: The PNG to write.
        data: Instead of image files: a data set, of which some images are drawn.
        split: The splits of the data set to choose from; all but those for measuring when not given.
        rows: Number of images to draw from the data set.
        mask_ratio: Share of the patches to hide; that of the pre-training when not given.
        seed: Seed of the masks, and of the choice of images.
        pages: What the pages of a TIFF are: channels of one picture, images of their own, or previews of the first;
            as the weights were trained when not given.
        max_pixels: Images with more pixels are refused; 200,000,000 when not given.
        pixel_range: The numbers in the images that are black and white, where these have another range than the images
            that the weights were trained on; as the type of the images says when not given.
    """
    from openmae.data.sources import open_data
    from openmae.data.sources.taking import for_pretraining
    from openmae.reporting.pictures import reconstruct as draw
    from openmae.reporting.pictures import reconstruct_sample

    if data is None:
        files = [Path(image) for image in images]
        return draw(
            weights,
            files,
            Path(out),
            mask_ratio=mask_ratio,
            seed=seed,
            pages=pages,
            max_pixels=max_pixels,
            pixel_range=pixel_range,
        )
    if images:
        raise UserError("image files and --data were both given; give one of them")
    taken = for_pretraining(open_data(as_text(data)), split)
    return reconstruct_sample(
        weights,
        taken.images,
        Path(out),
        rows=rows,
        mask_ratio=mask_ratio,
        seed=seed,
        pages=pages,
        max_pixels=max_pixels,
        pixel_range=pixel_range,
    )
