"""Check that another version of the code computes the same, bit for bit, on one machine.

    python benchmarks/unchanged.py record BEFORE          # with the old code
    python benchmarks/unchanged.py record AFTER           # with the new code
    python benchmarks/unchanged.py compare BEFORE AFTER   # with the new code, which also continues an old run

Runs every verb that computes on the bundled images: the demo, pre-training (in one go; stopped and continued; on two
processes), linear evaluation, fine-tuning, kNN, features and a picture. Compares every tensor, logged loss, figure,
feature and pixel. Takes about 12 minutes on two cores.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

COMMAND = [sys.executable, "-m", "openmae.cli"]
NETWORK = ["--width", "64", "--depth", "3", "--heads", "4"]
DECODER = ["--decoder-width", "32", "--decoder-depth", "1", "--decoder-heads", "2"]
PRETRAIN = ["pretrain", "fashion-mnist", *NETWORK, *DECODER, "--workers", "1", "--log-every", "10", "--epochs", "2"]
STOPPED = 75
# Figures about time and place, which differ from run to run.
VARYING = ("images_per_second", "waiting_for_data", "seconds", "out", "picture", "run", "weights")


def commands(folder: Path) -> dict[str, list[str]]:
    """The commands to run, in this order; each writes below `folder`."""
    weights = ["--weights", str(folder / "whole")]
    mixing = ["--epochs", "1", "--label-fraction", "0.1", "--mixup", "0.8", "--cutmix", "1", "--erasing", "0.25"]
    return {
        "whole": [*PRETRAIN, "--out", str(folder / "whole")],
        "two processes": [*PRETRAIN, "--devices", "2", "--out", str(folder / "two")],
        "knn": ["knn", *weights, "--data", "fashion-mnist", "--json"],
        "embed": ["embed", *weights, "--data", "fashion-mnist", "--out", str(folder / "features.parquet")],
        "picture": ["reconstruct", *weights, "--data", "fashion-mnist", "--out", str(folder / "picture.png")],
        "linear": [
            *["linear", "fashion-mnist", *NETWORK, *weights, "--data", "fashion-mnist", "--epochs", "1"],
            *["--warmup-epochs", "0.5", "--out", str(folder / "linear")],
        ],
        "cached": ["linear", "fashion-mnist", *NETWORK, *weights, "--cached", "--out", str(folder / "cached")],
        "finetune": ["finetune", "fashion-mnist", *NETWORK, *weights, *mixing, "--out", str(folder / "finetune")],
        "demo": ["demo", "--out", str(folder / "demo"), "--json"],
    }


def record(folder: Path) -> None:
    """Run all commands with the code that Python imports."""
    folder.mkdir(parents=True)
    stop_half_way(folder / "stopped")
    shutil.copytree(folder / "stopped", folder / "continued")
    run([*PRETRAIN, "--out", str(folder / "continued")], folder / "continued.txt")
    for name, command in commands(folder).items():
        run(command, folder / f"{name}.txt")


def run(command: list[str], output: Path) -> None:
    """Run one command and keep its standard output."""
    print(" ".join(command), flush=True)
    with output.open("w") as file:
        subprocess.run([*COMMAND, *command], stdout=file, check=True)


def stop_half_way(out: Path) -> None:
    """Start the pre-training, and stop it with SIGTERM once it has logged 200 steps."""
    process = subprocess.Popen([*COMMAND, *PRETRAIN, "--out", str(out)], start_new_session=True)
    metrics = out / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 20):
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGTERM)
    if (code := process.wait()) != STOPPED:
        raise SystemExit(f"a run that received SIGTERM ended with {code}")


def compare(before: Path, after: Path) -> int:
    """Print the differences, and return their number."""
    going_on = after / "continued by the new code"
    if not going_on.exists():
        shutil.copytree(before / "stopped", going_on)
        run([*PRETRAIN, "--out", str(going_on)], after / "going on.txt")
    pairs = [(before / name, after / name) for name in ("continued", "whole", "two", "linear", "cached", "finetune")]
    pairs += [(before / "demo" / path.name, after / "demo" / path.name) for path in sorted((before / "demo").iterdir())]
    pairs += [(before / "continued", going_on), (after / "continued", after / "whole")]
    pairs += [(before / name, after / name) for name in ("features.parquet", "picture.png", "knn.txt", "demo.txt")]
    differing = 0
    for old, new in pairs:
        one, other = dict(contents(old)), dict(contents(new))
        wrong = sorted(name for name in one if one[name] != other.get(name))
        added = sorted(other.keys() - one.keys())
        differing += len(wrong)
        verdict = f"DIFFER in {', '.join(wrong[:5])}" if wrong else "the same"
        more = f"; only in the second: {', '.join(added[:5])}" if added else ""
        print(f"{len(one):5} parts of {old} and {new}: {verdict}{more}")
    return differing


def contents(place: Path) -> Iterator[tuple[str, str]]:
    """The parts of a run folder or a file and their digests or values, without figures that vary."""
    import pyarrow.parquet as pq
    from safetensors import safe_open

    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    # Which older checkpoints are left depends on the clock.
    steps = sorted({file.parent.name for file in files if file.parent.name.startswith("step-")})
    files = [file for file in files if file.parent.name not in steps[:-1]]
    for file in files:
        name = file.name if place.is_file() else str(file.relative_to(place))
        if file.suffix == ".safetensors":
            with safe_open(file, framework="np") as tensors:
                for key in tensors.keys():  # noqa: SIM118
                    yield f"{name} {key}", digest(tensors.get_tensor(key).tobytes())
        elif file.suffix == ".parquet":
            table = pq.read_table(file)
            for column in table.column_names:
                yield f"{name} {column}", digest(str(table[column].to_pylist()).encode())
        elif file.suffix == ".png":
            yield name, digest(file.read_bytes())
        elif file.name in ("metrics.jsonl", "results.json") or (place.is_file() and file.suffix == ".txt"):
            text = file.read_text()
            records = (
                [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else [json.loads(text)]
            )
            for number, one in enumerate(records):
                for key, value in one.items():
                    if key not in VARYING:
                        yield f"{name} {number} {key}", repr(value)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("record").add_argument("folder", type=Path)
    comparing = verbs.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.verb == "record":
        record(arguments.folder)
        return 0
    return int(compare(arguments.before, arguments.after) > 0)


if __name__ == "__main__":
    sys.exit(main())
