"""Devices, precision and process groups, through lightning-fabric."""

import os
from typing import Literal

import torch
from lightning_fabric import Fabric

from openmae.data.loading import automatic_workers
from openmae.recipes import Recipe

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]


def start_fabric(recipe: Recipe) -> Fabric:
    """Choose devices and precision as `recipe` says, and join the other processes if there are any."""
    return join_processes(devices=recipe.devices, nodes=recipe.nodes, precision=choose_precision(recipe))


def join_processes(
    *, devices: int = 1, nodes: int = 1, precision: Precision = "32-true", accelerator: str = "auto"
) -> Fabric:
    """Join the other processes of a run if there are any."""
    # Under torchrun the number of processes is already decided.
    launched = "LOCAL_WORLD_SIZE" in os.environ
    fabric = Fabric(
        accelerator=accelerator,
        devices=int(os.environ["LOCAL_WORLD_SIZE"]) if launched else devices,
        num_nodes=nodes,
        precision=precision,
    )
    fabric.launch()
    return fabric


def choose_precision(recipe: Recipe) -> Precision:
    """What "auto" means here: bf16 where the GPU computes in it, else single precision."""
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16-mixed" if computes_in_bf16() else "32-true"


def computes_in_bf16() -> bool:
    """Whether there is a GPU with bf16 arithmetic of its own; elsewhere bf16 may be emulated, which is slow."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def choose_workers(recipe: Recipe) -> int:
    """Loader processes for one training process."""
    return automatic_workers() if recipe.workers is None else recipe.workers


def pick_device() -> torch.device:
    """Where measurements of a finished encoder run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def measuring_processes(*, devices: int = 1, nodes: int = 1) -> Fabric:
    """Join the other processes that measure a finished encoder, if there are any."""
    return join_processes(devices=devices, nodes=nodes, accelerator=pick_device().type)
