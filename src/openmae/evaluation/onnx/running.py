"""ONNX files run by onnxruntime, in the place of a network of torch."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openmae.core.geometry import size_text
from openmae.core.network import Network
from openmae.errors import UserError, one_line
from openmae.evaluation.features import FeatureModel, Pooled
from openmae.evaluation.onnx.description import GRAPH_KEY, Description, from_metadata
from openmae.evaluation.onnx.graphs import WHITE
from openmae.evaluation.onnx.inspecting import digest_of_graph, metadata_of, read_model
from openmae.evaluation.onnx.memory import require_bounded
from openmae.evaluation.onnx.packages import package
from openmae.reporter import say
from openmae.weights.results import OnnxPart

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
ONLY_ERRORS = 3


class OnnxModel(nn.Module):
    """A graph as a module: images [B, C, H, W] as its network wants them to its outputs by name."""

    def __init__(self, session: Any, description: Description) -> None:
        super().__init__()
        self._session = session
        self.description = description
        self.sizes = {output.name: tuple(output.shape) for output in session.get_outputs()}

    @property
    def network(self) -> Network:
        """How images are to be prepared."""
        return self.description.taken

    def forward(self, images: Tensor, **others: Tensor) -> dict[str, Tensor]:
        if self.description.pixels == "uint8":
            images = (images * WHITE).round().clamp(0, WHITE).to(torch.uint8)
        feeds = {name: tensor.cpu().numpy() for name, tensor in {"images": images, **others}.items()}
        try:
            outputs = self._session.run(None, feeds)
        except Exception as error:  # onnxruntime raises its own kinds
            raise UserError(
                f"onnxruntime cannot run this graph ({one_line(error)[:200]}); write it anew with `openmae convert`"
            ) from error
        return {
            name: torch.from_numpy(values).to(images.device) for name, values in zip(self.sizes, outputs, strict=True)
        }


class OnnxEncoder(FeatureModel):
    """The features of images by a graph."""

    def __init__(self, model: OnnxModel) -> None:
        super().__init__(width=int(model.sizes["mean"][1]), has_class_token="cls" in model.sizes)
        self.model = model

    def forward(self, images: Tensor) -> Pooled:
        outputs = self.model(images)
        return Pooled(cls=outputs.get("cls"), mean=outputs["mean"])


class OnnxHead(nn.Module):
    """The outputs of a classifier by a graph."""

    def __init__(self, model: OnnxModel) -> None:
        super().__init__()
        self.model = model
        (self._name, size), *_ = model.sizes.items()
        self.outputs = int(size[1])

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.model(images)[self._name]
        return outputs


def open_onnx(file: Path, part: OnnxPart) -> OnnxModel:
    """The graph of a file, ready to run.

    Raises:
        UserError: when it cannot be read, is damaged, or is another part of a network.
    """
    description, content = _verified(file, part)
    model = OnnxModel(session_of(content, file), description)
    _require_shapes(model, file)
    say(f"{file}: the {part} of {description.network.backbone} as ONNX, run by onnxruntime")
    return model


def session_of(content: bytes, file: Path) -> Any:
    """onnxruntime with this graph in memory, so that no file beside it can be read.

    Raises:
        UserError: when it refuses the graph.
    """
    onnxruntime = package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = ONLY_ERRORS
    providers = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime raises its own kinds
        raise UserError(
            f"onnxruntime refuses {file} ({one_line(error)[:200]}); write it anew with `openmae convert --to onnx`"
        ) from error


def _verified(file: Path, part: OnnxPart) -> tuple[Description, bytes]:
    model = read_model(file)
    metadata = metadata_of(model)
    description = from_metadata(metadata, file)
    if metadata.get(GRAPH_KEY) != digest_of_graph(model):
        raise UserError(
            f"{file} is damaged or was changed by another program: its graph is not the one that was written; write it "
            "anew with `openmae convert --to onnx`"
        )
    if description.part != part:
        raise UserError(
            f"{file} is the {description.part} of a network, and this needs its {part}; write that with `openmae "
            f"convert --to onnx --part {part}`"
        )
    require_bounded(model, file)
    return description, model.SerializeToString()


def _require_shapes(model: OnnxModel, file: Path) -> None:
    """Refuse a graph whose inputs and outputs are not those of its description."""
    network, (images, *others) = model.network, model._session.get_inputs()
    expected = [network.channels, *network.image_size]
    kind = "tensor(uint8)" if model.description.pixels == "uint8" else "tensor(float)"
    if images.name != "images" or images.type != kind or list(images.shape[1:]) != expected:
        raise UserError(
            f"{file} takes {images.type} of {size_text(images.shape[1:])}, but its description says {kind} of "
            f"{size_text(expected)}; write it anew"
        )
    vectors = {name: size for name, size in model.sizes.items() if name != "patches"}
    missing = {"mean"} - vectors.keys() if model.description.part == "encoder" else set[str]()
    if others or missing or any(len(size) != 2 or not isinstance(size[1], int) for size in vectors.values()):
        raise UserError(f"{file} has other inputs or outputs than its description says; write it anew")
