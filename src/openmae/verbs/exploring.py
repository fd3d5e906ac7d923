"""Verbs whose result is a page."""

from pathlib import Path
from typing import Annotated

from openmae.recipes.constraints import NOT_NEGATIVE, PORT, at_least
from openmae.recipes.values import Pages, PixelRange, Places, as_text
from openmae.verbs.verb import verb


@verb
def explore(
    weights: str | Path,
    *,
    data: Places | None = None,
    images: Annotated[int, at_least(1)] = 1000,
    seed: Annotated[int, NOT_NEGATIVE] = 0,
    pages: Pages | None = None,
    max_pixels: Annotated[int | None, at_least(1)] = None,
    pixel_range: PixelRange | None = None,
    port: Annotated[int | None, PORT] = None,
) -> None:
    """Open a page on which patches are hidden and shown by hand, until Ctrl-C.

    It shows the reconstruction, its error, the attention, and the nearest images of the data. It is served to this
    machine alone. It needs the extra `explore`.

    Args:
        weights: A run folder of `openmae pretrain`, one of its checkpoints, or foreign weights with a decoder: a path,
            zoo:NAME (`openmae zoo` marks them), hf://owner/name, https://….
        data: The images to begin with and to find the nearest among; those of the run when not given.
        images: So many of them, chosen by the seed, are encoded at the start.
        seed: Seed of that choice.
        pages: What the pages of a TIFF are: channels of one picture, images of their own, or previews of the first;
            as the weights were trained when not given.
        max_pixels: Images with more pixels are refused; 200,000,000 when not given.
        pixel_range: The numbers in the images that are black and white, where these have another range than the images
            that the weights were trained on; as the type of the images says when not given.
        port: The port to serve at; when not given, 7860 or the next one that is free.
    """
    from openmae.reporting.explore.opening import explore as open_page

    open_page(
        weights,
        data=None if data is None else as_text(data),
        images=images,
        seed=seed,
        pages=pages,
        max_pixels=max_pixels,
        pixel_range=pixel_range,
        port=port,
    )
