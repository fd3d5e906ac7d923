"""One measurement of quality: a network, the fixed images and masks, and all figures of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from openmae.core.encoder import encode_images
from openmae.core.masking import Mask, kept_count, mask_from_noise
from openmae.core.model import MaskedAutoencoder
from openmae.core.patches import normalise_patches, patches_with_data, take_patches
from openmae.data.transforms import normalise_pixels
from openmae.evaluation.accuracy import score
from openmae.evaluation.features import pool_tokens
from openmae.evaluation.protocols.knn import knn
from openmae.evaluation.quality.sample import Sample
from openmae.evaluation.quality.spread import dead_channels, deviation, rank_me
from openmae.evaluation.quality.trivial import Masked, TrivialErrors, trivial_errors
from openmae.recipes import PretrainRecipe

BATCH = 64


class Reconstructed(NamedTuple):
    """Mean squared `errors` of each channel [C] over the hidden patches, and the first `predictions` [R, L, P]."""

    errors: Tensor
    predictions: Tensor


@contextmanager
def undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within the block the network is in eval mode. Afterwards modes and random states are what they were before."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


class Measuring:
    """Measures networks of one recipe on one sample.

    Args:
        fabric: its device and precision; nothing is exchanged with other processes.
        recipe: how the network is trained.
        sample: the images.
        pictures: of how many of the images the prediction is kept.
    """

    def __init__(self, fabric: Fabric, recipe: PretrainRecipe, sample: Sample, *, pictures: int) -> None:
        self._fabric, self._recipe, self._sample, self._pictures = fabric, recipe, sample, pictures
        micro_batch = recipe.batch_size // (recipe.accumulate * fabric.world_size)
        self._batch = max(1, min(BATCH, micro_batch))  # that many fit into the memory of the device
        self._trivial: TrivialErrors | None = None

    def mask(self, model: MaskedAutoencoder, rows: slice) -> Mask:
        """The masks of some of the images: the same for every network of this recipe."""
        kept = kept_count(model.geometry.patches, self._recipe.mask_ratio)
        return mask_from_noise(self._sample.uniform[rows], kept, model.geometry.grid)

    def trivial(self, model: MaskedAutoencoder) -> TrivialErrors:
        """The errors of the trivial predictors; they do not depend on the network's weights."""
        if self._trivial is None:
            parts = (self._masked(model, rows) for rows in self._parts(len(self._sample.pixels)))
            self._trivial = trivial_errors(model.geometry, parts, normalised=model.normalise_target)
        return self._trivial

    def reconstruct(self, model: MaskedAutoencoder) -> Reconstructed:
        """Predict the hidden patches of all images, and compare."""
        squares, count, kept = torch.zeros(model.channels, dtype=torch.float64), 0.0, []
        for rows in self._parts(len(self._sample.pixels)):
            images, mask, counted = self._masked(model, rows)
            with self._fabric.autocast():  # the loss too is computed in the run's precision
                images, mask = images.to(self._fabric.device), mask.to(self._fabric.device)
                prediction_BLP = model(images, mask).prediction.double().cpu()
            target_BLP = model.geometry.patchify(images.double().cpu())
            if model.normalise_target:
                target_BLP = normalise_patches(target_BLP)
            mask = mask.to("cpu")
            hidden_BKP = take_patches((prediction_BLP - target_BLP).square(), mask.dropped)
            chosen_NP = hidden_BKP[counted.gather(1, mask.dropped)]
            squares += chosen_NP.reshape(len(chosen_NP), -1, model.channels).mean(dim=1).sum(dim=0)
            count += len(chosen_NP)
            kept.append(prediction_BLP[: max(0, self._pictures - rows.start)].float())
        return Reconstructed(errors=squares / max(1.0, count), predictions=torch.cat(kept))

    def features(self, model: MaskedAutoencoder, pixels: Tensor) -> NDArray[np.float32]:
        """The mean of the patch tokens of whole images, [N, D]."""
        found = []
        for rows in self._parts(len(pixels)):
            with self._fabric.autocast():
                images = normalise_pixels(pixels[rows].to(self._fabric.device), self._recipe.mean, self._recipe.std)
                found.append(pool_tokens(model.encoder, encode_images(model.encoder, images)).mean.float().cpu())
        features: NDArray[np.float32] = torch.cat(found).numpy()
        return features

    def figures(self, model: MaskedAutoencoder, reconstructed: Reconstructed) -> dict[str, float]:
        """Everything but the time that it took, by the names that metrics.jsonl has; what is not finite is left out."""
        own = self.features(model, self._sample.pixels)
        bank = None if self._sample.bank is None else self.features(model, self._sample.bank.pixels)
        features = torch.from_numpy(own if bank is None else np.concatenate([own, bank]))
        found = {
            "loss": float(reconstructed.errors.mean()),
            **{name: value for name, value in self.trivial(model)._asdict().items() if value is not None},
            "rank": rank_me(features) if bool(features.isfinite().all()) else np.nan,
            "deviation": deviation(features),
            "dead": dead_channels(features),
            **{f"error_{channel}": float(error) for channel, error in enumerate(reconstructed.errors)},
            **({} if bank is None else self._accuracies(own, bank)),
            "held_out": float(self._sample.held_out),
        }
        return {f"quality/{name}": round(value, 6) for name, value in found.items() if np.isfinite(value)}

    def highest_rank(self, model: MaskedAutoencoder) -> int:
        """The rank of features that use every direction that so many images can tell apart."""
        bank, width = self._sample.bank, int(model.encoder.embed_dim)
        return min(width, len(self._sample.pixels) + (0 if bank is None else len(bank.labels)))

    def _accuracies(self, own: NDArray[np.float32], bank: NDArray[np.float32]) -> Mapping[str, float]:
        """kNN and linear probe in per cent: of the labelled images by the bank, or of the bank by the rest of it."""
        known, labelled = np.flatnonzero(self._sample.labels >= 0), self._sample.bank
        assert labelled is not None
        if not (np.isfinite(own).all() and np.isfinite(bank).all()):
            return {}
        labels, classes = labelled.labels, labelled.classes
        if len(known):
            queries, answers = own[known], self._sample.labels[known]
            nearest = knn(bank, labels, queries, answers, classes=classes)
        else:
            nearest = knn(bank, labels, None, None, classes=classes)
            half = len(bank) // 2
            queries, answers, bank, labels = bank[half:], labels[half:], bank[:half], labels[:half]

        # Here because scikit-learn takes seconds to import, and not every run has labels.
        from openmae.evaluation.heads.ridge import fit_one_of

        outputs = fit_one_of(bank, labels, queries, classes=classes)
        return {"knn": nearest.top1, "probe": score(outputs, answers).top1}

    def _masked(self, model: MaskedAutoencoder, rows: slice) -> Masked:
        pixels = self._sample.pixels[rows]
        counted = torch.ones(len(pixels), model.geometry.patches, dtype=torch.bool)
        if pixels.is_floating_point():
            counted = patches_with_data(model.geometry.patchify(pixels))
        with self._fabric.autocast():
            images = normalise_pixels(pixels, self._recipe.mean, self._recipe.std)
        return Masked(images=images, mask=self.mask(model, rows), counted=counted)

    def _parts(self, images: int) -> Iterator[slice]:
        return (slice(start, min(start + self._batch, images)) for start in range(0, images, self._batch))
