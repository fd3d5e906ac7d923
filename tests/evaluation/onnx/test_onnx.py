"""ONNX files: written with proof, run in the place of the weights, and refused when they are not as they say."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch

import openmae
from openmae.cli import main
from openmae.core.masking import random_mask
from openmae.errors import UserError
from openmae.evaluation.classifier import load_classifier
from openmae.evaluation.onnx import exporting, inspecting, memory, packages, running
from openmae.evaluation.onnx.description import NETWORK_KEY, PART_KEY, WEIGHTS_KEY, Description
from openmae.evaluation.predicting import predict
from openmae.weights.formats.own import TASK_KEY
from openmae.weights.reading import read_weights
from openmae.weights.results import Conversion
from openmae.weights.weights import Weights
from tests.weights.formats.samples import CLASSES, NETWORK, autoencoder_from, weights_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def encoder(tiny_run: Path, folder: Path) -> Conversion:
    return openmae.convert(tiny_run, folder / "encoder.onnx", to="onnx", pixels="uint8")


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Conversion:
    """Of a file of another project, with a linear probe."""
    return exporting.export_weights(probe(), folder / "probe.onnx", part=None, pixels="unit")


@pytest.fixture(scope="module")
def handmade(tiny_run: Path, folder: Path) -> Path:
    """The mean brightness of an image, which a stranger may call an encoder."""
    inputs = [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["batch", 1, 28, 28])]
    outputs = [onnx.helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, ["batch", 1])]
    axes = onnx.numpy_helper.from_array(np.array([2, 3]), "axes")
    nodes = [
        onnx.helper.make_node("Cast", ["images"], ["numbers"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("ReduceMean", ["numbers", "axes"], ["mean"], keepdims=0),
    ]
    graph = onnx.helper.make_graph(nodes, "handmade", inputs, outputs, [axes])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    weights = read_weights(tiny_run)
    network = replace(weights.network, decoder=None, eval_resize=100)
    described = Description(network=network, part="encoder", pixels="uint8", notes={}, weights=weights.digest)
    for key, value in described.metadata("1").items():
        model.metadata_props.add(key=key, value=value)
    return changed(model, folder / "handmade.onnx", lambda model: None)


def notes() -> dict[str, Any]:
    return {"task": "classification", "classes": [f"class {number}" for number in range(CLASSES)]}


def probe() -> Weights:
    network = replace(NETWORK, depth=1, image_size=(8, 12), channels=1, mean=(0.3,), std=(0.2,), eval_resize=9)
    return replace(weights_of("probe", network), notes=notes())


def rows_of(file: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pq.read_table(file).to_pydict()
    return found


def test_the_result_names_inputs_outputs_and_the_largest_difference(encoder: Conversion) -> None:
    assert encoder["inputs"] == ["images [batch, 1, 28, 28] uint8"]
    assert encoder["outputs"] == [
        "cls [batch, 32] float",
        "mean [batch, 32] float",
        "patches [batch, 32, 7, 7] float",
    ]
    assert encoder["largest_difference"] is not None
    assert 0 < encoder["largest_difference"] < 1e-5
    assert encoder["checked_with"].startswith("onnxruntime ")


def test_the_file_says_everything_but_nothing_about_this_machine(encoder: Conversion, tiny_run: Path) -> None:
    content = Path(encoder["out"]).read_bytes()
    metadata = inspecting.metadata_of(onnx.load_from_string(content))
    assert metadata[WEIGHTS_KEY] == read_weights(tiny_run).digest
    assert metadata[PART_KEY] == "encoder"
    assert running.open_onnx(Path(encoder["out"]), "encoder").description.network == read_weights(tiny_run).network
    for path in (str(tiny_run), "site-packages", "stack_trace", "openmae/core"):
        assert path.encode() not in content, path


def test_embed_writes_the_same_table_from_the_onnx_file(
    encoder: Conversion, tiny_run: Path, small_fashion: Path, tmp_path: Path
) -> None:
    tables = {}
    for name, weights in (("torch", tiny_run), ("onnx", Path(encoder["out"]))):
        openmae.embed(weights=weights, data=small_fashion, out=tmp_path / name)
        tables[name] = pq.read_table(tmp_path / name)
    ours, theirs = tables["torch"], tables["onnx"]
    assert ours.schema == theirs.schema
    assert ours.drop(["mean", "cls"]).equals(theirs.drop(["mean", "cls"]))
    for column in ("mean", "cls"):
        np.testing.assert_allclose(theirs[column].to_pylist(), ours[column].to_pylist(), atol=1e-5)


def test_the_difference_is_that_of_all_outputs(
    tiny_run: Path, encoder: Conversion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph of other weights is not taken for right."""

    def other(model: Any) -> None:
        tensor = next(part for part in model.graph.initializer if part.name.endswith("norm.bias"))
        values = np.frombuffer(tensor.raw_data, dtype=np.float32) + np.float32(2e-4)
        tensor.raw_data = values.tobytes()

    content = changed(onnx.load(encoder["out"]), tmp_path / "other", other).read_bytes()
    monkeypatch.setattr(exporting, "_export", lambda graph, example, file: file.write_bytes(content))
    with pytest.raises(UserError, match=r"largest difference \d"):
        openmae.convert(tiny_run, tmp_path / "a.onnx", to="onnx", pixels="uint8")


def test_predict_and_python_get_the_same_classes_from_the_onnx_file(
    classifier: Conversion, small_fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(classifier["out"], str(small_fashion), out=tmp_path / "onnx.parquet")
    monkeypatch.setattr("openmae.evaluation.classifier.read_weights", lambda _: probe())
    predict("anything", str(small_fashion), out=tmp_path / "torch.parquet")
    ours, theirs = rows_of(tmp_path / "torch.parquet"), rows_of(tmp_path / "onnx.parquet")
    assert theirs.keys() == ours.keys()
    assert (theirs["label"], theirs["path"], theirs["split"]) == (ours["label"], ours["path"], ours["split"])
    assert len(set(theirs["label"])) > 1
    assert theirs["probability"] == pytest.approx(ours["probability"], abs=1e-5)

    loaded = load_classifier(classifier["out"])
    assert loaded.class_names == tuple(notes()["classes"])
    image = np.arange(8 * 12, dtype=np.uint8).reshape(8, 12) * 2
    batch = loaded.transform(image)[None]
    assert batch.amin() >= 0
    assert batch.amax() <= 1, "the graph normalises"
    assert loaded(batch).shape == (1, CLASSES)
    assert json.loads(metadata_of(classifier)[TASK_KEY])["classes"] == notes()["classes"]


def test_the_whole_autoencoder_takes_any_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = weights_of("autoencoder", replace(NETWORK, depth=1))
    monkeypatch.setattr(exporting, "read_weights", lambda *_, **__: weights)
    written = openmae.convert("anything", tmp_path / "mae.onnx", to="onnx", part="autoencoder")
    assert [name.partition(" ")[0] for name in written["inputs"]] == ["images", "kept", "dropped"]
    model = autoencoder_from(weights)
    session = onnxruntime.InferenceSession(tmp_path / "mae.onnx")
    generator = torch.Generator().manual_seed(0)
    for batch, kept in ((1, 3), (5, 9)):
        images = torch.randn(batch, 3, 16, 16, generator=generator)
        mask = random_mask(batch=batch, patches=16, kept=kept, generator=generator)
        feeds = {"images": images.numpy(), "kept": mask.kept.numpy(), "dropped": mask.dropped.numpy()}
        (found,) = session.run(None, feeds)
        with torch.inference_mode():
            expected = model(images, mask)
        torch.testing.assert_close(torch.from_numpy(found), expected.prediction, atol=1e-5, rtol=0)
        loss = model.loss(model.geometry.patchify(images), torch.from_numpy(found), mask)
        torch.testing.assert_close(loss, expected.loss, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match=r"is the autoencoder of a network, .* --part encoder"):
        openmae.embed(weights=tmp_path / "mae.onnx", data="fashion-mnist", out=tmp_path / "e.parquet")


# Refusals


def metadata_of(written: Conversion) -> dict[str, str]:
    return inspecting.metadata_of(onnx.load(written["out"]))


def changed(model: Any, file: Path, change: Callable[[Any], object], *, signed: bool = True) -> Path:
    """A file of the model with a change, as a stranger would make it: with the right digest of the graph."""
    change(model)
    entries = inspecting.metadata_of(model)
    if signed:
        entries["openmae.graph"] = inspecting.digest_of_graph(model)
    del model.metadata_props[:]
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)
    file.write_bytes(model.SerializeToString())
    return file


def describe(key: str, value: str) -> Callable[[Any], object]:
    def change(model: Any) -> None:
        for entry in model.metadata_props:
            if entry.key == key:
                entry.value = value

    return change


def network_with(before: str, after: str) -> Callable[[Any], object]:
    def change(model: Any) -> None:
        for entry in model.metadata_props:
            if entry.key == NETWORK_KEY:
                assert before in entry.value, entry.value
                entry.value = entry.value.replace(before, after)

    return change


def outside(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")


def outside_in_a_constant(model: Any) -> None:
    tensor = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL, data_type=1, dims=[1])
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["secret"], value=tensor))


def operation_of_others(model: Any) -> None:
    model.graph.node.append(onnx.helper.make_node("Anything", ["images"], ["more"], domain="com.stranger"))


def unusual_operation(model: Any) -> None:
    model.graph.node.append(onnx.helper.make_node("Loop", ["images"], ["more"]))


def graph_inside(model: Any) -> None:
    node = onnx.helper.make_node("Identity", ["images"], ["more"], body=onnx.GraphProto(name="inside"))
    model.graph.node.append(node)


def function(model: Any) -> None:
    model.functions.append(onnx.FunctionProto(name="Gelu", domain="com.stranger"))


def endless_tensor(model: Any) -> None:
    shape = onnx.numpy_helper.from_array(np.array([2**20, 2**20, 1, 1]), "far")
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("Expand", [model.graph.initializer[0].name, "far"], ["more"]))


def unknown_size(model: Any) -> None:
    """The values of the images are a size."""
    model.graph.node.append(onnx.helper.make_node("Cast", ["mean"], ["counts"], to=onnx.TensorProto.INT64))
    model.graph.node.append(onnx.helper.make_node("Flatten", ["counts"], ["flat"], axis=2))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["mean", "flat"], ["more"]))


def without_output(model: Any) -> None:
    model.graph.output[0].name = "numbers"


STRANGE: dict[str, tuple[Callable[[Any], object], str]] = {
    "data outside": (outside, "names data in another file, which no network of ours has; give a file of"),
    "data outside, in a constant": (outside_in_a_constant, "names data in another file"),
    "an operation of others": (operation_of_others, "has the operation 'com.stranger::Anything'"),
    "an unusual operation": (unusual_operation, "has the operation 'Loop'"),
    "a graph inside": (graph_inside, "has a graph inside a graph"),
    "a function": (function, "has functions, training or sparse tensors"),
    "a tensor of 2^40 values": (endless_tensor, "computes a tensor of .* values for one image"),
    "a tensor of unknown size": (unknown_size, "computes a tensor of unknown size|do not fit together"),
    "no output": (without_output, "has other inputs or outputs than its description says"),
    "no description": (lambda model: model.ClearField("metadata_props"), "does not say how it wants its images"),
    "a description that is none": (describe(NETWORK_KEY, "[1]"), "describes its network in no usable way"),
    "a description of 100,000 brackets": (describe(NETWORK_KEY, "[" * 100_000), "no usable way .100,000 characters"),
    "a description that calls Python": (describe(NETWORK_KEY, "!!python/object:os.system {}"), "in no usable way"),
    "images of absurd size": (network_with("- 28\n- 28", "- 100\n- 1000000"), "are too large"),
    "images of another size": (network_with("- 28\n- 28", "- 32\n- 32"), "but its description says"),
    "a resize without end": (network_with("eval_resize: 100", "eval_resize: 100000"), "it resizes images to 100000"),
    "an unknown field": (network_with("channels: 1", "canals: 1"), "nothing is known of 'canals'"),
    "an unknown part": (describe(PART_KEY, "soul"), "its part must be one of encoder"),
    "bytes as numbers": (describe("openmae.pixels", "unit"), r"takes tensor\(uint8\) .* says tensor\(float\)"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_file_of_a_stranger_is_refused_in_one_sentence(handmade: Path, tmp_path: Path, name: str) -> None:
    change, message = STRANGE[name]
    with pytest.raises(UserError, match=message) as error:
        running.open_onnx(changed(onnx.load(handmade), tmp_path / "strange.onnx", change), "encoder")
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)


def test_an_unchanged_copy_is_read(handmade: Path, tmp_path: Path) -> None:
    """Or the refusals above would show nothing."""
    running.open_onnx(changed(onnx.load(handmade), tmp_path / "same.onnx", lambda model: None), "encoder")


def test_a_single_changed_bit_is_noticed(handmade: Path, tmp_path: Path) -> None:
    def flip(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.raw_data = bytes([tensor.raw_data[0] ^ 1]) + tensor.raw_data[1:]

    with pytest.raises(UserError, match="is damaged or was changed by another program"):
        running.open_onnx(changed(onnx.load(handmade), tmp_path / "flipped.onnx", flip, signed=False), "encoder")


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no graph", b"\x80\x04."])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"as ONNX; check that|no network in it; check that"):
        running.open_onnx(tmp_path / "a.onnx", "encoder")


def test_what_is_too_large_is_refused_unread(handmade: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "MOST_BYTES", 100)
    with pytest.raises(UserError, match="is larger than an ONNX file can be"):
        running.open_onnx(handmade, "encoder")


def test_memory_is_bounded_by_the_shapes(handmade: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_VALUES", 700)
    with pytest.raises(UserError, match=r"computes a tensor of .* values for one image"):
        running.open_onnx(handmade, "encoder")


@pytest.mark.parametrize(
    "use",
    [
        lambda file: openmae.knn(weights=file, data="fashion-mnist"),
        lambda file: openmae.convert(file, file.with_name("new"), to="timm"),
        lambda file: openmae.load_encoder(file),
    ],
)
def test_other_verbs_say_that_an_onnx_file_has_no_weights_for_them(
    handmade: Path, use: Callable[[Path], object]
) -> None:
    with pytest.raises(UserError, match="is an ONNX file, which only embed and predict run; give the weights"):
        use(handmade)


@pytest.mark.parametrize("difference", [1.1e-4, float("nan")])
def test_a_graph_that_computes_something_else_is_removed(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handmade: Path, difference: float
) -> None:
    content = handmade.read_bytes()
    monkeypatch.setattr(exporting, "_export", lambda graph, example, file: file.write_bytes(content))
    monkeypatch.setattr(exporting, "_difference", lambda *_: difference)
    with pytest.raises(UserError, match=r"onnxruntime computes something else .* so they were removed"):
        openmae.convert(tiny_run, tmp_path / "a.onnx", to="onnx", pixels="uint8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dst": "a.safetensors"}, r"must be a file of ONNX .* ends in \.onnx"),
        ({"part": "classifier"}, "is an encoder without a classifier; train one"),
        ({"drop": True}, "--drop is not for --to onnx"),
        ({"to": "timm", "part": "encoder"}, "--part and --pixels are for --to onnx, not timm"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tiny_run: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        openmae.convert(**{"src": tiny_run, "to": "onnx", **options, "dst": tmp_path / options.get("dst", "a.onnx")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "pixels", "message"),
    [
        ({"pixel_type": "uint16"}, "uint8", "for pixels of uint16, which 8 bits do not hold"),
        ({"mean": (), "std": ()}, "unit", "does not say its mean and std"),
    ],
)
def test_pixels_that_the_network_does_not_take_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], pixels: Any, message: str
) -> None:
    weights = replace(weights_of("encoder"), network=replace(NETWORK, **changes))
    monkeypatch.setattr(exporting, "read_weights", lambda *_, **__: weights)
    with pytest.raises(UserError, match=message):
        exporting.export_onnx("anything", tmp_path / "a.onnx", part=None, pixels=pixels)


def test_an_encoder_alone_has_no_autoencoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "read_weights", lambda *_, **__: weights_of("encoder"))
    with pytest.raises(UserError, match="holds an encoder without its decoder"):
        exporting.export_onnx("anything", tmp_path / "a.onnx", part="autoencoder", pixels="normalised")


def test_tensors_beyond_two_gigabytes_are_refused_before_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "read_weights", lambda *_, **__: weights_of("autoencoder"))
    monkeypatch.setattr(exporting, "MOST_BYTES", 2**24 + 1000)
    with pytest.raises(UserError, match="and one ONNX file holds 2 GB; use --to timm or huggingface"):
        exporting.export_onnx("anything", tmp_path / "a.onnx", part="autoencoder", pixels="normalised")


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_one_sentence_with_the_extra(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:

    def only_others(name: str) -> Any:
        if name == missing:
            raise ImportError(name)
        return import_module(name)

    monkeypatch.setattr(packages, "import_module", only_others)
    with pytest.raises(UserError, match=rf"need {missing}, .* run `pip install 'openmae\[onnx\]'`"):
        openmae.convert(tiny_run, tmp_path / "a.onnx", to="onnx")


def test_the_command_shows_inputs_outputs_and_the_difference(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result: Conversion = {
        "source": "timm",
        "target": "onnx",
        "tensors": 3,
        "dropped": ["the decoder"],
        "not_said": [],
        "inputs": ["images [batch, 1, 28, 28] uint8"],
        "outputs": ["cls [batch, 32] float"],
        "largest_difference": 1.25e-6,
        "checked_with": "onnxruntime 1",
        "out": "b.onnx",
        "url": None,
    }
    monkeypatch.setattr(exporting, "export_onnx", lambda *_, **__: result)
    assert main(["convert", "a", "b.onnx", "--to", "onnx"]) == 0
    shown = capsys.readouterr().out
    assert "inputs:  images [batch, 1, 28, 28] uint8" in shown
    assert "in onnxruntime 1 the outputs differ by at most 1.3e-06" in shown
