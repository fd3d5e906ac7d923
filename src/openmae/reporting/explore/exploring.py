"""What the page shows, computed without it: an image, its mask, and what the network makes of them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openmae.core.masking import Mask
from openmae.data.batches import SeededImages
from openmae.data.decoding import BadImage, Pixels, Reading, decode, why_unreadable
from openmae.data.transforms import apply, normalise_pixels
from openmae.errors import UserError
from openmae.evaluation.features import PooledEncoder
from openmae.evaluation.forward import evaluation_transform
from openmae.evaluation.reconstructing import visible_bands
from openmae.evaluation.views import attention_maps, fixed_masks, image_errors, neighbours, patch_errors
from openmae.reporting.explore import drawing
from openmae.reporting.explore.bank import Bank
from openmae.reporting.pictures import predict_pixels
from openmae.training.pixels import pixel_format
from openmae.weights.building import LoadedAutoencoder

NEAREST = 10


class Reconstruction(NamedTuple):
    """Pictures [H, W, 3] uint8 of one image under one mask, and its figures.

    `error` is the loss over the hidden patches, `largest` that of the worst of them, and `flat` what it would be if
    each of them were of its own mean colour.
    """

    masked: Pixels
    reconstruction: Pixels
    errors: Pixels
    error: float
    largest: float
    flat: float
    hidden: int


class Nearest(NamedTuple):
    """An image of the data that is like another one; `label` is the name of its class, "" without one."""

    picture: Pixels
    name: str
    label: str
    similarity: float


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """A pre-trained network and some images.

    Args:
        loaded: the network, in eval mode, on the CPU.
        reading: how files are read.
        bank: encoded images, among which the nearest are found; None without data.
    """

    loaded: LoadedAutoencoder
    reading: Reading
    bank: Bank | None = None
    _encoder: PooledEncoder = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_encoder", PooledEncoder(self.loaded.model.encoder))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.loaded.model.geometry.grid
        return rows, columns

    @property
    def ratios(self) -> tuple[float, float]:
        """The smallest and the largest mask ratio: one patch hidden, and one visible."""
        patches = self.loaded.model.geometry.patches
        return 1 / patches, 1 - 1 / patches

    def from_data(self, place: int) -> Pixels:
        """The image at this place of the bank as the network takes it, [H, W, C].

        Raises:
            UserError: when there are no data, or the image cannot be read any more.
        """
        if self.bank is None:
            raise UserError("there are no data to take an image from; drop one in, or start again with --data")
        return _image(self.bank.images(self.loaded.network, self.reading), int(self.bank.indices[place]))

    def from_file(self, file: Path) -> Pixels:
        """An image file as the network takes it, [H, W, C].

        Raises:
            UserError: when it cannot be read as such.
        """
        network = self.loaded.network
        try:
            pixels = decode(file.read_bytes(), pixel_format(network), self.reading)
        except (BadImage, OSError) as error:
            raise UserError(
                f"{file.name} cannot be read ({why_unreadable(error)}); drop in an image like those of the training"
            ) from error
        return apply(evaluation_transform(network), pixels)

    def random_mask(self, ratio: float, *, seed: int) -> NDArray[np.bool_]:
        """Which patches are hidden, [rows, columns]. With the same seed a larger ratio hides the same ones and more."""
        smallest, largest = self.ratios
        hidden: NDArray[np.bool_] = (
            fixed_masks(self.loaded.model.geometry, [0], min(max(ratio, smallest), largest), seed=seed)
            .as_grid()[0]
            .numpy()
        )
        return hidden

    def toggled(self, hidden: NDArray[np.bool_], row: int, column: int) -> NDArray[np.bool_]:
        """The mask with one patch hidden that was visible, or the other way round.

        Raises:
            UserError: when no patch would be hidden, or none visible.
        """
        changed = hidden.copy()
        changed[row, column] = not hidden[row, column]
        if changed.all() or not changed.any():
            left = "visible" if changed.all() else "hidden"
            raise UserError(f"this is the last {left} patch, and the network needs one; click another one first")
        return changed

    def patch_at(self, x: int, y: int) -> tuple[int, int]:
        """Row and column of the patch at a pixel of the picture `masked`."""
        height, width = self.loaded.model.geometry.size
        factor = max(1, round(drawing.SHOWN / height))
        rows, columns = self.grid
        return min(rows - 1, y * rows // (height * factor)), min(columns - 1, x * columns // (width * factor))

    def reconstruct(self, pixels: Pixels, hidden: NDArray[np.bool_], *, everything: bool = False) -> Reconstruction:
        """Reconstruct the hidden patches.

        Args:
            pixels: the image [H, W, C] as the network takes it.
            hidden: which patches, [rows, columns].
            everything: show the prediction of visible patches too, which is not trained.
        """
        model, network = self.loaded.model, self.loaded.network
        image, mask = _batch(pixels), _mask(hidden)
        normalised = normalise_pixels(image, network.mean, network.std)
        original, predicted = visible_bands(image, predict_pixels(model, network, image, mask))
        errors_BL = patch_errors(model, normalised, mask)
        shown, made = drawing.to_bytes(original), drawing.to_bytes(predicted)
        if not everything:
            made = np.where(drawing.over_patches(hidden, made)[..., None], made, shown)
        errors = errors_BL[0].reshape(hidden.shape).numpy()
        return Reconstruction(
            masked=drawing.masked(shown, hidden),
            reconstruction=drawing.enlarged(made),
            errors=drawing.heat_over(shown, np.where(hidden, errors, 0), missing=~hidden),
            largest=float(errors[hidden].max()),
            error=image_errors(errors_BL, mask).item(),
            flat=self._error_of_flat(normalised, mask),
            hidden=int(hidden.sum()),
        )

    def attention(self, pixels: Pixels, *, block: int = -1, head: int | None = None) -> Pixels:
        """Where the class token looks in the whole image, in one block: in one of its heads, or in all on average."""
        network = self.loaded.network
        images = normalise_pixels(_batch(pixels), network.mean, network.std)
        maps_hRC = attention_maps(self.loaded.model.encoder, images, block)[0].numpy()
        values = maps_hRC.mean(axis=0) if head is None else maps_hRC[head]
        return drawing.heat_over(drawing.as_colours(pixels), values)

    @torch.inference_mode()
    def nearest(self, pixels: Pixels, *, without: int | None = None, count: int = NEAREST) -> list[Nearest]:
        """The images of the bank whose mean patch token is most similar, the most similar first.

        Args:
            pixels: the image [H, W, C] as the network takes it.
            without: the place of this image in the bank, which would find itself.
            count: how many.
        """
        if self.bank is None:
            return []
        network = self.loaded.network
        feature = self._encoder(normalise_pixels(_batch(pixels), network.mean, network.std)).mean.float().numpy()
        found = [int(place) for place in neighbours(self.bank.features, feature, count + 1)[0] if place != without]
        return [
            Nearest(
                picture=drawing.as_colours(self.from_data(place)),
                name=self.bank.name(place),
                label=self.bank.label(place),
                similarity=_cosine(self.bank.features[place], feature[0]),
            )
            for place in found[:count]
        ]

    def _error_of_flat(self, normalised: Tensor, mask: Mask) -> float:
        """The loss of a prediction that knows the mean of each hidden patch and nothing else."""
        model = self.loaded.model
        patches = model.geometry.patchify(normalised).float()
        variance_BL = patches.var(dim=-1, unbiased=False)
        if model.normalise_target:
            variance_BL = variance_BL / (patches.var(dim=-1) + 1e-6)
        return image_errors(variance_BL, mask).item()


def _image(images: SeededImages, index: int) -> Pixels:
    sample = images[0, index]
    if not sample.views:
        raise UserError(f"{sample.bad[0].name} cannot be read ({sample.bad[0].reason}); choose another image")
    return sample.views[0]


def _batch(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).unsqueeze(0)


def _mask(hidden: NDArray[np.bool_]) -> Mask:
    flat = torch.from_numpy(hidden.reshape(1, -1))
    places = torch.arange(flat.shape[1]).unsqueeze(0)
    return Mask(kept=places[~flat].unsqueeze(0), dropped=places[flat].unsqueeze(0), grid=hidden.shape)


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12))
