"""The memory of one training process, part by part, by arithmetic."""

from dataclasses import dataclass

import torch

from openmae.core.cost import Cost, count_cost
from openmae.data.memory import available_memory
from openmae.data.workers import PREFETCHED_BATCHES
from openmae.recipes import PretrainRecipe
from openmae.training.processes.devices import Precision, choose_workers
from openmae.weights.networks import network_of

GPU_RESERVED = 3_000_000_000
"""Bytes of a GPU that are left for CUDA, NCCL and fragmentation; assumed."""
PROCESS = 700_000_000
"""Bytes of a training process on a CPU before it has a network: Python, torch and their like. Measured."""
SHARE_OF_FREE = 0.8
"""The part of the free memory of a machine that a run on its CPU may plan with."""
MIXED = ("bf16-mixed", "16-mixed")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one training process, by part.

    Args:
        weights: in the precision of training.
        gradients: of all weights; with fsdp and accumulation they are counted whole.
        optimizer: its moments.
        average: the moving average of the weights.
        buckets: in which ddp exchanges gradients.
        gathered: the two blocks that fsdp has whole at a time.
        copies: of the weights in half precision.
        reserved: what a process needs beside the network.
        image: activations of one image, and its pixels.
    """

    weights: int
    gradients: int
    optimizer: int
    average: int
    buckets: int
    gathered: int
    copies: int
    reserved: int
    image: int

    @property
    def states(self) -> int:
        """Everything but the images and what is reserved."""
        return (
            self.weights + self.gradients + self.optimizer + self.average + self.buckets + self.gathered + self.copies
        )

    def total(self, images: int) -> int:
        """Of a process that takes so many images at once."""
        return self.reserved + self.states + images * self.image

    def most_images(self, available: int) -> int:
        """The largest number of images at once for which there is memory; 0 when there is none for one."""
        return max(0, (available - self.reserved - self.states) // self.image)


def cost_of(recipe: PretrainRecipe, precision: Precision) -> Cost:
    """The counted cost of a recipe's network in this precision."""
    return count_cost(network_of(recipe), mask_ratio=recipe.mask_ratio, mixed=precision in MIXED)


def memory_of(
    recipe: PretrainRecipe, cost: Cost, *, precision: Precision, processes: int = 1, gpu: bool = False
) -> Memory:
    """The memory of each of these processes.

    Args:
        recipe: optimizer, strategy and the size of the images.
        cost: of its network, counted in this precision.
        precision: in which it trains.
        processes: of the whole run.
        gpu: whether each has a GPU; else they share the memory of a machine, in which decoded images wait too.
    """
    number = 8 if precision == "64-true" else 4
    whole = number * cost.parameters
    sharded = recipe.strategy == "fsdp"
    share = processes if sharded else 1
    pixel = 4 if recipe.pixel_type == "float32" else 2 if recipe.pixel_type == "uint16" else 1
    values = recipe.channels * recipe.image_size.height * recipe.image_size.width
    waiting = 0 if gpu else PREFETCHED_BATCHES * choose_workers(recipe) * pixel * values
    return Memory(
        weights=whole // share,
        gradients=whole // share + (whole if sharded and recipe.accumulate > 1 else 0),
        optimizer=moments(recipe) * whole // share,
        average=0 if recipe.ema_decay is None else whole,
        buckets=whole if processes > 1 and not sharded else 0,
        gathered=2 * cost.largest_block * (2 + 2) if sharded else 0,
        copies=0 if sharded else cost.copies,
        reserved=GPU_RESERVED if gpu else PROCESS,
        image=cost.activations * number // 4 + (pixel + number) * values + waiting,
    )


def moments(recipe: PretrainRecipe) -> int:
    """How many numbers an optimizer keeps for each weight; Muon's are one for matrices, which are nearly all."""
    return 2 if recipe.optimizer == "adamw" else 1


def memory_at_hand() -> int:
    """Bytes that a training process may use: of its GPU, or of the free memory of this machine."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return int(SHARE_OF_FREE * available_memory())
