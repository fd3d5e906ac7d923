"""Pages of a TIFF: channels where the file says so, refused with the choices where it does not."""

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from openmae.data.decoding import BadImage, PixelFormat, Reading, open_image
from openmae.data.decoding.pages import MAX_PAGES
from tests.data.decoding.crafting import encoded, tiff

PLANES = np.random.default_rng(0).integers(0, 60000, (5, 12, 16)).astype(np.uint16)
BANDS = np.moveaxis(PLANES, 0, -1)
COLOURS = (PLANES[:3, :, :, None] // 256).astype(np.uint8).repeat(3, axis=3)
CHOICES = "--pages channels, images or first says what they are"


def ome(pixels: Any, axes: str, **options: Any) -> bytes:
    return tiff(pixels, ome=True, metadata={"axes": axes}, **options)


def described(text: str) -> bytes:
    """Five pages whose first one has that description."""
    return tiff(PLANES, photometric="minisblack", metadata=None, description=text)


CHANNELS = {
    "ome": ome(PLANES, "CYX", photometric="minisblack"),
    "imagej": tiff(PLANES, imagej=True, metadata={"axes": "CYX"}),
    "tifffile": tiff(PLANES, photometric="minisblack", metadata={"axes": "CYX"}),
    "by band in one page": tiff(PLANES, photometric="minisblack", planarconfig="separate"),
}


@pytest.mark.parametrize("data", CHANNELS.values(), ids=CHANNELS)
def test_pages_are_channels_where_the_file_says_so(data: bytes) -> None:
    opened = open_image(data)
    assert opened.stored == PixelFormat(5, "uint16")
    assert np.array_equal(opened.decode(opened.stored), BANDS)


def test_colours_of_a_channel_are_channels_too() -> None:
    opened = open_image(ome(COLOURS, "CYXS", photometric="rgb"))
    assert opened.stored == PixelFormat(9)
    assert np.array_equal(opened.decode(opened.stored), np.concatenate(list(COLOURS), axis=2))


def test_channels_are_in_the_order_that_ome_gives() -> None:
    order = [3, 0, 4, 1, 2]
    blocks = "".join(f'<TiffData IFD="{page}" FirstC="{channel}"/>' for channel, page in enumerate(order))
    text = f'<OME><Image><Pixels SizeC="5" SizeZ="1" SizeT="1">{blocks}</Pixels></Image></OME>'
    assert np.array_equal(open_image(described(text)).decode(PixelFormat(5, "uint16")), BANDS[:, :, order])


UNCLEAR = {
    "focus stack of ImageJ": tiff(PLANES, imagej=True, metadata={"axes": "ZYX"}),
    "times of OME": ome(PLANES, "TYX", photometric="minisblack"),
    "channels and slices": ome(np.stack([PLANES, PLANES]), "ZCYX", photometric="minisblack"),
    "pages without a word": tiff(PLANES, photometric="minisblack", metadata=None),
    "pages of tifffile without axes": tiff(PLANES, photometric="minisblack"),
    "colour pictures": encoded(
        Image.new("RGB", (9, 9)), "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]
    ),
    "more channels than pages": described('<OME><Pixels SizeC="4000000000" SizeZ="1" SizeT="1"/></OME>'),
    "fewer channels than pages": described('<OME><Pixels SizeC="2" SizeZ="1" SizeT="1"/></OME>'),
    "OME without numbers": described('<OME><Pixels SizeC="many"/></OME>'),
    "damaged OME": described("<OME><Pixels OME>"),
    "axes that are no list": described('{"axes": 5, "shape": 7}'),
    "deep nesting": described("{" + '"a":[' * 5000),
}


@pytest.mark.parametrize("data", UNCLEAR.values(), ids=UNCLEAR)
def test_pages_that_may_be_anything_are_refused_with_the_choices(data: bytes) -> None:
    with pytest.raises(BadImage, match=CHOICES):
        open_image(data)


def test_entities_that_expand_without_end_are_not_expanded() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    text = f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY e0 "0123456789">{entities}]><OME>&e11;</OME>'
    with pytest.raises(BadImage, match=CHOICES):
        open_image(described(text))


def test_the_user_says_what_pages_are() -> None:
    data = tiff(PLANES, photometric="minisblack", metadata=None)
    channels = open_image(data, Reading(pages="channels"))
    assert np.array_equal(channels.decode(PixelFormat(5, "uint16")), BANDS)
    assert np.array_equal(open_image(data, Reading(pages="first")).decode(PixelFormat(1, "uint16")), BANDS[:, :, :1])


def test_a_stack_with_a_single_page_is_not_taken_for_a_picture() -> None:
    data = tiff(PLANES[0], photometric="minisblack", metadata=None, description="ImageJ=1.5\nimages=5\nslices=5\n")
    with pytest.raises(BadImage, match="a stack of 5 planes"):
        open_image(data)
    assert open_image(data, Reading(pages="first")).stored == PixelFormat(1, "uint16")


def test_pages_of_another_size_or_marked_as_reduced_are_previews() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(PLANES[0], photometric="minisblack", metadata=None)
        writer.write(PLANES[0, :6, :8], photometric="minisblack", metadata=None)
        writer.write(PLANES[1], photometric="minisblack", metadata=None, subfiletype=1)
    opened = open_image(file.getvalue())
    assert np.array_equal(opened.decode(opened.stored), BANDS[:, :, :1])


def test_a_channel_that_is_cut_off_is_noticed() -> None:
    data = CHANNELS["ome"]
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        end = file.pages[4].dataoffsets[0] + 10
    with pytest.raises(BadImage, match="damaged or cut short"):
        open_image(data[:end]).decode(PixelFormat(5, "uint16"))


def test_too_many_pages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PAGES == 10_000
    monkeypatch.setattr("openmae.data.decoding.pages.MAX_PAGES", 4)
    with pytest.raises(BadImage, match="more than 4 pages"):
        open_image(CHANNELS["imagej"])
