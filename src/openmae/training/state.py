"""The state of a training: saved whole, restored whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.optim import Optimizer

from openmae.checkpoints.checkpoint import Checkpoint
from openmae.recipes import LinearRecipe
from openmae.training.optimizers import set_learning_rate
from openmae.training.processes.devices import loss_scaler, numerics
from openmae.training.processes.sharding import (
    all_finite,
    load_model,
    load_optimizer,
    model_state,
    optimizer_state,
    optimizer_tensors,
)
from openmae.training.schedules import Schedule
from openmae.training.spec import TrainSpec


@dataclass(kw_only=True)
class TrainState:
    """Everything that the next step depends on, beside the recipe and the images.

    Args:
        schedule: how long the run is, and its learning rates; it follows from the recipe.
        model: the network.
        wrapped: the network as it is called: compiled, and shared out among the processes.
        optimizer: its rates and its state.
        wrapped_optimizer: the optimizer as it is stepped.
        ema: the moving average of the network, where the recipe asks for one.
        scaler: scales the loss in fp16; None in other precisions.
        numerics: versions and hardware that decide the last bits of a loss.
        step: how many steps have been made.
        pending_losses: those of the steps since the last log line, which the next line averages.
        skipped_in_a_row: how many of the latest steps were skipped because they were not finite.
    """

    schedule: Schedule
    model: nn.Module
    wrapped: nn.Module
    optimizer: Optimizer
    wrapped_optimizer: Optimizer
    ema: ModelEmaV3 | None
    scaler: torch.amp.GradScaler | None
    numerics: Mapping[str, Any]
    step: int = 0
    pending_losses: list[float] = field(default_factory=list)
    skipped_in_a_row: int = 0

    @property
    def trained(self) -> nn.Module:
        """The network that is evaluated and exported: the average where there is one."""
        return self.model if self.ema is None else self.ema.module

    @property
    def finished(self) -> bool:
        """Whether the last step has been made."""
        return self.step == self.schedule.total_steps

    def set_rates(self) -> float:
        """Give the optimizer its learning rates for the next step; returns the highest of them."""
        recipe = self.schedule.recipe
        rates = self.schedule.rates(self.step, self.optimizer.param_groups)
        lr_in_momentum = isinstance(recipe, LinearRecipe) and recipe.lr_in_momentum
        set_learning_rate(self.optimizer, rates, lr_in_momentum=lr_in_momentum)
        return max(rates)

    def update(self, loss: float) -> None:
        """Change the weights by the gradient of the step that `step` counts already, and let the average follow."""
        self.wrapped_optimizer.step()
        if self.ema is not None:
            self.ema.update(self.model, self.step)
        self.pending_losses.append(loss)
        self.skipped_in_a_row = 0

    def finite(self) -> bool:
        """Whether no tensor that this process has of the state contains NaN or infinity; waits for the device."""
        tensors = [*self.model.state_dict().values(), *optimizer_tensors(self.optimizer)]
        if self.ema is not None:
            tensors += self.ema.module.state_dict().values()
        return all_finite(tensors)

    def capture(self, *, keep: bool, copy: bool) -> Checkpoint:
        """The state in memory, whole; every process must call this together.

        Args:
            keep: whether this process needs it; without, its tensors are left out.
            copy: the training may go on while the result is in use. Otherwise tensors that lie in the CPU's memory are
                the state's own, and must not change while the result is in use.
        """
        return Checkpoint(
            step=self.step,
            model=model_state(self.model, keep=keep, copy=copy),
            ema=None if self.ema is None else model_state(self.ema.module, keep=keep, copy=copy),
            optimizer=optimizer_state(self.model, self.optimizer, keep=keep, copy=copy),
            pending_losses=tuple(self.pending_losses),
            skipped_in_a_row=self.skipped_in_a_row,
            numerics=self.numerics,
            scaler=None if self.scaler is None else self.scaler.state_dict(),
        )

    def restore(self, saved: Checkpoint) -> None:
        """Become the state that was captured.

        Raises:
            UserError: when the checkpoint is of another network.
        """
        load_model(self.model, saved.model)
        load_optimizer(self.model, self.optimizer, saved.optimizer)
        if self.ema is not None and saved.ema is not None:
            load_model(self.ema.module, saved.ema)
        if self.scaler is not None and saved.scaler is not None:
            self.scaler.load_state_dict(dict(saved.scaler))
        self.step = saved.step
        self.pending_losses = list(saved.pending_losses)
        self.skipped_in_a_row = saved.skipped_in_a_row
        self.wrapped_optimizer.zero_grad()  # of a step that was not made
        # LARS keeps the rate outside of its momentum, and needs the one of the step before.
        set_learning_rate(self.optimizer, self.schedule.rates(max(0, self.step - 1), self.optimizer.param_groups))


def first_state(fabric: Fabric, spec: TrainSpec, schedule: Schedule) -> TrainState:
    """The state before the first step, on the device."""
    recipe = spec.recipe
    if recipe.precision == "64-true":
        spec.model.double()  # before weights are restored into it: single precision would round them
    ema = ModelEmaV3(spec.model, decay=recipe.ema_decay) if recipe.ema_decay is not None else None
    wrapped = fabric.setup_module(cast(nn.Module, torch.compile(spec.model)) if recipe.compile else spec.model)
    optimizer = spec.optimizer(spec.model)
    wrapped_optimizer = fabric.setup_optimizers(optimizer)
    assert isinstance(wrapped_optimizer, Optimizer)
    if ema is not None:
        ema.to(fabric.device)
    return TrainState(
        schedule=schedule,
        model=spec.model,
        wrapped=wrapped,
        optimizer=optimizer,
        wrapped_optimizer=wrapped_optimizer,
        ema=ema,
        scaler=loss_scaler(fabric),
        numerics=numerics(fabric),
    )
