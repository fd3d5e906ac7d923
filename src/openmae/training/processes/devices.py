"""Devices, precision and process groups, through lightning-fabric."""

import logging
import os
import platform
import warnings
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import DoublePrecision, MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from openmae.data.workers import automatic_workers
from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.reporter import current
from openmae.training.processes.launching import processes_exist
from openmae.training.processes.rendezvous import use_fresh_store

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]


def start_fabric(recipe: Recipe) -> Fabric:
    """Choose devices, precision and strategy as `recipe` says, and join the other processes if there are any.

    Raises:
        UserError: for several devices when there is not a process for each.
    """
    return join_processes(
        devices=recipe.devices, nodes=recipe.nodes, precision=choose_precision(recipe), strategy=recipe.strategy
    )


def join_processes(
    *,
    devices: int = 1,
    nodes: int = 1,
    precision: Precision = "32-true",
    accelerator: str = "auto",
    strategy: Literal["auto", "ddp", "fsdp"] = "auto",
) -> Fabric:
    """Join the other processes of a run if there are any."""
    if "LOCAL_WORLD_SIZE" in os.environ:  # set by torchrun or our own supervisor
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if devices * nodes > 1 and not processes_exist():
        raise UserError(
            f"{devices * nodes} devices need a process each; use the command line, which starts them, or torchrun"
        )
    # lightning-fabric recommends srun wherever Slurm is installed; one process needs none, several are started already.
    warnings.filterwarnings("ignore", message="The `srun` command is available")
    double = precision == "64-true"
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        precision=None if double else precision,
        plugins=DoublePrecision()
        if double
        else None,  # Fabric refuses "64-true" by name for sharded models, though they can do it
        strategy=_strategy(strategy, devices * nodes),
    )
    if devices * nodes > 1:
        # Messages of lightning-fabric about itself, and a warning about the layout of a gradient, which costs nothing.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        logging.getLogger("lightning_utilities").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        use_fresh_store()
    fabric.launch()
    if not fabric.is_global_zero:
        current().silence()
    return fabric


def _strategy(name: str, processes: int) -> DDPStrategy | ModelParallelStrategy | str:
    if name == "fsdp":
        return ModelParallelStrategy(_shard, data_parallel_size=processes, tensor_parallel_size=1)
    return DDPStrategy() if processes > 1 else "auto"


def _shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Fully sharded data parallelism (FSDP2), a transformer block at a time."""
    processes = mesh["data_parallel"]
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] == "blocks":
            for block in module.children():
                fully_shard(block, mesh=processes)
    fully_shard(model, mesh=processes)
    return model


def numerics(fabric: Fabric) -> dict[str, Any]:
    """Versions and hardware that decide the last bits of a loss, beside the recipe and the images."""
    cuda = fabric.device.type == "cuda"
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(fabric.device) if cuda else f"{platform.machine()} CPU",
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": fabric.world_size,
    }


def loss_scaler(fabric: Fabric) -> torch.amp.GradScaler | None:
    """The scaler of the loss, which keeps fp16's gradients from vanishing; None in other precisions."""
    precision = fabric.strategy.precision
    return precision.scaler if isinstance(precision, MixedPrecision) else None


def choose_precision(recipe: Recipe) -> Precision:
    """The recipe's precision; for "auto", bf16 where the GPU computes in it, else single precision."""
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16-mixed" if computes_in_bf16() else "32-true"


def computes_in_bf16() -> bool:
    """Whether there is a GPU that computes in bf16 itself; others emulate it, which is slow."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def choose_workers(recipe: Recipe) -> int:
    """Loader processes for one training process."""
    return automatic_workers() if recipe.workers is None else recipe.workers


def pick_device() -> torch.device:
    """The device on which a finished encoder is measured."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def measuring_processes(*, devices: int = 1, nodes: int = 1) -> Fabric:
    """Join the other processes that measure a finished encoder, if there are any."""
    return join_processes(devices=devices, nodes=nodes, accelerator=pick_device().type)
