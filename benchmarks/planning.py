"""What `openmae plan` predicts beside the real run, at three sizes: the table of docs/scaling.md.

    python benchmarks/planning.py [--rounds 3] [--seconds 30] [--together] [--only "ViT-S/16"]

Plan and run take turns, each in a process of its own as a user starts it. On a machine whose load changes from one
minute to the next that compares minutes, not commands: --together starts both at once. Predicted and real images/s are
those of the whole run: samples over the time of all steps, as metrics.jsonl has it. The whole command takes longer by
what stands in the column "besides": importing, opening the images, building the network, two checkpoints.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 375, 500
SMALL = "--decoder-depth 2 --decoder-heads 4 --warmup-epochs 0.5 --workers 1"
SIZES = {
    "the demo's network, 28 pixels": "fashion-mnist --split test --epochs 2 --warmup-epochs 0.5",
    "ViT-Tiny/16, 224 pixels": "vit-b16-300e --epochs 2 --batch-size 16 --log-every 1 "
    f"--backbone vit_tiny_patch16_224 --decoder-width 128 {SMALL}",
    "ViT-S/16, 224 pixels": "vit-b16-300e --epochs 1 --batch-size 8 --log-every 1 "
    f"--backbone vit_small_patch16_224 --decoder-width 256 {SMALL}",
}
PHOTOS = {"ViT-Tiny/16, 224 pixels": 128, "ViT-S/16, 224 pixels": 80}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30, help="of each trial")
    parser.add_argument("--together", action="store_true", help="plan and run at the same time")
    parser.add_argument("--only", default="", help="the sizes whose name contains this")
    options = parser.parse_args()
    sizes = {
        name: words
        for name, words in ((name, command.split()) for name, command in SIZES.items())
        if options.only in name
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sizes}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.rounds):
            for name, words in sizes.items():
                data = ["--data", str(photos(Path(folder), name))] if name in PHOTOS else []
                out = Path(folder, "run", str(turn), name.partition(",")[0].replace("/", "-"))
                planning = start(["plan", *words, *data, "--trial-seconds", str(options.seconds)])
                plan = None if options.together else result(planning)
                started = time.perf_counter()
                result(start(["pretrain", *words, *data, "--out", str(out)]))
                wall = time.perf_counter() - started
                plan = plan or result(planning)
                steps, samples = real(out)
                found[name].append(
                    {
                        "predicted": plan["here"]["images_per_second"],
                        "real": samples / steps,
                        "seconds": steps,
                        "besides": wall - steps,
                        "parameters": plan["network"]["parameters"],
                    }
                )
                print(name, found[name][-1], file=sys.stderr, flush=True)
    print("\n".join(table(found)))


def photos(folder: Path, name: str) -> Path:
    """A folder of JPEGs as large as ImageNet's, smooth with some noise; made once."""
    count = PHOTOS[name]
    place = folder / f"photos-{count}"
    if place.is_dir():
        return place
    place.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = smooth + random.integers(-12, 13, smooth.shape, dtype=np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(place / f"{number:04d}.jpg", quality=90)
    return place


def start(words: list[str]) -> subprocess.Popen[str]:
    """Start a command of ours."""
    command = [sys.executable, "-m", "openmae.cli", *words, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a command printed when it ended."""
    printed, messages = process.communicate()
    if process.returncode:
        raise SystemExit(messages)
    found: dict[str, Any] = json.loads(printed)
    return found


def real(out: Path) -> tuple[float, int]:
    """The seconds of all steps of a finished run, and its samples; metrics.jsonl has one decimal of images/s."""
    seconds, before = 0.0, 0
    for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "images_per_second" in record:
            seconds += (record["samples"] - before) / record["images_per_second"]
            before = record["samples"]
    return seconds, before


def table(found: dict[str, list[dict[str, float]]]) -> list[str]:
    rows = [
        "| | parameters | predicted images/s | real images/s | predicted / real | each round | the run | besides |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rounds in found.items():
        median = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        ratios = [one["predicted"] / one["real"] for one in rounds]
        rows.append(
            f"| {name} | {median['parameters'] / 1e6:.1f} M | {median['predicted']:.1f} | {median['real']:.1f} "
            f"| **{statistics.median(ratios):.2f}** | {', '.join(f'{ratio:.2f}' for ratio in ratios)} "
            f"| {median['seconds']:.0f} s | {median['besides']:.0f} s |"
        )
    return rows


if __name__ == "__main__":
    main()
