"""Images to samples to batches; (seed, epoch, image index) decides everything random."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from openmae.data.decoding import (
    AS_USUAL,
    BadImage,
    PixelFormat,
    Pixels,
    Reading,
    Scratch,
    open_image,
    why_unreadable,
)
from openmae.data.memory import shared_memory
from openmae.data.pixel_cache import PixelCache
from openmae.data.randomness import Stream, random_stream
from openmae.data.sources import Source
from openmae.data.targets import SeenTargets, View
from openmae.data.transforms import Box, Crop, Transform
from openmae.errors import UserError

REPLACEMENT_ATTEMPTS = 20
SCRATCH = Scratch()


class BadRecord(NamedTuple):
    """An image that could not be decoded: its index in the source, its name and the reason."""

    image: int
    name: str
    reason: str


class Batch(NamedTuple):
    """One batch of the loader.

    `images` [B, C, H, W] uint8, uint16 or float32 (channels last in memory), `targets` (classes [B] int64, labels
    [B, L] float32, numbers [B] float32, or masks [B, H, W] int64; None without targets), `uniform` [B, N] float32
    numbers in 0 … 1 from which masks are made and paths dropped, `indices` [B] int64 into the source, a seed for each
    view, from which the device draws, and the images that were `bad`.
    """

    images: Tensor
    targets: Tensor | None
    uniform: Tensor
    indices: Tensor
    seeds: list[int]
    """Plain numbers: generators are seeded by the host, which would have to wait for a device to read them from it."""
    bad: list[BadRecord]


class Sample(NamedTuple):
    """One image on its way into a batch, once or cropped and masked several times.

    `views` [H, W, C], `targets`, `uniform` [N] and `seeds`, one each; none when the image was bad and may not be
    replaced. `targets` is None for a data set without targets.
    """

    views: list[Pixels]
    targets: list[NDArray[Any]] | None
    uniform: list[NDArray[np.float32]]
    seeds: list[int]
    image: int
    bad: list[BadRecord]


class Cut(NamedTuple):
    """The views of one image, [H, W, C], and their targets, if the data set has targets."""

    views: list[Pixels]
    targets: list[NDArray[Any]] | None


@dataclass(frozen=True, kw_only=True)
class SeededImages(Dataset[Sample]):
    """Samples addressed by (epoch, index).

    Args:
        source: where the bytes come from.
        transform: what is done to the pixels.
        format: channels and type of the pixels.
        reading: how files are read where they leave it open.
        targets: of the images of `source`; None when they are not needed.
        seed: of everything random.
        uniform: the number of uniform random numbers for each view.
        repeats: how many views are made of each decoded image.
        cache: of decoded pixels, if there is one.
        replace_bad: exchange an unreadable image for another, chosen by (seed, epoch, index), as training needs; when
            False the sample comes without pixels, so that measurements count only real images.
    """

    source: Source
    transform: Transform
    format: PixelFormat
    reading: Reading = AS_USUAL
    targets: SeenTargets | None = None
    seed: int = 0
    uniform: int = 0
    repeats: int = 1
    cache: PixelCache | None = None
    replace_bad: bool = True

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        bad: list[BadRecord] = []
        cut, used = self._cut(index, key, bad), index
        if cut is None and self.replace_bad:
            candidates = random_stream(self.seed, Stream.REPLACEMENT, epoch=epoch, index=index)
            for _ in range(REPLACEMENT_ATTEMPTS):
                used = int(candidates.integers(len(self.source)))
                cut = self._cut(used, key, bad)
                if cut is not None:
                    break
            else:
                raise UserError(
                    f"{len(bad)} images in a row cannot be decoded, the last one {bad[-1].name} ({bad[-1].reason}); "
                    "look at the files before training on them"
                )
        views, targets = cut if cut is not None else Cut([], None if self.targets is None else [])
        streams = [self._stream(Stream.MASK, key, repeat) for repeat in range(len(views))]
        uniform = [stream.random(self.uniform, dtype=np.float32) for stream in streams]
        seeds = [int(stream.integers(2**63)) for stream in streams]
        return Sample(views, targets, uniform, seeds, used, bad)

    def _cut(self, image: int, key: tuple[int, int], bad: list[BadRecord]) -> "Cut | None":
        """The views that `key` asks for, of that image; None, and a record of why, when it is bad."""

        def plan(height: int, width: int) -> list[Crop]:
            return [
                self.transform.plan(height, width, self._stream(Stream.AUGMENTATION, key, repeat))
                for repeat in range(self.repeats)
            ]

        pixels = self.cache.get(image) if self.cache is not None else None
        if pixels is not None:
            height, width = pixels.shape[:2]
            crops = plan(height, width)
        else:
            try:
                opened = open_image(self.source.read(image), self.reading)
                height, width = opened.height, opened.width
                crops = plan(height, width)
                pixels = opened.decode(self.format, shrink=min(map(self.transform.shrink, crops)), scratch=SCRATCH)
            except (BadImage, OSError) as error:
                bad.append(BadRecord(image, self.source.name(image), why_unreadable(error)))
                return None
            # An image that another crop may decode smaller is not cached: pixels would depend on which crop came first.
            whole = Crop(Box(0, 0, width, height))
            if self.cache is not None and not (opened.shrinks and self.transform.shrink(whole) > 1):
                self.cache.put(image, pixels)
        views = [self.transform.cut(pixels, crop, height, width) for crop in crops]
        # A view that is only a slice of `pixels` lies in memory that the next image may overwrite.
        views = [view.copy() if np.may_share_memory(view, pixels) else view for view in views]
        if self.targets is None:
            return Cut(views, None)
        return Cut(views, self.targets.of_views(image, [View(self.transform, crop, height, width) for crop in crops]))

    def _stream(self, stream: Stream, key: tuple[int, int], repeat: int) -> np.random.Generator:
        return random_stream(self.seed, stream, epoch=key[0], index=key[1], repeat=repeat)


def collate(samples: list[Sample]) -> Batch:
    """Stack the views of all samples into a batch; a bad image has none."""
    counts = [len(sample.views) for sample in samples]
    views = [view for sample in samples for view in sample.views]
    uniform = [row for sample in samples for row in sample.uniform]
    shape = (len(views), *views[0].shape) if views else (0, 0, 0, 0)
    stacked = np.empty(shape, views[0].dtype if views else np.uint8)
    for place, view in zip(stacked, views, strict=True):
        place[:] = view
    batch = Batch(
        images=torch.from_numpy(stacked).permute(0, 3, 1, 2),
        targets=_stacked_targets(samples),
        uniform=torch.from_numpy(np.stack(uniform) if uniform else np.empty((0, 0), dtype=np.float32)),
        indices=torch.tensor(np.repeat([sample.image for sample in samples], counts), dtype=torch.int64),
        seeds=[seed for sample in samples for seed in sample.seeds],
        bad=[record for sample in samples for record in sample.bad],
    )
    return batch if get_worker_info() is None else Batch(*map(_to_be_sent, batch))


def _stacked_targets(samples: list[Sample]) -> Tensor | None:
    """The targets of all views; None where the samples have none."""
    if any(sample.targets is None for sample in samples):
        return None
    targets = [target for sample in samples for target in sample.targets or ()]
    return torch.from_numpy(np.stack(targets)) if targets else torch.empty(0)


def _to_be_sent(part: Any) -> Any:
    """A part of a batch as a worker sends it: a tensor is copied to our shared memory, or torch would use its own."""
    if not isinstance(part, Tensor):
        return part
    return shared_memory(part.numel(), dtype=part.dtype).as_strided(part.shape, part.stride()).copy_(part)
