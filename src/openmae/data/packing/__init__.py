"""`openmae pack`: a data set as tar shards of images that are no larger than training needs.

The same command starts a stopped pack anew: packing.json marks the files in its folder as those of an unfinished pack,
and they are deleted.
"""

import contextlib
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from openmae.data.decoding import BadImage, PixelFormat, why_unreadable
from openmae.data.packing.reencoding import PackSettings, Reencoded, reencode
from openmae.data.packing.shard_writing import UNSAFE, ShardWriter, member_name, size_in_tar
from openmae.data.packing.speed import decoding_speeds
from openmae.data.sources import UNLABELLED, Data, Source, classes_if_any, open_data
from openmae.data.sources.packed_notes import PACKED_FILE, UNFINISHED_FILE
from openmae.data.sources.storage import is_remote
from openmae.data.sources.taking import everything, for_pretraining, record_of_all
from openmae.data.statistics import measure, sample, widest_type
from openmae.errors import UserError
from openmae.files import TEMPORARY_PREFIX, write_text
from openmae.reporter import say

MEGABYTE = 1_000_000
BAD_FILE = "bad_images.jsonl"
CHUNK = 16  # images that a worker sends at once
SIZE_SAMPLE = 48
# Allows for the error of estimating the size from a sample.
MARGIN = 1.2


class Outcome(NamedTuple):
    """The result of one image: its index in the source, its bytes before, and what to pack, or the reason why not."""

    image: int
    bytes_before: int
    packed: Reencoded | None
    reason: str = ""


class PackResult(TypedDict):
    """The packed set, and how much faster it decodes."""

    images: int
    bad: int
    bytes_before: int
    bytes_after: int
    seconds: float
    images_per_second: dict[str, float]
    """Of the "source" and of the "packed" set, decoded and cropped."""
    speedup: float
    data: dict[str, Any]
    """The splits with their numbers of images, and what was left out."""
    out: str


@dataclass
class Tally:
    """The totals of all images so far."""

    images: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    formats: Counter[PixelFormat] = field(default_factory=Counter)
    bad: list[dict[str, Any]] = field(default_factory=list)


def pack(
    data: Data,
    destination: str,
    settings: PackSettings,
    *,
    source: str | tuple[str, ...],
    shard_megabytes: int = 500,
    workers: int = 0,
    show: Callable[[int], None] = lambda _: None,
) -> PackResult:
    """Write all images of a data set to shards in the folder `destination`.

    The shards are the same for any number of `workers`. `show` receives the number of images done; `source` is written
    to packed.json.

    Raises:
        UserError: when the folder holds other files, too little space is free, or no image can be decoded.
    """
    started = time.monotonic()
    if shard_megabytes < 1:
        raise UserError(f"--shard-size is {shard_megabytes} MB; give 1 or more, such as 500")
    splits = dict(data.splits)
    prefixes = _prefixes(splits)
    folder = _prepare_folder(destination)
    _require_space(splits, settings, folder)
    how = {name: value for name, value in asdict(settings).items() if name != "reading"}
    notes = {"source": source, **how, "shard_megabytes": shard_megabytes}
    notes["splits"] = {prefix: split for split, prefix in prefixes.items()}
    (folder / UNFINISHED_FILE).write_text(json.dumps(notes), encoding="utf-8")
    tally = Tally()
    classes = {split: classes_if_any(images) for split, images in splits.items()}
    say(everything(data, classes))
    names = tuple(dict.fromkeys(name for targets in classes.values() for name in targets.names))
    number_of = {name: number for number, name in enumerate(names)}
    for split, images in splits.items():
        writer = ShardWriter(folder, prefixes[split], shard_megabytes * MEGABYTE)
        numbers = np.array([*(number_of[name] for name in classes[split].names), UNLABELLED])
        before = tally.images
        with writer:
            for name, outcome in _named(images, settings, workers):
                _add(writer, tally, images, numbers[classes[split].values], split, name, outcome)
                show(tally.images + len(tally.bad))
        tally.bytes_after += writer.bytes
        if tally.images == before:
            why = tally.bad[-1]["reason"]
            raise UserError(f"no image of the {split} split can be decoded ({why}); `openmae check` shows them all")
    if tally.bad:
        lines = "".join(json.dumps(record) + "\n" for record in tally.bad)
        (folder / BAD_FILE).write_text(lines, encoding="utf-8")

    wanted = PixelFormat(tally.formats.most_common(1)[0][0].channels, widest_type(tally.formats))
    notes |= {"classes": names, "channels": wanted.channels, "pixel_type": wanted.kind, "images": tally.images}
    write_text(folder / PACKED_FILE, json.dumps(notes, indent=1))
    packed = for_pretraining(open_data(str(folder))).images
    write_text(folder / PACKED_FILE, json.dumps({**notes, "statistics": _statistics(packed, wanted)}, indent=1))
    (folder / UNFINISHED_FILE).unlink()

    seconds = time.monotonic() - started
    speeds = decoding_speeds({"source": for_pretraining(data).images, "packed": packed}, wanted)
    return {
        "images": tally.images,
        "bad": len(tally.bad),
        "bytes_before": tally.bytes_before,
        "bytes_after": tally.bytes_after,
        "seconds": round(seconds, 2),
        "images_per_second": {name: round(speed, 1) for name, speed in speeds.items()},
        "speedup": round(speeds["packed"] / speeds["source"], 2),
        "data": record_of_all(data, classes),
        "out": destination,
    }


def _prepare_folder(destination: str) -> Path:
    """Create the folder to write to, or empty it of an unfinished pack."""
    if is_remote(destination):
        raise UserError(f"{destination} is a URL; pack to a local folder, then upload it")
    folder = Path(destination).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise UserError(
            f"cannot write to {destination} ({error.strerror}); give a folder that you may write"
        ) from error
    if found and UNFINISHED_FILE not in found:
        what = "a packed set already" if PACKED_FILE in found else f"other files ({', '.join(found[:3])})"
        raise UserError(f"{destination} holds {what}; give a new folder, or delete this one")
    own = _own_files(folder) if found else re.compile("")
    if others := [name for name in found if not own.fullmatch(name)]:
        raise UserError(f"{destination} holds other files ({', '.join(others[:3])}); give a new folder")
    # packing.json is deleted last: until then it marks the rest as files of an unfinished pack.
    for name in sorted(found, key=lambda name: name == UNFINISHED_FILE):
        (folder / name).unlink()
    return folder


def _prefixes(splits: Iterable[str]) -> dict[str, str]:
    """How the names of each split's shards begin: as the split, as far as names of files may."""
    prefixes: dict[str, str] = {}
    for split in splits:
        wanted = prefix = UNSAFE.sub("_", split)
        number = 1
        while prefix in prefixes.values():
            number += 1
            prefix = f"{wanted}_{number}"
        prefixes[split] = prefix
    return prefixes


def _own_files(folder: Path) -> re.Pattern[str]:
    """The files that an unfinished pack wrote. Its notes say which splits it packed."""
    prefixes = {"train", "test"}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        prefixes |= set(json.loads((folder / UNFINISHED_FILE).read_text(encoding="utf-8"))["splits"])
    shards = "|".join(map(re.escape, sorted(prefixes)))
    return re.compile(rf"({TEMPORARY_PREFIX})?(({shards})-\d{{6}}\.tar|{PACKED_FILE})|{UNFINISHED_FILE}|{BAD_FILE}")


def _require_space(splits: dict[str, Source], settings: PackSettings, folder: Path) -> None:
    """Raise UserError when the shards, estimated from a sample of the images, do not fit on the disk."""
    needed = 0.0
    for images in splits.values():
        outcomes = (_reencode(images, index, settings) for index in sample(len(images), SIZE_SAMPLE))
        sizes = [size_in_tar(len(outcome.packed.data)) for outcome in outcomes if outcome.packed is not None]
        needed += MARGIN * len(images) * float(np.mean(sizes or [0]))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"about {needed / 1e9:,.1f} GB would be written to {folder} where {free / 1e9:,.1f} GB are free; "
            "choose another disk, or a smaller --short-side or --quality"
        )


class Reencodings(Dataset[Outcome]):
    """The images of a source, encoded for packing."""

    def __init__(self, source: Source, settings: PackSettings) -> None:
        self.source = source
        self.settings = settings

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Outcome:
        return _reencode(self.source, index, self.settings)


def _reencode(source: Source, index: int, settings: PackSettings) -> Outcome:
    try:
        data = source.read(index)
        return Outcome(index, len(data), reencode(data, settings))
    except (BadImage, OSError) as error:
        return Outcome(index, 0, None, why_unreadable(error))


def _uncollated(outcomes: list[Outcome]) -> list[Outcome]:
    return outcomes


def _named(source: Source, settings: PackSettings, workers: int) -> Iterator[tuple[str, Outcome]]:
    """Every image in the order of the source, under a unique name."""
    loader: DataLoader[Outcome] = DataLoader(
        Reencodings(source, settings), batch_size=CHUNK, num_workers=workers, collate_fn=_uncollated
    )
    taken: set[str] = set()
    for outcomes in loader:
        for outcome in outcomes:
            wanted = name = member_name(source.name(outcome.image))
            number = 1
            while name in taken:
                number += 1
                name = f"{wanted}-{number}"
            taken.add(name)
            yield name, outcome


def _add(
    writer: ShardWriter,
    tally: Tally,
    source: Source,
    classes: NDArray[np.int64],
    split: str,
    name: str,
    outcome: Outcome,
) -> None:
    if outcome.packed is None:
        record = {"split": split, "image": outcome.image, "name": source.name(outcome.image), "reason": outcome.reason}
        tally.bad.append(record)
        return
    members = {f"{name}.{outcome.packed.extension}": outcome.packed.data}
    if classes[outcome.image] != UNLABELLED:
        members[f"{name}.cls"] = str(int(classes[outcome.image])).encode()
    writer.add(members)
    tally.images += 1
    tally.bytes_before += outcome.bytes_before
    tally.formats[outcome.packed.stored] += 1


def _statistics(packed: Source, wanted: PixelFormat) -> dict[str, Any] | None:
    """Mean and deviation for packed.json; None when no image of the sample can be read in the commonest format."""
    try:
        return measure(packed, wanted)._asdict()
    except UserError:
        return None
