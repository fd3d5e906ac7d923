"""Pages of a TIFF: channels of one picture, images of their own, or previews of the first one."""

import json
import math
import struct
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import tifffile

from openmae.data.decoding.opened import DAMAGED, BadImage, Pages

# More are an attack, or a film.
MAX_PAGES = 10_000
# Longer descriptions are not parsed: XML takes many times its length in memory.
MAX_DESCRIPTION = 4 << 20
# Tag of MetaMorph stacks, with one value for each plane. Only the first plane has a page.
STACK = 33629
IMAGEJ_AXES = {"C": "channels", "Z": "slices", "T": "frames"}
CHOICES = "--pages channels, images or first says what they are"


def same_pages(file: tifffile.TiffFile) -> list[int]:
    """The pages that are of the same kind as the first one. All others are previews and masks of it.

    Raises:
        BadImage: when there are too many to be honest.
    """
    if not file.pages.is_multipage:
        _require_end(file, file.pages.first)
        return [0]
    kind = _kind(file.pages.first)
    same = []
    page: Any
    for number, page in enumerate(file.pages):
        if number == MAX_PAGES:
            raise BadImage(f"more than {MAX_PAGES:,} pages")
        if number == 0 or (_kind(page) == kind and not (page.is_reduced or page.is_mask)):
            same.append(number)
    _require_end(file, page)
    return same


def _require_end(file: tifffile.TiffFile, last: Any) -> None:
    """Raise BadImage when the last page points to another one behind the end of the file: it was cut short."""
    layout, handle = file.tiff, file.filehandle
    handle.seek(last.offset)
    tags = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))[0]
    handle.seek(last.offset + layout.tagnosize + tags * layout.tagsize)
    following = handle.read(layout.offsetsize)
    if len(following) < layout.offsetsize or struct.unpack(layout.offsetformat, following)[0] >= handle.size:
        raise BadImage(f"{DAMAGED} (pages are missing)")


def _kind(page: Any) -> tuple[Any, ...]:
    return page.imagelength, page.imagewidth, page.samplesperpixel, page.bitspersample, page.sampleformat


def pages_of_picture(file: tifffile.TiffFile, pages: Pages) -> list[int]:
    """The pages whose samples are the channels of the picture, in order.

    Raises:
        BadImage: when the pages may be channels or something else, and nobody says which.
    """
    first = file.pages.first
    if pages in ("images", "first"):
        return [0]
    description = first.description
    if not file.pages.is_multipage and not description.startswith(("ImageJ=", "{")) and STACK not in first.tags:
        _require_end(file, first)
        return [0]  # nearly every TIFF
    same = same_pages(file)
    if pages == "channels":
        return same
    sizes = dimensions(description, first.samplesperpixel)
    declared = math.prod(sizes.values())
    if not file.pages.is_multipage:
        declared = max(declared, first.tags[STACK].count if STACK in first.tags else 1)
        if declared > 1:
            raise BadImage(f"a stack of {declared} planes of which only the first has a page; --pages first takes that")
    if len(same) == 1:
        return same
    several = {axis: size for axis, size in sizes.items() if size > 1}
    if list(several) == ["C"] and declared == len(same):
        return _in_order_of_channels(description, same)
    if declared == len(same) and several:
        raise BadImage(f"{len(same)} pages ({_named(several)}), not one picture; {CHOICES}")
    raise BadImage(f"{len(same)} pages of one size, and nothing in the file says that they are channels; {CHOICES}")


def dimensions(description: str, samples: int) -> Mapping[str, int]:
    """How many planes there are along each axis (C, Z, T, …), as OME, ImageJ or tifffile describes it; else empty."""
    if len(description) > MAX_DESCRIPTION:
        return {}
    try:
        if _is_ome(description):
            pixels = _ome_pixels(description)
            sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in "CZT"}
            return {**sizes, "C": max(1, sizes["C"] // samples)}
        if description.startswith("ImageJ="):
            lines = dict(line.split("=", 1) for line in description.splitlines() if "=" in line)
            found = {axis: int(lines.get(name, 1)) for axis, name in IMAGEJ_AXES.items()}
            images = int(lines.get("images", 1))
            known = found["C"] * found["Z"] * found["T"]
            return found if images == known else {**found, "I": max(1, images)}
        if description.startswith("{"):
            return _shaped(json.loads(description))
    except (ElementTree.ParseError, ValueError, KeyError, TypeError, AttributeError, RecursionError, StopIteration):
        pass  # a damaged description says nothing
    return {}


def _is_ome(description: str) -> bool:
    return description.rstrip().endswith("OME>")


def _ome_pixels(description: str) -> ElementTree.Element:
    """The description of the first image. The parser refuses entities that expand without end."""
    root = ElementTree.fromstring(description)  # noqa: S314  # expat limits how far entities expand
    return next(element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels")


def _shaped(written: Any) -> Mapping[str, int]:
    """The planes that tifffile describes. Without axes, only a file that lacks pages is worth a word."""
    shape = written["shape"]
    axes = written.get("axes") or ("Q" * (len(shape) - 2) + "YX" if written.get("truncated") else "")
    return {axis: int(size) for axis, size in zip(axes, shape, strict=bool(axes)) if axis not in "YXS"}


def _in_order_of_channels(description: str, same: list[int]) -> list[int]:
    """The pages in the order of their channels, which an OME description may give page by page."""
    if not _is_ome(description):
        return same
    order = {}
    try:
        for block in _ome_pixels(description):
            if block.tag.rpartition("}")[2] == "TiffData" and "IFD" in block.attrib and "FirstC" in block.attrib:
                order[int(block.attrib["FirstC"])] = int(block.attrib["IFD"])
    except ValueError:
        return same
    listed = [order.get(channel, -1) for channel in range(len(same))]
    return listed if sorted(listed) == same else same


def _named(several: Mapping[str, int]) -> str:
    names = {"C": "channels", "Z": "slices", "T": "times"}
    return " x ".join(f"{size} {names.get(axis, f'along {axis}')}" for axis, size in several.items())
