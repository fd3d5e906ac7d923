"""The commands of the documentation at small size: the one place that says how they are changed, and which are not run.

`make_world` makes the folders that the pages name. A page runs in a copy of it, from top to bottom, so that a later
command finds what an earlier one has made.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from PIL import Image

from openmae.cli import main
from tests.documentation.pages import Line

SIDE = 32
# The network and the length of every training. A flag that is given there takes the value here.
BACKBONE = "vit_base_patch16_224"
ENCODER = {"--width": "32", "--depth": "2", "--heads": "2", "--patch-size": "8", "--image-size": str(SIDE)}
DECODER = {"--decoder-width": "32", "--decoder-depth": "1", "--decoder-heads": "2"}
LENGTH = {"--epochs": "1", "--warmup-epochs": "0", "--batch-size": "8", "--workers": "0"}
SUPERVISED = ENCODER | LENGTH
PRETRAINING = ENCODER | DECODER | LENGTH
OF_VERB = {
    "pretrain": PRETRAINING,
    "linear": SUPERVISED,
    "finetune": SUPERVISED,
    "plan": PRETRAINING | {"--trial-seconds": "0.1"},
}
# Values that stay as far as a small world permits.
VALUES = {
    "--image-size": {"224x448": f"{SIDE}x{2 * SIDE}", "448": str(2 * SIDE)},
    "--label-fraction": {"0.01": "0.5", "0.1": "0.5"},
    "--eval-every": {},
}
ADDRESS = re.compile(r"^(zoo:|hf://|https://).*")
LOCAL_WEIGHTS = "local-weights"
BUNDLED, FEW = "fashion-mnist", "few-of-fashion-mnist/"
PLACEHOLDERS = {"D": "photos/", "DST": "packed-d/", "RUN": "runs/run"}

# What no test runs, and why. Everything else runs, or the test fails. Their flags are checked all the same.
NOT_RUN: tuple[tuple[str, str], ...] = (
    (r"^torchrun ", "starts processes of its own; tests/training/processes does so"),
    (r"^openmae slurm ", "needs Slurm; tests/test_slurm.py has a stand-in"),
    (r" --devices \d+| --nodes \d+", "needs several devices; tests/training/processes has two processes"),
    (r"^openmae demo", "takes minutes; tests/reporting/test_demo.py runs it small"),
    (r"^openmae explore | --atlas", "serves a page until it is stopped"),
    (r" s3://", "needs a network; tests/data/sources/test_s3.py has a stand-in"),
    (r"photos\.onnx", "takes long; docs/production.md has an export that runs"),
    (r" --push ", "needs the Hugging Face hub; tests/weights/test_pushing.py has a stand-in"),
    (r"^openmae zoo \S+ --(fetch|log|check)", "needs a network; tests/weights and tests/reporting have a stand-in"),
    (r"^(make|pip|cd|python|pytest|sbatch|git|hf|tensorboard|export) ?", "not a command of this program"),
)


def reason_not_to_run(line: Line) -> str | None:
    """Why this command is not run; None if it is."""
    text = " ".join(line.words)
    return next((reason for pattern, reason in NOT_RUN if re.search(pattern, text)), None)


def small_command(words: tuple[str, ...]) -> list[str]:
    """The words behind `openmae`, with small values, and addresses replaced by local weights."""
    if words[:2] == ("pretrain", BUNDLED) and "--data" not in words:
        words = (*words, "--data", BUNDLED)
    flags = dict(OF_VERB.get(words[0], {}))
    if flags and words[1].startswith("vit-"):
        flags["--backbone"] = BACKBONE  # one for all of them
    if "adapt" in words[1:2]:  # takes its network from the weights
        flags = {name: value for name, value in flags.items() if name in LENGTH and name != "--warmup-epochs"}
    if "--recipe-file" in words:
        flags = {}
    if words[0] == "watch" and "--once" not in words:
        words = (*words, "--once")
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in flags or word in VALUES:
            value = next(rest)
            small = VALUES.get(word, {}).get(value, flags.pop(word, value))
            flags.pop(word, None)
            kept += [word, small]
        elif word == BUNDLED and kept[-1] in ("--data", "check"):
            kept.append(FEW)
        elif ADDRESS.match(word) and kept[-1] in ("--weights", "convert"):
            kept.append(LOCAL_WEIGHTS)
        else:
            kept.append(PLACEHOLDERS.get(word, word))
    return [*kept, *(part for flag in flags.items() for part in flag)]


def small_python(text: str) -> str:
    """The same for Python, where `PRETRAINING` and `SUPERVISED` hold the fields of small runs."""
    text = re.sub(r"(openmae\.pretrain\(\"[\w-]+\", )", r"\1**PRETRAINING, ", text)
    text = re.sub(r"(openmae\.(?:linear|finetune)\(\"[\w-]+\", )", r"\1**SUPERVISED, ", text)
    text = re.sub(r"\b(epochs|batch_size)=\d+(, )?", "", text)
    text = text.replace(
        'timm.create_model("vit_base_patch16_224", num_classes=0,',
        'timm.create_model("vit_tiny_patch16_224", num_classes=0, embed_dim=32, depth=2, num_heads=2, patch_size=8, '
        f"img_size={SIDE},",
    )
    return ADDRESS_IN_PYTHON.sub(f'"{LOCAL_WEIGHTS}"', text)


ADDRESS_IN_PYTHON = re.compile(r'"(zoo:|hf://)[^"]*"')


def fields(flags: dict[str, str]) -> dict[str, int]:
    """Flags as keyword arguments."""
    return {name.removeprefix("--").replace("-", "_"): int(value) for name, value in flags.items()}


def make_world(folder: Path, fashion: Path) -> None:
    """Images of each kind that the pages name, a pre-trained encoder and a classifier, made in the working folder.

    Args:
        folder: the working folder.
        fashion: Parquet files with a few of the bundled images.
    """
    shutil.copytree(fashion, folder / FEW)
    seeds = iter(range(1000))

    def picture(path: Path, height: int = 40, width: int = 48, level: int = 128) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(next(seeds))
        coarse = random.integers(level - 60, level + 60, (height // 8, width // 8, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((width, height)).save(path, quality=90)

    for index in range(8):
        picture(folder / "photos" / f"{index}.jpg")
        picture(folder / "wide" / f"{index}.jpg", 40, 80)
        picture(folder / "scans" / f"{index}.jpg")
    for name in ("some", "photo"):
        picture(folder / "photos" / f"{name}.jpg")
    picture(folder / "photo.jpg")
    for split, count in (("train", 8), ("test", 4)):
        for level, name in ((70, "cat"), (180, "dog")):
            for index in range(count):
                picture(folder / "labelled" / split / name / f"{index}.jpg", level=level)
    for name in ("a", "b"):
        picture(folder / "new" / f"{name}.jpg")
    for index in range(8):
        tile = np.random.default_rng(index).integers(0, 4000, (40, 40, 13)).astype(np.uint16)
        (folder / "tiles").mkdir(exist_ok=True)
        tifffile.imwrite(folder / "tiles" / f"{index}.tif", tile, photometric="minisblack", planarconfig="contig")
    (folder / "cifar10").mkdir()
    for split, count in (("train", 16), ("test", 8)):
        files = [folder / "labelled" / "train" / name / f"{index}.jpg" for index in range(8) for name in ("cat", "dog")]
        rows = [{"bytes": file.read_bytes(), "path": None} for file in files[:count]]
        table = pa.table({"image": rows, "label": [index % 2 for index in range(count)]})
        pq.write_table(table, folder / "cifar10" / f"{split}.parquet")
    run("pretrain", "vit-b16-800e", "--data", "photos/", "--out", "runs/photos")
    shutil.copytree("runs/photos", LOCAL_WEIGHTS)
    run("finetune", "vit-b16-800e", "--weights", "runs/photos", "--data", "labelled/", "--out", "runs/classes")


def run(*words: str) -> None:
    """Run a command at small size.

    Raises:
        AssertionError: when it ends with an error; what it printed is in the report of pytest.
    """
    small = small_command(words)
    try:
        code: int | str | None = main(small)
    except SystemExit as ended:  # tyro prints help and exits
        code = ended.code
    assert code == 0, f"openmae {' '.join(small)} ends with {code}"
