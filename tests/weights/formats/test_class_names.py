"""Names of classes are read from the layouts that have a place for them, and written there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openmae.evaluation.classifier import load_classifier
from openmae.weights.foreign_files import writing
from openmae.weights.formats import configuration, huggingface, timm
from openmae.weights.reading import read_weights
from tests.weights.formats.samples import CLASSES, stored, weights_of

NAMES = tuple("abcdefg")
NOTES: dict[str, Any] = {"task": "classification", "classes": list(NAMES)}


@pytest.mark.parametrize(("target", "kind"), [("huggingface", "by class token"), ("timm", "fine-tuned")])
def test_a_converted_classifier_keeps_the_names_of_its_classes(tmp_path: Path, target: Any, kind: str) -> None:
    with writing(replace(weights_of(kind), notes=NOTES), target, tmp_path / "out"):
        pass
    assert read_weights(tmp_path / "out").notes == NOTES
    assert load_classifier(tmp_path / "out").class_names == NAMES


@pytest.mark.parametrize("kind", ["fine-tuned", "by class token", "probe"])
def test_classes_without_names_are_numbered(tmp_path: Path, kind: str) -> None:
    with writing(weights_of(kind), "fair", tmp_path / "out.pth"):
        pass
    (tmp_path / "config.json").write_text('{"model_args": {"num_heads": 3, "img_size": 16}}')
    assert load_classifier(tmp_path / "out.pth").class_names == tuple("0123456")


def test_several_labels_an_image_stay_several_labels() -> None:
    several = replace(weights_of("by class token"), notes={"task": "multilabel", "labels": list(NAMES)})
    config = huggingface.config_of(several)
    assert config["problem_type"] == "multi_label_classification"
    back = huggingface.weights_from(stored(huggingface.tensors_to(several), config=config))
    assert back.notes == several.notes


@pytest.mark.parametrize(
    "value", [None, [], "abcdefg", {"0": "a"}, [7] * CLASSES, {str(n): f"LABEL_{n}" for n in range(CLASSES)}]
)
def test_what_names_nothing_is_no_name(value: Any) -> None:
    assert configuration.names(value, CLASSES) is None
    weights = weights_of("by class token")
    read = huggingface.weights_from(
        stored(huggingface.tensors_to(weights), config={**huggingface.config_of(weights), "id2label": value})
    )
    assert read.notes == {"task": "classification"}


def test_an_encoder_has_no_classes() -> None:
    weights = weights_of("encoder")
    named = {**timm.config_of(weights), "label_names": list(NAMES)}
    assert timm.weights_from(stored(timm.tensors_to(weights), config=named)).notes == {}
