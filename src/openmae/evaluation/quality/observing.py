"""Quality while a network is pre-trained: an observer that measures every few epochs and changes nothing."""

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch.distributed.fsdp import FSDPModule

from openmae.checkpoints.names import METRICS
from openmae.core.masking import kept_count
from openmae.core.model import MaskedAutoencoder
from openmae.data.transforms import normalise_pixels
from openmae.evaluation.forward import evaluation_images
from openmae.evaluation.quality.measuring import Measuring, Reconstructed, undisturbed
from openmae.evaluation.quality.often import BANK, cost, epochs_between, sample_size
from openmae.evaluation.quality.pictures import draw_samples, forget_samples, write_samples
from openmae.evaluation.quality.sample import Sample, take_sample
from openmae.evaluation.quality.trivial import visible_pixels
from openmae.evaluation.reconstructing import pixels_of
from openmae.reporter import say
from openmae.training.observers.observer import Observer, Outcome
from openmae.training.pixels import pixel_format, reading_of
from openmae.training.pretraining import Pretraining
from openmae.training.processes.sharding import model_state
from openmae.training.state import TrainState
from openmae.weights.networks import network_of

PICTURES = 6
LOSS = "quality/loss"


def observe_quality(training: Pretraining) -> Observer:
    """The observer of this training; one that does nothing where the recipe wants no quality."""
    return Observer() if training.recipe.quality_every == 0 else Quality(training)


class Quality(Observer):
    """Measures the network that will be exported, after every few epochs and after the last step.

    The process that writes the run folder measures; the others go on, and wait for it in their next exchange. Nothing
    that the training depends on is changed: weights, optimizer, modes and random states are what they would be without.

    Args:
        training: the training.
    """

    def __init__(self, training: Pretraining) -> None:
        self._training, self._run, self._recipe = training, training.run, training.recipe
        self._sample: Sample | None = None
        self._measuring: Measuring | None = None
        self._every: int | None = None
        self._impossible = False

    def started(self, state: TrainState) -> None:
        """Make up for a measurement that a stop or a crash has prevented."""
        if self._run.writes:
            forget_samples(self._run.path, after=state.step)
        if not state.step or not self._due(state):
            return
        logged = any(record.get("step") == state.step for record in self._run.records(METRICS) if LOSS in record)
        if not self._training.fabric.broadcast(logged):
            self._measure(state)

    def stepped(self, state: TrainState, outcome: Outcome, *, wanted: bool) -> None:
        """Measure when it is time to."""
        if self._due(state):
            self._measure(state)

    def _due(self, state: TrainState) -> bool:
        """The same in every process: only the recipe and numbers that all of them know decide it."""
        if self._every is None:
            self._every = self._epochs_between(state)
        return state.schedule.ends_epochs(state.step, self._every)

    def _epochs_between(self, state: TrainState) -> int:
        if self._recipe.quality_every != "auto":
            return self._recipe.quality_every
        model, images = _autoencoder(state), self._sample_size(_autoencoder(state))
        kept = kept_count(model.geometry.patches, self._recipe.mask_ratio)
        return epochs_between(
            cost=cost(model, kept=kept, masked=images, whole=(1 + BANK) * images),
            images=state.schedule.steps_per_epoch * self._recipe.batch_size,
            epochs=self._recipe.epochs,
        )

    def _sample_size(self, model: MaskedAutoencoder) -> int:
        height, width = model.geometry.size
        pixel = self._recipe.channels * np.dtype(pixel_format(self._recipe).kind).itemsize
        return sample_size(len(self._training.taken.images), bytes_each=height * width * pixel)

    def _measure(self, state: TrainState) -> None:
        model = self._whole(_autoencoder(state))  # all processes take part in this, the first one alone in the rest
        if self._run.writes and not self._impossible:
            with undisturbed(model, self._training.fabric.device):
                self._measure_alone(state, model)

    def _whole(self, model: MaskedAutoencoder) -> MaskedAutoencoder:
        """The network; of one that is sharded among the processes a copy in the process that measures.

        A sharded module notes the order in which its parts are called, for its next backward pass: a call in one
        process alone would let the others wait for ever.
        """
        if not isinstance(model, FSDPModule):
            return model
        tensors = model_state(model, keep=self._run.writes)
        with torch.device("meta"):
            copy = network_of(self._recipe).build_autoencoder()
        if self._run.writes:
            copy.load_state_dict(tensors, assign=True)
            copy.to(self._training.fabric.device)
        return copy

    def _measure_alone(self, state: TrainState, model: MaskedAutoencoder) -> None:
        began = time.perf_counter()
        if self._sample is None:
            self._sample = self._take_sample(model)
        if self._sample is None:
            self._impossible = True
            say("quality is not measured: none of the images for it can be read")
            return
        if self._measuring is None:
            self._measuring = Measuring(self._training.fabric, self._recipe, self._sample, pictures=PICTURES)
            often = "after every epoch" if self._every == 1 else f"every {self._every} epochs"
            say(f"quality {often}: {self._sample.describe()}")
        reconstructed = self._measuring.reconstruct(model)
        figures = self._measuring.figures(model, reconstructed)
        self._picture(state.step, model, reconstructed)
        epoch = round(state.step / state.schedule.steps_per_epoch, 4)
        self._run.log(
            state.step,
            epoch=epoch,
            samples=state.step * self._recipe.batch_size,
            **figures,
            **{"quality/seconds": round(time.perf_counter() - began, 3)},
        )
        say(f"epoch {epoch:g}: {sentence(figures, highest_rank=self._measuring.highest_rank(model))}")

    def _take_sample(self, model: MaskedAutoencoder) -> Sample | None:
        recipe, taken = self._recipe, self._training.taken
        loading = evaluation_images(network_of(recipe), taken.images, reading=reading_of(recipe))
        loading = replace(loading, uniform=model.geometry.patches)
        return take_sample(taken, loading, images=self._sample_size(model), seed=recipe.seed)

    def _picture(self, step: int, model: MaskedAutoencoder, reconstructed: Reconstructed) -> None:
        """Draw the first images of the sample. A full disk must not end a run for the sake of a picture."""
        assert self._sample is not None
        assert self._measuring is not None
        rows = len(reconstructed.predictions)
        pixels, recipe = self._sample.pixels[:rows], self._recipe
        images = normalise_pixels(pixels, recipe.mean, recipe.std).float()
        predicted = pixels_of(reconstructed.predictions, images, model.geometry, network_of(recipe), pixels.dtype)
        hidden = ~visible_pixels(model.geometry, self._measuring.mask(model, slice(rows)))[:, 0]
        picture = draw_samples(pixels, predicted, hidden)
        try:
            write_samples(self._run.path, step, picture, rows=rows)
        except OSError as error:
            say(f"the picture of step {step} is missing ({error.strerror}); look at the disk that holds the run folder")
        self._run.show(step, "quality/reconstructions", picture)


def sentence(figures: Mapping[str, float], *, highest_rank: int) -> str:
    """ "quality: loss 0.41; trivial 1.00 / 0.83 / 0.62; rank 43 of 192; kNN 61.2"."""
    found = {name.removeprefix("quality/"): value for name, value in figures.items()}
    trivial = " / ".join(f"{found[name]:.2f}" for name in ("own_mean", "nearest", "smooth"))
    parts = [f"loss {found['loss']:.3f}" if "loss" in found else "loss not finite", f"trivial {trivial}"]
    if "rank" in found:
        parts.append(f"rank {found['rank']:.0f} of {highest_rank}")
    parts += [f"{name} {found[key]:.1f}" for key, name in (("knn", "kNN"), ("probe", "probe")) if key in found]
    return f"quality: {'; '.join(parts)}"


def _autoencoder(state: TrainState) -> MaskedAutoencoder:
    assert isinstance(state.trained, MaskedAutoencoder), "quality is of pre-training"
    return state.trained
