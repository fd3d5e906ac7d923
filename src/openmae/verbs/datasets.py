"""Verbs that look after data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from openmae.recipes.constraints import NOT_NEGATIVE, at_least, at_most
from openmae.recipes.values import Nodata, Pages, Places, as_text
from openmae.verbs.verb import verb

if TYPE_CHECKING:
    from openmae.data.packing import PackResult
    from openmae.reporting.check import CheckResult


@verb
def check(
    data: Places,
    *,
    labels: str | Path | None = None,
    out: str | Path | None = None,
    workers: Annotated[int | None, NOT_NEGATIVE] = None,
    pages: Pages = "auto",
    nodata: Nodata = "auto",
    max_pixels: Annotated[int, at_least(1)] = 200_000_000,
) -> "CheckResult":
    """Decode every image of a data set once: kinds, sizes, classes, duplicates, and the broken ones.

    Args:
        data: A folder of images, Parquet, tar shards, or fashion-mnist.
        labels: A CSV file with the columns path and label, for images that are not in class folders.
        out: Folder for check.json, bad_images.jsonl and contact_sheet.png; runs/check-NAME when not given.
        workers: Processes that decode; one per spare processor when not given.
        pages: What the pages of a TIFF are: channels of one picture, images of their own, or previews of the first;
            auto believes what OME and ImageJ files say, and asks where nothing says it.
        nodata: The value of pixels that hold no data, such as -9999; auto is the value that a GeoTIFF names, none
            is none.
        max_pixels: Images with more pixels are refused.
    """
    from openmae.data.decoding import Reading
    from openmae.reporting.check import run_check

    return run_check(
        as_text(data),
        labels=None if labels is None else str(labels),
        out=None if out is None else Path(out),
        workers=workers,
        reading=Reading(pages=pages, nodata=nodata, max_pixels=max_pixels),
    )


@verb
def pack(
    source: Places,
    destination: str | Path,
    *,
    labels: str | Path | None = None,
    short_side: Annotated[int, at_least(1)] = 288,
    quality: Annotated[int, at_least(1), at_most(100)] = 90,
    format: Literal["auto", "jpeg", "raw"] = "auto",  # noqa: A002  # the name of the flag
    shard_size: Annotated[int, at_least(1)] = 500,
    workers: Annotated[int | None, NOT_NEGATIVE] = None,
    pages: Pages = "auto",
    nodata: Nodata = "auto",
    max_pixels: Annotated[int, at_least(1)] = 200_000_000,
) -> "PackResult":
    """Copy a data set to tar shards of smaller images, which decode faster.

    The new folder is then used as --data.

    Args:
        source: A folder of images, Parquet, tar shards, or hf://owner/name.
        destination: A new folder. The shards of a pack that was stopped there are deleted first.
        labels: A CSV file with the columns path and label, for images that are not in class folders.
        short_side: Larger images are reduced to this short side, in pixels; 288 serves crops of 224.
        quality: Quality of JPEG, 1 to 100.
        format: raw stores pixels as they are: larger, and fastest. auto: raw up to 64 pixels, else JPEG.
        shard_size: Megabytes in one shard.
        workers: Processes; one per processor, up to 9, when not given.
        pages: What the pages of a TIFF are: channels of one picture, images of their own, or previews of the first;
            auto believes what OME and ImageJ files say, and asks where nothing says it.
        nodata: The value of pixels that hold no data, such as -9999; they are packed as NaN. auto is the value that a
            GeoTIFF names, or a negative or huge one far from all others; none is none.
        max_pixels: Images with more pixels are left out as bad.
    """
    from openmae.data.decoding import Reading
    from openmae.data.packing import pack as write_shards
    from openmae.data.packing.reencoding import PackSettings
    from openmae.data.pages import as_images
    from openmae.data.sources import open_data
    from openmae.data.workers import automatic_workers
    from openmae.reporter import ProgressView

    reading = Reading(pages=pages, nodata=nodata, max_pixels=max_pixels)
    settings = PackSettings(short_side=short_side, quality=quality, format=format, reading=reading)
    data = as_images(open_data(as_text(source), labels=None if labels is None else str(labels)), reading)
    images = sum(map(len, data.splits.values()))
    with ProgressView("packing", images) as view:
        return write_shards(
            data,
            str(destination),
            settings,
            source=as_text(source),
            shard_megabytes=shard_size,
            workers=automatic_workers() + 1 if workers is None else workers,
            show=lambda done: view.update(done, "packing", f"{done:,} of {images:,} images"),
        )
