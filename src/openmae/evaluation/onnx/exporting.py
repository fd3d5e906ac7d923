"""Networks written as ONNX files, with proof that onnxruntime computes the same."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from openmae.core.masking import Mask, kept_count, random_mask
from openmae.core.network import Network
from openmae.data.transforms import normalise_pixels
from openmae.errors import UserError
from openmae.evaluation.classifier import classifier_of
from openmae.evaluation.onnx.description import GRAPH_KEY, Description
from openmae.evaluation.onnx.graphs import AutoencoderGraph, ClassifierGraph, EncoderGraph, Graph
from openmae.evaluation.onnx.inspecting import MOST_BYTES, digest_of_graph, read_model
from openmae.evaluation.onnx.packages import package
from openmae.evaluation.onnx.running import session_of
from openmae.files import replacing
from openmae.weights.building import USUAL_MASK_RATIO, autoencoder_from, encoder_from
from openmae.weights.finding import ONNX_SUFFIX
from openmae.weights.reading import read_weights
from openmae.weights.results import Conversion, OnnxPart, OnnxPixels
from openmae.weights.weights import Weights

TOLERANCE = 1e-4
"""Both sides compute in single precision, in another order."""
OPSET = 20  # the first with GELU
BATCHES = (2, 3)  # the first is exported with, the second must work as well


def export_onnx(source: str | Path, out: Path, *, part: OnnxPart | None, pixels: OnnxPixels) -> Conversion:
    """Write a part of a network as an ONNX file. `out` appears only after the proof.

    Args:
        source: what `read_weights` reads.
        out: the file to write.
        part: None: the classifier where there is one, else the encoder.
        pixels: the form of the images that the graph takes.

    Raises:
        UserError: when `out` exists, the source has no such part, or onnxruntime computes something else.
    """
    _require_place(out)
    for name in ("onnx", "onnxscript", "onnxruntime"):
        package(name)
    return export_weights(read_weights(source, with_decoder=part == "autoencoder"), out, part=part, pixels=pixels)


def export_weights(weights: Weights, out: Path, *, part: OnnxPart | None, pixels: OnnxPixels) -> Conversion:
    """As `export_onnx`, of weights that were read."""
    part = part or ("classifier" if weights.has_head else "encoder")
    network = weights.network
    _require_pixels(network, pixels, weights.file)
    chosen = _graph_of(weights, part, pixels)
    graph = chosen.graph.eval().requires_grad_(False)
    _require_size(graph, weights.file)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        _export(graph, _example(graph, network, pixels, BATCHES[0]), file)
        description = Description(network=network, part=part, pixels=pixels, notes=chosen.notes, weights=weights.digest)
        _describe(file, description.metadata(version("openmae")))
        difference = max(
            _difference(graph, description, file, _example(graph, network, pixels, batch)) for batch in BATCHES
        )
        if not difference <= TOLERANCE:  # also refuses NaN
            raise UserError(
                f"onnxruntime computes something else from the converted weights (largest difference {difference:.2g}, "
                f"more than {TOLERANCE:g}), so they were removed; try another --to"
            )
        session = session_of(file.read_bytes(), out)
    return {
        "source": weights.layout,
        "target": "onnx",
        "tensors": len(graph.state_dict()),
        "dropped": chosen.dropped,
        "not_said": [],
        "inputs": [_shown(value) for value in session.get_inputs()],
        "outputs": [_shown(value) for value in session.get_outputs()],
        "largest_difference": difference,
        "checked_with": f"onnxruntime {package('onnxruntime').__version__}",
        "out": str(out),
        "url": None,
    }


class _Chosen(NamedTuple):
    """A part of a network, the meaning of its outputs, and the parts that are left out."""

    graph: Graph
    notes: Mapping[str, Any]
    dropped: list[str]


def _graph_of(weights: Weights, part: OnnxPart, pixels: OnnxPixels) -> _Chosen:
    network = weights.network
    if part == "autoencoder":
        return _Chosen(AutoencoderGraph(autoencoder_from(weights).model, network, pixels), {}, [])
    if part == "classifier":
        classifier = classifier_of(weights, weights.file)
        notes = classifier.task.notes()
        number = classifier.task.name == "regression"
        return _Chosen(ClassifierGraph(classifier.model, network, pixels, number=number), notes, [])
    left_out = [("the decoder", weights.has_decoder), ("the classifier", weights.has_head)]
    graph = EncoderGraph(encoder_from(weights), network, pixels)
    return _Chosen(graph, {}, [name for name, there in left_out if there])


def _require_place(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists already; remove it or give another name")
    if out.suffix != ONNX_SUFFIX:
        raise UserError(f"{out} must be a file of ONNX for --to onnx; give a name that ends in {ONNX_SUFFIX}")


def _require_pixels(network: Network, pixels: OnnxPixels, file: Path) -> None:
    if pixels == "uint8" and network.pixel_type != "uint8":
        raise UserError(
            f"{file} is of a network for pixels of {network.pixel_type}, which 8 bits do not hold; give --pixels unit "
            "or normalised"
        )
    if pixels != "normalised" and not network.mean:
        raise UserError(f"{file} does not say its mean and std, by which to normalise; give --pixels normalised")


def _require_size(graph: Graph, file: Path) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in graph.state_dict().values())
    if size > MOST_BYTES - 2**24:  # room for the graph itself
        raise UserError(
            f"{file} has {size / 1e9:.1f} GB of tensors, and one ONNX file holds 2 GB; use --to timm or huggingface"
        )


def _example(graph: Graph, network: Network, pixels: OnnxPixels, batch: int) -> dict[str, Tensor]:
    """Random inputs of a graph."""
    generator = torch.Generator().manual_seed(batch)
    shape = (batch, network.channels, *network.image_size)
    if pixels == "uint8":
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    else:
        draw = torch.rand if pixels == "unit" else torch.randn
        images = draw(shape, generator=generator)
    if "kept" not in graph.inputs:
        return {"images": images}
    patches = network.geometry.patches
    # Another number of visible patches than the graph was exported with must work as well.
    kept = kept_count(patches, USUAL_MASK_RATIO if batch == BATCHES[0] else 0.5)
    mask: Mask = random_mask(batch=batch, patches=patches, kept=kept, generator=generator)
    return {"images": images, "kept": mask.kept, "dropped": mask.dropped}


def _export(graph: Graph, example: Mapping[str, Tensor], file: Path) -> None:
    """Write the graph by torch's exporter; the number of images, and of visible patches, is free."""
    free: dict[str, dict[int, str]] = {name: {0: "batch"} for name in graph.inputs}
    for name in graph.inputs[1:]:
        free[name][1] = name
    with _quiet():
        program = torch.onnx.export(
            graph,
            tuple(example[name] for name in graph.inputs),
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=tuple(free.values()),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert program is not None, "the exporter of dynamo returns a program"
    with file.open("wb") as opened:
        opened.write(program.model_proto.SerializeToString())


def _describe(file: Path, metadata: Mapping[str, str]) -> None:
    """Write the metadata into the file, in the place of the exporter's notes, which name paths of this machine."""
    model = read_model(file)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for key, value in {**metadata, GRAPH_KEY: digest_of_graph(model)}.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "openmae", metadata["openmae.version"]
    file.write_bytes(model.SerializeToString())


@torch.inference_mode()
def _difference(graph: Graph, description: Description, file: Path, example: Mapping[str, Tensor]) -> float:
    """Largest difference of the outputs; of those that go beyond 1, relative to the largest.

    Pixels that the graph normalises are normalised here as `embed` and `predict` do it.
    """
    images, *others = (example[name] for name in graph.inputs)
    if description.pixels != "normalised":
        images = normalise_pixels(images, description.network.mean, description.network.std)
    expected = graph.compute(images, *others)
    session = session_of(file.read_bytes(), file)
    found = session.run(list(graph.outputs), {name: tensor.numpy() for name, tensor in example.items()})
    differences = []
    for ours, theirs in zip(expected, found, strict=True):
        if ours.shape != theirs.shape:
            return float("nan")
        differences.append(float((ours - torch.from_numpy(theirs)).abs().max() / ours.abs().max().clamp(min=1)))
    return max(differences) if all(map(_is_number, differences)) else float("nan")


def _is_number(value: float) -> bool:
    return value == value


def _shown(value: Any) -> str:
    """An input or output of a graph: "images [batch, 3, 224, 224] float"."""
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    return f"{value.name} [{', '.join(map(str, value.shape))}] {kind}"


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter without its remarks about its own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
