"""Survey a data set: decode every image once and count what is found; pixels are not kept."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from openmae.data.batches import BadRecord
from openmae.data.decoding import AS_USUAL, BadImage, PixelFormat, Reading, open_image, why_unreadable
from openmae.data.sources import Source, classes_if_any
from openmae.data.statistics import widest_type

IMAGES_PER_CHUNK = 64
DIGEST_BYTES = 16
EXAMPLES = 3
# Reasons quote untrusted files, which may give any number of them; those beyond this number are counted together.
MAX_REASONS = 200
OTHER_REASONS = "other reasons"
SMALL_SIDES = (224, 256)


class Findings(NamedTuple):
    """Facts about a few images, in their order: `sizes` [N, 2] (height, width) of the readable ones, `digests` [N] of
    the bytes of all (zeros for an image whose bytes cannot be read)."""

    kinds: Counter[str]
    formats: Counter[PixelFormat]
    sizes: NDArray[np.int32]
    digests: NDArray[np.void]
    bad: list[BadRecord]


@dataclass(frozen=True)
class Chunks(Dataset[Findings]):
    """The findings about IMAGES_PER_CHUNK images at a time."""

    source: Source
    reading: Reading = AS_USUAL

    def __len__(self) -> int:
        return -(-len(self.source) // IMAGES_PER_CHUNK)

    def __getitem__(self, chunk: int) -> Findings:
        start = chunk * IMAGES_PER_CHUNK
        return inspect(self.source, range(start, min(start + IMAGES_PER_CHUNK, len(self.source))), self.reading)


def inspect(source: Source, images: range, reading: Reading = AS_USUAL) -> Findings:
    """Read and decode these images."""
    kinds: Counter[str] = Counter()
    formats: Counter[PixelFormat] = Counter()
    sizes: list[tuple[int, int]] = []
    digests = bytearray()
    bad: list[BadRecord] = []
    for image in images:
        digest = bytes(DIGEST_BYTES)
        try:
            data = source.read(image)
            digest = hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
            opened = open_image(data, reading)
            opened.decode(opened.stored)
        except (BadImage, OSError) as error:
            bad.append(BadRecord(image, source.name(image), why_unreadable(error)))
        else:
            kinds[opened.description] += 1
            formats[PixelFormat(opened.colours, opened.stored.kind)] += 1
            sizes.append((opened.height, opened.width))
        digests += digest
    shaped = np.array(sizes, dtype=np.int32).reshape(-1, 2)
    return Findings(kinds, formats, shaped, np.frombuffer(bytes(digests), f"V{DIGEST_BYTES}"), bad)


def inspect_all(source: Source, *, workers: int, reading: Reading = AS_USUAL) -> Iterator[Findings]:
    """Inspect every image once, in order, in `workers` processes.

    A DataLoader and not a process pool: sources are made to be sent to its workers, and it prefetches only a few
    chunks, so that memory stays bounded when the caller is slow.
    """
    loader: DataLoader[Findings] = DataLoader(
        Chunks(source, reading), batch_size=None, num_workers=workers, collate_fn=_uncollated
    )
    yield from loader


def _uncollated(findings: Any) -> Any:
    return findings


@dataclass
class BadGroup:
    """The images that are bad for one reason: how many, and the first few of them."""

    images: int = 0
    examples: list[BadRecord] = field(default_factory=list)

    def add(self, record: BadRecord) -> None:
        self.images += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(record)


@dataclass
class Survey:
    """The findings about one split, added up. It takes 24 bytes an image."""

    images: int = 0
    bad: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    formats: Counter[PixelFormat] = field(default_factory=Counter)
    reasons: dict[str, BadGroup] = field(default_factory=dict)
    _sizes: list[NDArray[np.int32]] = field(default_factory=list)
    _digests: list[NDArray[np.void]] = field(default_factory=list)

    def add(self, findings: Findings) -> None:
        self.images += len(findings.digests)
        self.bad += len(findings.bad)
        self.kinds += findings.kinds
        self.formats += findings.formats
        self._sizes.append(findings.sizes)
        self._digests.append(findings.digests)
        for record in findings.bad:
            kind = kind_of_reason(record.reason)
            known = kind in self.reasons or len(self.reasons) < MAX_REASONS
            self.reasons.setdefault(kind if known else OTHER_REASONS, BadGroup()).add(record)

    @property
    def digests(self) -> NDArray[np.void]:
        return np.concatenate([np.empty(0, f"V{DIGEST_BYTES}"), *self._digests])

    def sizes(self) -> dict[str, Any]:
        """Minimum, median and maximum of height and width, and how many images are small; empty without images."""
        sizes = np.concatenate([np.empty((0, 2), np.int32), *self._sizes])
        if not len(sizes):
            return {}
        short = sizes.min(axis=1)
        return {
            **{name: _spread(sizes[:, axis]) for axis, name in enumerate(("height", "width"))},
            "short_side": _spread(short),
            **{f"short_side_below_{side}": int((short < side).sum()) for side in SMALL_SIDES},
        }


def kind_of_reason(text: str) -> str:
    """A reason without the parts that differ from file to file: the decoder's own message, and numbers.

    >>> kind_of_reason("damaged or cut short (image file is truncated (3 bytes not processed))")
    'damaged or cut short'
    >>> kind_of_reason("50000x50000 pixels of 3 channels, which could be a decompression bomb")
    '…x… pixels of … channels, which could be a decompression bomb'
    """
    return re.sub(r"\d+", "…", text.partition(" (")[0])


def _spread(values: NDArray[np.int32]) -> list[int]:
    return [int(values.min()), int(np.median(values)), int(values.max())]


def class_balance(source: Source) -> dict[str, Any]:
    """Images of each class, of the most frequent and the rarest; empty where there are no classes."""
    classes = classes_if_any(source)
    if not classes.names:
        return {}
    counts = np.bincount(classes.values[classes.known], minlength=len(classes.names))
    order = np.argsort(-counts, kind="stable")
    named = [[classes.names[place], int(counts[place])] for place in order]
    return {
        "classes": len(classes.names),
        "unlabelled": int((~classes.known).sum()),
        "largest": named[:5],
        "smallest": named[5:][-5:],
    }


def duplicates(digests: NDArray[np.void]) -> tuple[int, list[list[int]]]:
    """How many images have the same bytes as an earlier one, and the indices of the first few groups."""
    words = digests.view(np.uint64).reshape(-1, 2)
    order = np.lexsort((words[:, 1], words[:, 0]))
    ordered = words[order]
    unread = (ordered == 0).all(axis=1)
    same: NDArray[np.bool_] = np.zeros(len(order), dtype=np.bool_)
    same[1:] = (ordered[1:] == ordered[:-1]).all(axis=1) & ~unread[1:]
    groups = []
    for start in np.flatnonzero(same & ~np.roll(same, 1))[:EXAMPLES]:
        end = start
        while end < len(same) and same[end] and end - start < EXAMPLES:
            end += 1
        groups.append(sorted(int(place) for place in order[start - 1 : end]))
    return int(same.sum()), groups


def common_format(formats: Counter[PixelFormat]) -> PixelFormat | None:
    """The format that a run should read the images in; None without images. A mixture of grey and colour is colour."""
    if not formats:
        return None
    channels: Counter[int] = Counter()
    for (count, _), images in formats.items():
        channels[count] += images
    commonest = channels.most_common(1)[0][0]
    if commonest == 1 and 3 in channels:
        commonest = 3
    return PixelFormat(commonest, widest_type(formats))
