"""The tiny job that everything here is done to: 3 epochs over 48 small images, 36 steps, each logged and saved."""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.faults.zygote import Zygote

IMAGES, BATCH, EPOCHS = 48, 4, 3
STEPS = EPOCHS * IMAGES // BATCH
RECIPE = "fashion-mnist"
# The only place that knows the product's options.
NETWORK = (
    "--image-size 16 --width 32 --depth 2 --heads 2 --decoder-width 32 --decoder-depth 1 --decoder-heads 2 "
    f"--batch-size {BATCH} --crop-scale 0.4 1.0 --warmup-epochs 1"
).split()
EVERY_STEP = ["--log-every", "1", "--save-every", "1step"]
NOW_AND_THEN = ["--log-every", "20", "--save-every", "0.05min"]
KEEP = 3
METRICS, ENCODER, CHECKPOINTS, LOG = "metrics.jsonl", "encoder.safetensors", "checkpoints", "log.txt"
UNFINISHED = ".writing-*"
CLI = "openmae.cli:main"


def command(
    images: Path,
    out: Path,
    *,
    epochs: int = EPOCHS,
    workers: int = 0,
    keep: int = KEEP,
    saving: Sequence[str] = EVERY_STEP,
    more: Sequence[str] = (),
) -> list[str]:
    """The arguments of `openmae` that start this job, or continue it; `more` pairs of flag and value go first."""
    job = [*NETWORK, *saving, "--epochs", str(epochs), "--workers", str(workers), "--keep-last", str(keep)]
    for flag in more[::2]:
        if flag in job:
            place = job.index(flag)
            job[place : place + 2] = []
    return ["pretrain", RECIPE, "--data", str(images), "--out", str(out), *job, *more]


def write_images(folder: Path) -> Path:
    """48 grey pictures of 20x20 pixels: waves, so that there is something to learn."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[0:20, 0:20] / 20
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        fx, fy, phase = generator.uniform(1, 12, 3)
        picture = 128 + 80 * np.sin(fx * x + fy * y + phase) + generator.normal(0, 12, (20, 20))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02d}.png")
    return folder


class Trace(NamedTuple):
    """What a finished run says it did: every line of its log in order, and the weights."""

    losses: tuple[tuple[int, str], ...]
    weights: str


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One trainer at the tiny job, as the kill test sees it.

    Args:
        name: for people.
        target: what a child calls, "module:function".
        arguments: of it, given the run folder; the same ones continue the run.
        weights: the file of the final weights in the run folder.
        unfinished: what is there of saves that are under way or were cut short, and when it was last touched.
        saved: the newest step that is saved completely, 0 for none.
        starts: the step that each attempt to train started from, as far as it came to that.
        settings: how it was used, for the report.
    """

    name: str
    target: str
    arguments: Callable[[Path], list[str]]
    weights: str
    unfinished: Callable[[Path], frozenset[tuple[str, int]]]
    saved: Callable[[Path], int]
    starts: Callable[[Path], list[int]]
    settings: str


def openmae(images: Path) -> Contender:
    def starts(out: Path) -> list[int]:
        told = (out / LOG).read_text() if (out / LOG).exists() else ""
        attempts = told.split(" pre-training ")[1:]
        steps = [re.search(r"continuing from step (\d+)", attempt) for attempt in attempts]
        return [int(step[1]) if step else 0 for step in steps]

    return Contender(
        name="OpenMAE",
        target=CLI,
        arguments=lambda out: command(images, out),
        weights=ENCODER,
        unfinished=lambda out: touched((out / CHECKPOINTS).glob(UNFINISHED)),
        saved=lambda out: max(
            (int(path.parent.name.removeprefix("step-")) for path in (out / CHECKPOINTS).glob("step-*/manifest.json")),
            default=0,
        ),
        starts=starts,
        settings="saved and logged every step",
    )


def touched(paths: Iterable[Path]) -> frozenset[tuple[str, int]]:
    """These paths, as far as they still exist, and when each was last changed."""
    found = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_ctime_ns))
    return frozenset(found)


def losses(out: Path) -> list[tuple[int, str]]:
    """The step and the loss, digit for digit, of each complete line of the log."""
    lines = (out / METRICS).read_text(errors="replace").splitlines() if (out / METRICS).exists() else []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # cut short by a kill
        if isinstance(record, dict) and "loss" in record:
            found.append((int(record["step"]), repr(float(record["loss"]))))
    return found


def trace(out: Path, weights: str = ENCODER) -> Trace:
    return Trace(tuple(losses(out)), sha256(out / weights))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tensors_sha256(path: Path) -> str:
    """Of a safetensors file without its metadata, which hold the recipe: numbers of loader processes and all."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header.pop("__metadata__", None)
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + content[end:]).hexdigest()


def uninterrupted(zygote: Zygote, contender: Contender, folder: Path, *, hooks: tuple[str, ...] = ()) -> Trace:
    """The trace of a run that is left alone."""
    out, log = folder / "uninterrupted", folder / "uninterrupted.log"
    code = zygote.run(contender.target, contender.arguments(out), log=log, hooks=hooks)
    if code:
        raise RuntimeError(
            f"{contender.name} ended with {code} though nothing was done to it: {log.read_text()[-2000:]}"
        )
    return trace(out, contender.weights)
