"""Estimates for one machine, eight GPUs and a cluster: the tables of docs/scaling.md.

    python benchmarks/scaling.py [--index 200000]

Nothing here is timed on a GPU. Counted from the networks, as `openmae plan` does it (openmae.core.cost): parameters,
FLOPs, and what autograd keeps for the backward pass under bf16 autocast. Measured: decoding, by
benchmarks/input_pipeline.py, and with --index the index of tar shards. Assumed: the constants below. The rest is
arithmetic.
"""

import argparse
import io
import json
import math
import os
import tarfile
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from openmae.core.cost import Cost
from openmae.data.sources import ShardSource, open_data
from openmae.recipes import PretrainRecipe, find_recipe
from openmae.reporting.plan.gpus import GPUS, images_per_second
from openmae.training.memory import cost_of, memory_of

RECIPES = {"ViT-B/16": "vit-b16-800e", "ViT-L/16": "vit-l16-800e", "ViT-H/14": "vit-h14-1600e"}
EPOCHS, IMAGES, BATCH = 800, 1_281_167, 4096  # ImageNet-1k; the published recipes' batch

# Assumptions; another is the share of the peak that training reaches, openmae.reporting.plan.gpus.SHARE.
GPU = GPUS["A100"]
LINKS = {  # GPUs, and bytes per second in one direction: out of each GPU of one machine, or out of each of 4 machines
    "8 GPUs, NVLink": (8, 200e9),
    "8 GPUs, PCIe 4": (8, 20e9),
    "4 x 8, 8 x 200 Gb/s InfiniBand": (32, 200e9),
    "4 x 8, 100 Gb/s Ethernet": (32, 12.5e9),
    "4 x 8, 10 Gb/s Ethernet": (32, 1.25e9),
}
CARDS = (24e9, 80e9)
SHARDS = 8  # GPUs that FSDP divides the states over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=int, default=0, help="also index shards of that many images")
    options = parser.parse_args()
    costs = {}
    for title, name in RECIPES.items():
        recipe = find_recipe(name, "pretrain")
        assert isinstance(recipe, PretrainRecipe)
        costs[title] = count(recipe)
    for table in (network_table, time_table, input_table, link_table, memory_table):
        print("\n".join(table(costs)), end="\n\n")
    if options.index:
        print("\n".join(index_table(options.index)))


def count(recipe: PretrainRecipe) -> Cost:
    """Count one network, under bf16 autocast."""
    return cost_of(recipe, "bf16-mixed")


def per_gpu(cost: Cost) -> float:
    """Images per second of one GPU."""
    return images_per_second(GPU, cost.step)


def network_table(costs: dict[str, Cost]) -> list[str]:
    rows = [
        "| | parameters | encoder, GFLOP forward | decoder, GFLOP forward | forward and backward | step of 4096 |",
        "|---|---|---|---|---|---|",
    ]
    for title, cost in costs.items():
        rows.append(
            f"| {title} | {cost.parameters / 1e6:.1f} M | {cost.encoder / 1e9:.1f} | {cost.decoder / 1e9:.1f} "
            f"| {cost.step / 1e9:.0f} GFLOP | {cost.step * BATCH / 1e12:,.0f} TFLOP |"
        )
    return rows


def time_table(costs: dict[str, Cost]) -> list[str]:
    rows = ["| | images/s per GPU | step on 8 GPUs | 1 GPU | 8 GPUs | 32 GPUs |", "|---|---|---|---|---|---|"]
    for title, cost in costs.items():
        hours = [EPOCHS * IMAGES / per_gpu(cost) / gpus / 3600 for gpus in (1, 8, 32)]
        rows.append(
            f"| {title} | {per_gpu(cost):,.0f} | {BATCH / per_gpu(cost) / 8 * 1000:,.0f} ms | "
            + " | ".join(f"{hour:,.0f} h" for hour in hours)
            + " |"
        )
    return rows


def input_table(costs: dict[str, Cost]) -> list[str]:
    file = Path(__file__).parents[1] / "docs" / "input_pipeline.json"
    measured = json.loads(file.read_text(encoding="utf-8"))["images_per_second"]
    kinds = ("openmae, --decode fast", "openmae, packed (JPEG 288, quality 90)", "openmae, packed raw (288)")
    rates = [measured[kind]["cpu"]["median"] for kind in kinds]
    rows = [
        "| cores per GPU | wants images/s | "
        + " | ".join(
            f"{kind} ({rate:,.0f}/s)"
            for kind, rate in zip(("photographs", "packed JPEG", "packed raw"), rates, strict=True)
        )
        + " |",
        "|---|---|---|---|---|",
    ]
    for title, cost in costs.items():
        cores = " | ".join(f"{per_gpu(cost) / rate:.1f}" for rate in rates)
        rows.append(f"| {title} | {per_gpu(cost):,.0f} | {cores} |")
    return rows


def link_table(costs: dict[str, Cost]) -> list[str]:
    rows = [
        "| | " + " | ".join(f"{title}: {4 * cost.parameters / 1e6:,.0f} MB" for title, cost in costs.items()) + " |",
        "|---|" + "---|" * len(costs),
    ]
    for link, (gpus, rate) in LINKS.items():
        cells = []
        for cost in costs.values():
            compute = BATCH / per_gpu(cost) / gpus
            exchange = 2 * (gpus - 1) / gpus * 4 * cost.parameters / rate
            hidden = max(0.0, exchange - compute * 2 / 3)  # the backward pass is two thirds of the step
            least, most = compute / (compute + exchange), compute / (compute + hidden)
            efficiency = f"{math.floor(least * 100)}–{math.floor(most * 100)} %"
            cells.append(f"{compute * 1000:,.0f} + {exchange * 1000:,.0f} ms: {efficiency}")
        rows.append(f"| {link} | " + " | ".join(cells) + " |")
    return rows


def memory_table(costs: dict[str, Cost]) -> list[str]:
    cards = " | ".join(f"{card / 1e9:.0f} GB card" for card in CARDS)
    rows = [f"| | strategy | states | each image | {cards} |", "|---|---|---|---|" + "---|" * len(CARDS)]
    for title, cost in costs.items():
        recipe = find_recipe(RECIPES[title], "pretrain")
        assert isinstance(recipe, PretrainRecipe)
        for strategy, changed in (
            ("ddp", replace(recipe, strategy="ddp")),
            (f"fsdp over {SHARDS}", replace(recipe, strategy="fsdp")),
            (f"fsdp over {SHARDS}, --accumulate", replace(recipe, strategy="fsdp", accumulate=2)),
        ):
            memory = memory_of(changed, cost, precision="bf16-mixed", processes=SHARDS, gpu=True)
            states = memory.states
            batches = [math.floor((card - memory.reserved - states) / cost.activations) for card in CARDS]
            cells = " | ".join(f"{batch:,} images" if batch > 0 else "too small" for batch in batches)
            rows.append(f"| {title} | {strategy} | {states / 1e9:.1f} GB | {cost.activations / 1e6:.0f} MB | {cells} |")
    return rows


def index_table(images: int) -> list[str]:
    """Index tar shards of tiny files, as the first and the second start of a run do."""
    sizes = np.random.default_rng(0).integers(0, 1024, images)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        shard = Path(folder, "train-000000.tar")
        with tarfile.open(shard, "w") as archive:
            for number, size in enumerate(sizes):
                header = tarfile.TarInfo(f"{number // 1000:06d}/{number:09d}.jpg")
                header.size = int(size)
                archive.addfile(header, io.BytesIO(bytes(header.size)))
        time.sleep(2.5)  # the index of younger files is not cached
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            source = open_data(str(shard)).train
            seconds.append(time.perf_counter() - started)
        assert isinstance(source, ShardSource)
        memory = sum(table.nbytes for table in (source._shard, source._offset, source._size, source._members))
        stored = sum(file.stat().st_size for file in Path(folder, "cache").rglob("*.parquet"))
        return [
            f"index of {images:,} images: walked in {seconds[0]:.1f} s ({images / seconds[0]:,.0f}/s), "
            f"read again in {seconds[1]:.2f} s ({images / seconds[1]:,.0f}/s)",
            f"bytes per image: {(memory + source.labels.nbytes) / images:.0f} in memory, {stored / images:.1f} on disk",
        ]


if __name__ == "__main__":
    main()
