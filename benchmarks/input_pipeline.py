"""Images per second that one core decodes, crops and flips into uint8 batches: ours beside what others use.

    python benchmarks/input_pipeline.py --data PHOTOGRAPHS [--rounds 7] [--batch 64] [--out docs]

PHOTOGRAPHS is a folder of images at any depth, read in full as one unlabelled set. Everything runs in one process and
one thread. In a round every contender passes over all images once; the order of contenders rotates, and the first round
only warms up. Both wall and CPU time are measured: other work on the machine disturbs CPU time less. Contenders whose
package is missing are listed as not measured (`pip install 'openmae[bench]'`). Writes OUT/input_pipeline.json, and
tables between the markers in OUT/performance.md.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from openmae.data import workers as loader_workers
from openmae.data.batches import Batch, SeededImages, collate
from openmae.data.decoding import PixelFormat, Scratch, open_image
from openmae.data.packing import pack
from openmae.data.packing.reencoding import PackFormat, PackSettings
from openmae.data.randomness import Stream, random_stream
from openmae.data.sampling import StepSampler
from openmae.data.sources import Data, Source, open_data
from openmae.data.transforms import TrainTransform
from openmae.data.workers import training_loader

SIDE, SCALE = 224, (0.2, 1.0)
BASELINE = "torchvision ImageFolder + Pillow, uint8"
PACKAGES = ("torch", "torchvision", "pillow", "simplejpeg", "numpy", "opencv-python-headless", "datasets")
BEGIN, END = "<!-- input_pipeline: begin -->", "<!-- input_pipeline: end -->"

Pass = Callable[[int], int]
"""One pass over all images, given its number; returns how many images came out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of photographs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--loader-images", type=int, default=3000, help="how many each setting of the loader is timed on"
    )
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = open_data(options.data).train
    with tempfile.TemporaryDirectory() as scratch:
        contenders, missing = prepare(Path(options.data).resolve(), source, Path(scratch), options.batch)
        speeds = measure(contenders, options.rounds, len(source))
        result = {
            "date": str(date.today()),
            "machine": machine(),
            "images": len(source),
            "rounds": options.rounds,
            "batch": options.batch,
            "images_per_second": speeds,
            "not_measured": missing,
            "stages": stages(source),
            "psnr_of_fast": psnr(source),
            "loaders": loaders(source, options.batch, images=options.loader_images),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "input_pipeline.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    put_between_markers(options.out / "performance.md", markdown(result))
    print(markdown(result))


# The contenders


def prepare(folder: Path, source: Source, scratch: Path, batch: int) -> tuple[dict[str, Pass], dict[str, str]]:
    """Every contender by its name, and the reasons why others are not measured."""
    packed = {}
    formats: tuple[PackFormat, ...] = ("jpeg", "raw")
    for format_ in formats:
        place = str(scratch / format_)
        pack(Data(splits={"train": source}), place, PackSettings(format=format_), source=str(folder))
        packed[format_] = open_data(place).train
    root = scratch / "root"
    root.mkdir()
    (root / "all").symlink_to(folder)  # ImageFolder wants classes
    contenders = {
        "openmae, --decode fast": ours(source, batch),
        "openmae, --decode exact": ours(source, batch, exact=True),
        "openmae, packed (JPEG 288, quality 90)": ours(packed["jpeg"], batch),
        "openmae, packed raw (288)": ours(packed["raw"], batch),
        BASELINE: image_folder(root, batch, [transforms.PILToTensor()]),
        "the reference's whole transform (ToTensor, Normalize: float32)": image_folder(
            root, batch, [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
        ),
    }
    missing = {}
    try:
        contenders["OpenCV, INTER_CUBIC (not antialiased)"] = open_cv(root, batch, "INTER_CUBIC")
        contenders["OpenCV, INTER_AREA"] = open_cv(root, batch, "INTER_AREA")
    except ImportError as error:
        missing["OpenCV"] = str(error)
    try:
        contenders["Hugging Face datasets + torchvision, uint8"] = hugging_face(folder, scratch, batch)
    except ImportError as error:
        missing["Hugging Face datasets"] = str(error)
    return contenders, missing


def ours(source: Source, batch: int, *, exact: bool = False) -> Pass:
    transform = TrainTransform(size=(SIDE, SIDE), crop_scale=SCALE, exact=exact)
    images = SeededImages(source=source, transform=transform, format=PixelFormat(), replace_bad=False)

    def run(number: int) -> int:
        keys = [(number, index) for index in range(len(source))]
        batches = [keys[start : start + batch] for start in range(0, len(keys), batch)]
        # As in data/workers.py: the loader is typed by samples, of which collate makes batches.
        loader = DataLoader(images, batch_sampler=batches, collate_fn=collate)  # type: ignore[arg-type, var-annotated]
        return sum(len(part.images) for part in loader)

    return run


def crop_and_flip() -> list[Any]:
    crop = transforms.RandomResizedCrop(SIDE, SCALE, interpolation=transforms.InterpolationMode.BICUBIC)
    return [crop, transforms.RandomHorizontalFlip()]


def image_folder(root: Path, batch: int, last: list[Any]) -> Pass:
    images = ImageFolder(str(root), transforms.Compose([*crop_and_flip(), *last]))
    return lambda _: sum(len(part) for part, _ in DataLoader(images, batch_size=batch))


class OpenCVImages(Dataset[torch.Tensor]):
    """A usual data set with OpenCV: the box is torchvision's, the pixels are OpenCV's."""

    def __init__(self, files: list[str], interpolation: str) -> None:
        import cv2

        cv2.setNumThreads(1)
        self.cv2, self.files, self.interpolation = cv2, files, getattr(cv2, interpolation)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        cv2 = self.cv2
        whole = cv2.imread(self.files[index])
        shape = torch.empty(0, *whole.shape[:2])  # torchvision asks a tensor for its size
        top, left, height, width = transforms.RandomResizedCrop.get_params(shape, list(SCALE), [3 / 4, 4 / 3])
        pixels = cv2.resize(
            whole[top : top + height, left : left + width], (SIDE, SIDE), interpolation=self.interpolation
        )
        if torch.rand(1) < 0.5:
            pixels = cv2.flip(pixels, 1)
        return torch.from_numpy(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)).permute(2, 0, 1)


def open_cv(root: Path, batch: int, interpolation: str) -> Pass:
    images = OpenCVImages([file for file, _ in ImageFolder(str(root)).samples], interpolation)
    return lambda _: sum(len(part) for part in DataLoader(images, batch_size=batch))


def hugging_face(folder: Path, scratch: Path, batch: int) -> Pass:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets

    datasets.disable_progress_bars()
    images = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), cache_dir=str(scratch / "cache"), drop_labels=True, split="train"
    )
    transform = transforms.Compose([*crop_and_flip(), transforms.PILToTensor()])
    images.set_transform(lambda rows: {"image": [transform(image.convert("RGB")) for image in rows["image"]]})
    return lambda _: sum(len(part["image"]) for part in DataLoader(images, batch_size=batch))


# Measurements


def measure(contenders: dict[str, Pass], rounds: int, images: int) -> dict[str, dict[str, dict[str, float]]]:
    """Images per second of every contender, by the wall clock and by the processor's: median, least, most, ratio."""
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    rates: dict[str, dict[str, list[float]]] = {name: {clock: [] for clock in clocks} for name in contenders}
    names = list(contenders)
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            started = {clock: read() for clock, read in clocks.items()}
            done = contenders[name](number)
            spent = {clock: read() - started[clock] for clock, read in clocks.items()}
            if done != images:
                raise SystemExit(f"{name} gave {done} images of {images}; give a folder in which none is broken")
            if number:  # the first round warms up
                for clock, seconds in spent.items():
                    rates[name][clock].append(images / seconds)
    return {
        name: {
            clock: {
                "median": round(statistics.median(values), 1),
                "min": round(min(values), 1),
                "max": round(max(values), 1),
                "ratio": round(statistics.median(values) / statistics.median(rates[BASELINE][clock]), 2),
            }
            for clock, values in by_clock.items()
        }
        for name, by_clock in rates.items()
    }


def stages(source: Source) -> dict[str, float]:
    """Milliseconds of each stage of one image, one after the other as in the loader; medians over all images.

    JPEG decoding at an eighth of the size is almost only entropy decoding, which no scale can avoid.
    """
    transform, scratch = TrainTransform(size=(SIDE, SIDE), crop_scale=SCALE), Scratch()
    batch = np.empty((len(source), SIDE, SIDE, 3), np.uint8)
    taken: dict[str, list[float]] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        taken.setdefault(stage, []).append(1000 * (time.perf_counter() - began))
        return result

    for index in range(len(source)):
        data = timed("read", lambda index=index: source.read(index))
        image = timed("header", lambda data=data: open_image(data))
        rng = timed("random numbers", lambda index=index: random_stream(0, Stream.AUGMENTATION, index=index))
        crop = transform.plan(image.height, image.width, rng)
        timed("decoding at 1/8", lambda image=image: image.decode(PixelFormat(), shrink=8, scratch=scratch))
        timed("decoding into fresh memory", lambda image=image: image.decode(PixelFormat()))
        pixels = timed("decoding", lambda image=image: image.decode(PixelFormat(), scratch=scratch))
        view = timed("crop, resize, flip", lambda p=pixels, c=crop, i=image: transform.cut(p, c, i.height, i.width))
        timed("stacking", lambda index=index, view=view: np.copyto(batch[index], view))
    return {stage: round(statistics.median(times), 3) for stage, times in taken.items()}


def psnr(source: Source) -> dict[str, float]:
    """PSNR of `--decode fast` against exact, over the same crops, in dB."""
    sets = [
        SeededImages(
            source=source,
            transform=TrainTransform(size=(SIDE, SIDE), crop_scale=SCALE, exact=exact),
            format=PixelFormat(),
        )
        for exact in (False, True)
    ]
    values = []
    for index in range(len(source)):
        fast, exact = (images[0, index].views[0].astype(np.float64) for images in sets)
        values.append(10 * np.log10(255**2 / max(np.square(fast - exact).mean(), 1e-9)))
    return {"median": round(float(np.median(values)), 1), "5th percentile": round(float(np.percentile(values, 5)), 1)}


def loaders(source: Source, batch: int, *, images: int, rounds: int = 3) -> list[dict[str, Any]]:
    """Images per second that arrive from `training_loader` in a process that does nothing else, by the wall clock.

    Starting the workers is not counted: the clock starts at the first batch.
    """
    transform = TrainTransform(size=(SIDE, SIDE), crop_scale=SCALE)
    dataset = SeededImages(source=source, transform=transform, format=PixelFormat(), uniform=196)
    batch = min(batch, len(source))
    settings = [(0, 0), *((workers, prefetch) for workers in (1, 2) for prefetch in (2, 4, 8))]
    rates: dict[tuple[int, int], list[float]] = {setting: [] for setting in settings}
    usual = loader_workers.PREFETCHED_BATCHES
    for number in range(rounds):
        for workers, prefetch in settings[number:] + settings[:number]:
            loader_workers.PREFETCHED_BATCHES = prefetch
            sampler = StepSampler(
                images=len(source), batch_size=batch, seed=number, first_step=0, last_step=images // batch + 1
            )
            arriving = iter(training_loader(dataset, sampler, workers=workers, pin_memory=False))
            rates[workers, prefetch].append(rate(arriving))
    loader_workers.PREFETCHED_BATCHES = usual
    return [
        {"workers": workers, "prefetch": prefetch, "images_per_second": round(statistics.median(values), 1)}
        for (workers, prefetch), values in rates.items()
    ]


def rate(batches: Iterator[Batch]) -> float:
    next(batches)
    started, images = time.perf_counter(), 0
    for part in batches:
        images += len(part.images)
    return images / (time.perf_counter() - started)


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "packages": versions,
    }


# Results


def markdown(result: dict[str, Any]) -> str:
    """The tables, for people."""
    computer = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in computer["packages"].items())
    lines = [
        f"Measured on {result['date']}: {computer['processor']}, {computer['cores']} cores, load "
        f"{computer['load_before']:.1f}; {versions}. {result['images']} photographs, {result['rounds']} rounds, "
        f"batches of {result['batch']}, one process, one thread.",
        "",
        "| images per second per core | by CPU time: median (least–most) | ratio | by wall time: median (least–most) "
        "| ratio |",
        "|---|---|---|---|---|",
    ]
    for name, clocks in result["images_per_second"].items():
        cells = [
            f"{by['median']:,.0f} ({by['min']:,.0f}–{by['max']:,.0f}) | {by['ratio']:.2f}"
            for by in (clocks["cpu"], clocks["wall"])
        ]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    lines += [f"| {name} | not measured: {reason} | | | |" for name, reason in result["not_measured"].items()]
    fast = result["psnr_of_fast"]
    lines += [
        "",
        f"`--decode fast` against exact, over the same crops: PSNR {fast['median']} dB (median), "
        f"{fast['5th percentile']} dB (5th percentile).",
        "",
        "| stage of one photograph | milliseconds, median |",
        "|---|---|",
        *(f"| {stage} | {time:.2f} |" for stage, time in result["stages"].items()),
        "",
        "| workers | prefetched batches each | images per second |",
        "|---|---|---|",
        *(
            f"| {row['workers']} | {row['prefetch'] or '–'} | {row['images_per_second']:,.0f} |"
            for row in result["loaders"]
        ),
    ]
    return "\n".join(lines)


def put_between_markers(file: Path, text: str) -> None:
    """Replace the text between the markers of a file; a missing file is created."""
    before = file.read_text(encoding="utf-8") if file.is_file() else f"# Performance\n\n{BEGIN}\n{END}\n"
    if BEGIN not in before or END not in before:
        raise SystemExit(f"{file} has no lines {BEGIN} and {END}; add them where the tables belong")
    head, rest = before.split(BEGIN, 1)
    file.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
