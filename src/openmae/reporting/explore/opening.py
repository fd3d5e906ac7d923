"""`openmae explore`: from weights and data to the page."""

import os
import tempfile
from pathlib import Path

import torch

from openmae.data.decoding import Pages
from openmae.data.pages import pages_of
from openmae.data.sources import open_data
from openmae.data.sources.taking import for_pretraining
from openmae.errors import UserError
from openmae.recipes.values import PixelRange
from openmae.reporter import say
from openmae.reporting.explore.bank import encode_bank
from openmae.reporting.explore.exploring import Explorer
from openmae.reporting.explore.page import build_page
from openmae.reporting.serving import serve
from openmae.training.deep_pixels import network_for_sources
from openmae.training.pixels import reading_of
from openmae.weights.building import LoadedAutoencoder, autoencoder_from
from openmae.weights.reading import read_weights
from openmae.weights.weights import Weights

USUAL_PORT = 7860


def explore(
    weights: str | Path,
    *,
    data: str | tuple[str, ...] | None,
    images: int,
    seed: int = 0,
    pages: Pages | None = None,
    max_pixels: int | None = None,
    pixel_range: PixelRange | None = None,
    port: int | None = None,
) -> None:
    """Serve the page until Ctrl-C; see the verb.

    Raises:
        UserError: when the weights have no decoder, gradio is not installed, or the port is taken.
    """
    offline()
    with tempfile.TemporaryDirectory(prefix="openmae-explore-") as folder:
        # Images that are dropped in, and all pictures of the page, are gone with it.
        os.environ["GRADIO_TEMP_DIR"] = folder
        explorer = open_explorer(
            weights, data=data, images=images, seed=seed, pages=pages, max_pixels=max_pixels, pixel_range=pixel_range
        )
        app = build_page(explorer, title=str(weights))
        serve(app, title=f"exploring {weights}", port=port, usual_port=USUAL_PORT)


def offline() -> None:
    """Keep gradio from asking for its newest version and from counting its uses.

    Raises:
        UserError: when it is not installed.
    """
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError(
            "exploring needs gradio, which is not installed; run `pip install 'openmae[explore]'`"
        ) from error


def open_explorer(
    weights: str | Path,
    *,
    data: str | tuple[str, ...] | None,
    images: int,
    seed: int = 0,
    pages: Pages | None = None,
    max_pixels: int | None = None,
    pixel_range: PixelRange | None = None,
) -> Explorer:
    """The network, and some encoded images of the data, or of the run's own data when none are given.

    Data of the run that are not there any more are missed, not fatal: images can be dropped in.
    """
    whole = read_weights(weights, with_decoder=True)
    loaded = _loaded(whole)
    reading = reading_of(loaded.network, pages=pages, max_pixels=max_pixels)
    places = data if data is not None else whole.recipe.data if whole.recipe is not None else None
    if places is None:
        say("no --data: images can be dropped in, and no nearest ones are shown")
        return Explorer(loaded=loaded, reading=reading)
    try:
        source = pages_of(for_pretraining(open_data(places)).images, reading)
    except UserError as error:
        if data is not None:
            raise
        say(f"the images of the run cannot be opened ({error}); drop some in, or say with --data where they are now")
        return Explorer(loaded=loaded, reading=reading)
    loaded = loaded._replace(network=network_for_sources(loaded.network, [source], reading, pixel_range=pixel_range))
    bank = encode_bank(loaded, source, reading, images=images, seed=seed)
    loaded.model.to(torch.device("cpu"))  # one image at a time; encoding many may have moved it
    return Explorer(loaded=loaded, reading=reading, bank=bank)


def _loaded(weights: Weights) -> LoadedAutoencoder:
    try:
        return autoencoder_from(weights)
    except UserError as error:
        if weights.has_decoder:
            raise
        raise UserError(
            f"{error}. Its features can be looked at all the same: `openmae embed --weights {weights.file} --data D "
            "--out features.parquet --atlas`"
        ) from error
