"""The same run on several numbers of processes: real ones, that talk through gloo."""

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from tests.faults.processes import start_ranks
from tests.faults.zygote import Zygote

CHILD = "tests.faults.worlds:in_child"
IMAGES, BATCH = 80, 8
STEPS_PER_EPOCH = IMAGES // BATCH
NETWORK = {"width": 32, "depth": 3, "heads": 2}
DECODER = {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}
# Everything that draws random numbers, switched on.
RANDOMNESS = {
    "mixup": 0.8,
    "cutmix": 1.0,
    "erasing": 0.5,
    "drop_path": 0.3,
    "label_smoothing": 0.1,
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "crop_scale": (0.3, 1.0),
}

Stage = Literal["pretrain", "finetune"]
Precision = Literal["32-true", "64-true"]
Turn = tuple[int, Literal["ddp", "fsdp"]]
"""A number of processes, and how they share the work."""
SHARDED: Sequence[Turn] = ((2, "fsdp"), (1, "ddp"), (2, "ddp"), (4, "fsdp"))


def launch(zygote: Zygote, world_size: int, function: str, arguments: Any) -> list[Any]:
    """`function` of this module in as many processes as one, joined as torchrun joins them; what it returned in each.

    Raises:
        RuntimeError: when one fails, with what it said; the others are ended, as they may wait for it.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results = folder / "results"
        results.mkdir()
        task = json.dumps({"function": function, "arguments": arguments, "results": str(results)})
        children = start_ranks(zygote, [task], folder / "said.log", world=world_size, target=CHILD)
        codes: dict[int, int] = {}
        try:
            while len(codes) < world_size and not any(codes.values()):
                codes |= {
                    rank: child.wait() for rank, child in enumerate(children) if rank not in codes and not child.alive()
                }
                time.sleep(0.01)
            for rank, code in codes.items():
                if code:
                    said = (folder / f"said-{rank}.log").read_text(errors="replace")
                    raise RuntimeError(f"process {rank} of {world_size} failed: {said[-4000:]}")
        finally:
            for rank, child in enumerate(children):
                if rank not in codes:
                    child.kill()
                    child.wait()
        return [json.loads((results / str(rank)).read_text()) for rank in range(world_size)]


def in_child(arguments: list[str]) -> int:
    """In a child: do what `launch` asks for."""
    task = json.loads(arguments[0])
    functions: dict[str, Callable[..., Any]] = {"train": train, "evaluate": evaluate, "command": command}
    result = functions[task["function"]](**task["arguments"])
    (Path(task["results"]) / os.environ["RANK"]).write_text(json.dumps(result))
    return 0


def call(zygote: Zygote, world_size: int, function: str, **arguments: Any) -> list[Any]:
    """`function` of this module with these arguments in as many processes; what it returned in each."""
    return launch(zygote, world_size, function, arguments)


def command(words: list[str]) -> str:
    """What `openmae WORDS` prints."""
    from openmae.cli import main as openmae

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = openmae(words)
    if code:
        sys.exit(code)
    return printed.getvalue()


def train(
    stage: Stage, folder: str, out: str, *, steps: int, precision: Precision, stop: int | None = None, **changes: Any
) -> None:
    """Pre-train or fine-tune the tiny network for `steps` steps, but stop before step `stop` as a crash would."""
    import openmae
    from openmae.recipes.values import Every
    from openmae.training import trainer
    from openmae.training.processes.stopping import Interrupted

    seed_step = trainer.seed_step

    def stopping(seed: int, step: int) -> None:
        if step == stop:
            raise Interrupted
        seed_step(seed, step)

    trainer.seed_step = stopping
    settings = {
        **NETWORK,
        "data": f"{folder}/train.parquet",
        "batch_size": BATCH,
        "epochs": steps // STEPS_PER_EPOCH,
        "precision": precision,
        "log_every": 1,
        "workers": 0,
        "save_every": Every(5, "min") if stop is None else Every(1, "steps"),
    }
    try:
        if stage == "pretrain":
            openmae.pretrain("fashion-mnist", out=out, **{**settings, **DECODER, **changes})
        else:
            weights = f"{folder}/weights"
            options = {**settings, **RANDOMNESS, "weights": weights, "data": folder, "eval_every": 1000, **changes}
            openmae.finetune("fashion-mnist", out=out, **options)
    except Interrupted:
        pass


def losses(out: Path) -> list[float]:
    """The loss of every step."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def prepare(zygote: Zygote, folder: Path, *, weights: bool) -> None:
    """Labelled images in `folder`, and weights to fine-tune if there is need of them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from openmae.data.sources import open_data

    data = open_data("fashion-mnist")
    assert data.test is not None
    for name, source, per_class in (("train", data.train, IMAGES // 10), ("test", data.test, 3)):
        chosen = np.concatenate([np.flatnonzero(source.labels == label)[:per_class] for label in range(10)])
        rows = [{"bytes": source.read(int(index)), "path": None} for index in chosen]
        pq.write_table(pa.table({"image": rows, "label": source.labels[chosen]}), folder / f"{name}.parquet")
    if weights:
        settings = {"folder": str(folder), "out": str(folder / "weights"), "steps": 10, "precision": "32-true"}
        call(zygote, 1, "train", stage="pretrain", **settings)


def hand_over(zygote: Zygote, out: Path, turns: Sequence[Turn], *, steps: int, **arguments: Any) -> None:
    """One run that others continue: each of `turns` makes its share of the steps and stops as a crash would."""
    for number, (world_size, strategy) in enumerate(turns, start=1):
        stop = steps * number // len(turns) if number < len(turns) else None
        call(zygote, world_size, "train", out=str(out), steps=steps, stop=stop, strategy=strategy, **arguments)


def measure(
    zygote: Zygote,
    world_sizes: Sequence[int] = (1, 2, 4),
    steps: int = 100,
    precision: Precision = "64-true",
    stages: Sequence[Stage] = ("pretrain", "finetune"),
    sharded: Sequence[Turn] = (),
    **changes: Any,
) -> dict[str, float]:
    """How far the losses of the same training differ between numbers of processes.

    Returns:
        The largest relative difference of a step's loss from that on `world_sizes[0]` processes: of each stage, of each
        stage "resumed", a run whose number of processes changes on the way, through all of `world_sizes`, and, if
        there are turns for it, "sharded".
    """
    largest: dict[str, float] = {}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(zygote, folder, weights="finetune" in stages)
        common: dict[str, Any] = {"folder": str(folder), "steps": steps, "precision": precision, **changes}
        for stage in stages:
            runs = []
            for world_size in world_sizes:
                out = folder / f"{stage}-{world_size}"
                call(zygote, world_size, "train", stage=stage, out=str(out), **common)
                runs.append(losses(out))
            largest[stage] = max(_difference(runs[0], run) for run in runs)
            handed: dict[str, Sequence[Turn]] = {
                f"{stage} resumed": [(world_size, "ddp") for world_size in world_sizes],
                f"{stage} sharded": sharded,
            }
            for name, turns in handed.items():
                if turns:
                    hand_over(zygote, folder / name, turns, stage=stage, **common)
                    largest[name] = _difference(runs[0], losses(folder / name))
    return largest


def _difference(expected: Sequence[float], found: Sequence[float]) -> float:
    return max(abs(a - b) / abs(a) for a, b in zip(expected, found, strict=True))


def evaluate(folder: str, weights: str, task: str = "classification") -> dict[str, Any]:
    """What one process sees of a classifier measured on the test images, and of the images that are broken."""
    from dataclasses import replace

    import torch

    from openmae.evaluation.experiment import open_experiment
    from openmae.evaluation.features import extract_features
    from openmae.evaluation.heads.classifier import build_classifier
    from openmae.evaluation.heads.linear_probe import LinearProbe
    from openmae.evaluation.measuring import evaluate as measure_model
    from openmae.recipes import FinetuneRecipe, find_recipe
    from openmae.training.processes.devices import start_fabric
    from openmae.weights.building import encoder_from
    from openmae.weights.networks import network_of

    found = find_recipe("fashion-mnist", "finetune")
    assert isinstance(found, FinetuneRecipe)
    network: dict[str, Any] = {**NETWORK, "task": task}
    recipe, opened = open_experiment(replace(found, data=folder, weights=weights, workers=0, **network))
    fabric = start_fabric(recipe)
    torch.manual_seed(0)
    model = build_classifier(recipe, opened).to(fabric.device)
    measured = measure_model(fabric, model, recipe, opened.task, opened.test)
    assert measured is not None
    probe = LinearProbe(encoder_from(opened.weights), opened.task.outputs, pool="mean", head_std=0.1).to(fabric.device)
    for buffer in probe.head.buffers():
        buffer += fabric.global_rank  # as if each process had normalised other images
    probed = measure_model(fabric, probe, recipe, opened.task, opened.test)
    features = extract_features(encoder_from(opened.weights), network_of(recipe), opened.test.images, fabric=fabric)
    return {**measured.figures, "images": len(features.indices), "probed": probed, "bad": features.bad}


@dataclass(frozen=True, kw_only=True)
class WorldsResult:
    """The largest relative difference of a loss between numbers of processes, in double and single precision."""

    steps: int
    world_sizes: tuple[int, ...]
    double: dict[str, float]
    single: dict[str, float]


def measure_worlds(zygote: Zygote, *, steps: int = 100, world_sizes: tuple[int, ...] = (1, 2, 4)) -> WorldsResult:
    """Both stages, also with a number of processes that changes on the way, and with a sharded model."""
    double, single = (
        measure(zygote, world_sizes, steps, precision, sharded=SHARDED) for precision in ("64-true", "32-true")
    )
    return WorldsResult(steps=steps, world_sizes=world_sizes, double=double, single=single)
