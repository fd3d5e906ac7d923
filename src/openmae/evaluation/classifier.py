"""A trained classifier, from an image file to class scores."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn

from openmae.core.network import Network
from openmae.data.sources.labels import ClassView
from openmae.data.targets import Kind, Targets
from openmae.data.transforms import normalise_pixels
from openmae.errors import UserError, one_line
from openmae.evaluation.forward import evaluation_images
from openmae.evaluation.heads.linear_probe import LinearProbe
from openmae.evaluation.tasks import task_from_notes
from openmae.evaluation.tasks.task import Task
from openmae.recipes import SupervisedRecipe
from openmae.recipes.values import Pooling
from openmae.weights.building import classifier_from, encoder_from
from openmae.weights.finding import is_onnx
from openmae.weights.reading import read_weights
from openmae.weights.strict import load_strictly
from openmae.weights.weights import HEAD_PREFIX, Weights

PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")
PROBE = f"{HEAD_PREFIX}0.running_mean"


class Classifier(nn.Module):
    """A fine-tuned network or a linear probe, in eval mode: images [B, C, H, W] from `transform` to outputs [B, O].

    Args:
        model: the network with its head.
        network: how it wants images.
        task: the meaning of the outputs: scores of classes before the softmax, logits of labels, or a number in units
            of the training numbers' standard deviation.
    """

    def __init__(self, model: nn.Module, network: Network, task: Task) -> None:
        super().__init__()
        self.model, self.network, self.task = model, network, task
        self.eval()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the outputs: classes or labels; () for a number."""
        notes = self.task.notes()
        return tuple(notes.get("classes", notes.get("labels", ())))

    def transform(self, image: str | Path | bytes | Image.Image | NDArray[Any]) -> Tensor:
        """One image as the network wants it: [C, H, W], resized, cropped and normalised as `openmae predict` does.

        A large JPEG is decoded smaller where it is given as a file or as its bytes. As a PIL image it has been decoded
        whole, and its pixels differ by rounding.

        Args:
            image: a file, its bytes, a PIL image, or an array [H, W] or [H, W, C].

        Raises:
            UserError: when it cannot be read, or has other channels or another pixel type than the network takes.
        """
        name = str(image) if isinstance(image, str | Path) else "the image"
        try:
            dataset = evaluation_images(self.network, _OneImage(_encoded(image), name))
        except OSError as error:
            raise UserError(
                f"{name} cannot be read ({one_line(error)}); check the path and your access to it"
            ) from error
        sample = dataset[0, 0]
        if not sample.views:
            raise UserError(f"{name} cannot be used ({sample.bad[0].reason}); give another image")
        pixels = torch.from_numpy(np.array(sample.views[0])).permute(2, 0, 1)[None]
        return normalise_pixels(pixels, self.network.mean, self.network.std)[0]

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.model(images)
        return outputs


def load_classifier(spec: str | Path) -> Classifier:
    """The network that `openmae finetune` or `openmae linear` has trained, or one of another project with a classifier.

    An ONNX file of a classifier is run by onnxruntime.

    Raises:
        UserError: when the weights have no classifier.
    """
    if is_onnx(spec):
        from openmae.evaluation.onnx.running import OnnxHead, open_onnx

        graph = open_onnx(Path(spec), "classifier")
        head = OnnxHead(graph)
        return Classifier(head, graph.network, task_from_notes(graph.description.notes, head.outputs, Path(spec)))
    return classifier_of(read_weights(spec), spec)


def classifier_of(weights: Weights, spec: str | Path) -> Classifier:
    """The classifier of these weights, which `spec` named.

    Raises:
        UserError: when they have none.
    """
    if not weights.has_head:
        raise UserError(
            f"{weights.file} is an encoder without a classifier; train one with `openmae finetune` or `openmae linear "
            f"--weights {spec}`, and give its run folder"
        )
    probe = PROBE in weights.tensors
    outputs = len(weights.tensors[f"{HEAD_PREFIX}1.weight" if probe else f"{HEAD_PREFIX}weight"])
    task = task_from_notes(weights.notes, outputs, weights.file)
    model = _probe_from(weights, outputs) if probe else classifier_from(weights)
    return Classifier(model, weights.network, task)


def _probe_from(weights: Weights, outputs: int) -> LinearProbe:
    vit = encoder_from(weights)
    pool: Pooling = "cls" if vit.cls_token is not None else "mean"  # as the reference and OpenMMLab do
    if isinstance(weights.recipe, SupervisedRecipe):
        pool = weights.recipe.pool
    probe = LinearProbe(vit, outputs, pool=pool, head_std=1.0)
    head = {
        name.removeprefix(HEAD_PREFIX): tensor
        for name, tensor in weights.tensors.items()
        if name.startswith(HEAD_PREFIX)
    }
    load_strictly(probe.head, head, weights.file)
    return probe


def _encoded(image: str | Path | bytes | Image.Image | NDArray[Any]) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return Path(image).read_bytes()
    file = io.BytesIO()
    if isinstance(image, Image.Image):
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "F":  # of which PNG knows nothing
            upright.save(file, "TIFF")
        else:
            (upright if upright.mode in PNG_MODES else upright.convert("RGB")).save(file, "PNG", compress_level=0)
    else:
        np.save(file, image, allow_pickle=False)
    return file.getvalue()


class _OneImage(ClassView):
    """A source of one image in memory."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name = data, name

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> bytes:  # noqa: ARG002
        return self._data

    def name(self, index: int) -> str:  # noqa: ARG002
        return self._name

    def targets(self, kind: Kind) -> Targets:
        return Targets(kind=kind, values=np.full(1, -1), known=np.zeros(1, dtype=bool))
