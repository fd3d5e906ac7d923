"""Estimates for one machine, eight GPUs and a cluster: the tables of docs/scaling.md.

    python benchmarks/scaling.py [--index 200000]

Nothing here is timed on a GPU. Counted from the networks: parameters, FLOPs (FlopCounterMode; one multiplication and
one addition are two), and what autograd keeps for the backward pass (saved tensors, under bf16 autocast on the CPU; the
difference between two images and one is what an image takes, the rest is copies of the weights). Measured: decoding, by
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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from openmae.core.masking import Mask, kept_count, random_mask
from openmae.core.model import MaskedAutoencoder
from openmae.data.sources import ShardSource, open_data
from openmae.recipes import PretrainRecipe, find_recipe
from openmae.weights.networks import network_of

RECIPES = {"ViT-B/16": "vit-b16-800e", "ViT-L/16": "vit-l16-800e", "ViT-H/14": "vit-h14-1600e"}
EPOCHS, IMAGES, BATCH = 800, 1_281_167, 4096  # ImageNet-1k; the published recipes' batch

# Assumptions.
PEAK = 312e12  # FLOP/s of an NVIDIA A100 in dense bf16, by its data sheet
SHARE = 0.40  # of the peak that training reaches
LINKS = {  # GPUs, and bytes per second in one direction: out of each GPU of one machine, or out of each of 4 machines
    "8 GPUs, NVLink": (8, 200e9),
    "8 GPUs, PCIe 4": (8, 20e9),
    "4 x 8, 8 x 200 Gb/s InfiniBand": (32, 200e9),
    "4 x 8, 100 Gb/s Ethernet": (32, 12.5e9),
    "4 x 8, 10 Gb/s Ethernet": (32, 1.25e9),
}
RESERVED = 3e9  # bytes of a card for CUDA, NCCL and fragmentation
CARDS = (24e9, 80e9)
SHARDS = 8  # GPUs that FSDP divides the states over


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one network: FLOPs and bytes of one image, `copies` bytes of bf16 weights."""

    parameters: int
    largest_block: int
    encoder: float
    decoder: float
    step: float
    activations: int
    copies: int

    @property
    def images_per_second(self) -> float:
        """Of one GPU."""
        return PEAK * SHARE / self.step

    @property
    def ddp(self) -> float:
        """Bytes on each GPU without activations: weights, gradients and two moments, buckets, bf16 copies."""
        return 16 * self.parameters + 4 * self.parameters + self.copies

    def fsdp(self, *, accumulates: bool) -> float:
        """The same when each GPU stores its share; two blocks at a time are whole, in bf16 with their gradients.

        Between accumulation steps the gradients of all parameters stay whole.
        """
        whole = 4 * self.parameters if accumulates else 0
        return 16 * self.parameters / SHARDS + 2 * self.largest_block * (2 + 2) + whole


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
    """Count one network."""
    with torch.device("meta"):
        model = network_of(recipe).build_autoencoder()
    image = torch.empty(1, recipe.channels, *recipe.image_size, device="meta")
    mask = masks(model, recipe, 1).to("meta")
    with FlopCounterMode(display=False) as counter:
        loss = model(image, mask).loss
        forward = counter.get_total_flops()
        decoder = sum(counter.get_flop_counts()["MaskedAutoencoder.decoder"].values())
        loss.backward()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model = network_of(recipe).build_autoencoder()
    one, two = (saved_bytes(model, recipe, batch) for batch in (1, 2))
    return Cost(
        parameters=sum(parameter.numel() for parameter in parameters),
        largest_block=sum(parameter.numel() for parameter in model.encoder.blocks[0].parameters()),
        encoder=forward - decoder,
        decoder=decoder,
        step=counter.get_total_flops(),
        activations=two - one,
        copies=2 * one - two,
    )


def saved_bytes(model: MaskedAutoencoder, recipe: PretrainRecipe, batch: int) -> int:
    """Bytes that autograd keeps between forward and backward, each storage once, the parameters themselves left out."""
    storages = {}
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            storages[storage._cdata] = storage  # kept, so that no other one gets its address
        return tensor

    images = torch.randn(batch, recipe.channels, *recipe.image_size)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16):
        _ = model(images, masks(model, recipe, batch))
    return sum(storage.nbytes() for storage in storages.values())


def masks(model: MaskedAutoencoder, recipe: PretrainRecipe, batch: int) -> Mask:
    return random_mask(
        batch=batch, patches=model.geometry.grid, kept=kept_count(model.geometry.patches, recipe.mask_ratio)
    )


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
        hours = [EPOCHS * IMAGES / cost.images_per_second / gpus / 3600 for gpus in (1, 8, 32)]
        rows.append(
            f"| {title} | {cost.images_per_second:,.0f} | {BATCH / cost.images_per_second / 8 * 1000:,.0f} ms | "
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
        cores = " | ".join(f"{cost.images_per_second / rate:.1f}" for rate in rates)
        rows.append(f"| {title} | {cost.images_per_second:,.0f} | {cores} |")
    return rows


def link_table(costs: dict[str, Cost]) -> list[str]:
    rows = [
        "| | " + " | ".join(f"{title}: {4 * cost.parameters / 1e6:,.0f} MB" for title, cost in costs.items()) + " |",
        "|---|" + "---|" * len(costs),
    ]
    for link, (gpus, rate) in LINKS.items():
        cells = []
        for cost in costs.values():
            compute = BATCH / cost.images_per_second / gpus
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
        for strategy, states in (
            ("ddp", cost.ddp),
            (f"fsdp over {SHARDS}", cost.fsdp(accumulates=False)),
            (f"fsdp over {SHARDS}, --accumulate", cost.fsdp(accumulates=True)),
        ):
            batches = [math.floor((card - RESERVED - states) / cost.activations) for card in CARDS]
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
