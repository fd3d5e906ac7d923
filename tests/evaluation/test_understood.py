"""Each measurement says, in one line and in its results, what it takes the data for."""

import json
from typing import Any

import pytest

from openmae.data.sources import Data, LeftOut
from openmae.data.targets import Kind
from tests.evaluation.test_splits import data_of, split

CLASSES = ["c0", "c1", "c2", "c0", "c1", "c2"]


TRAIN = "train: 6 images of 3 classes c0 … c2; "


@pytest.mark.parametrize(
    ("data", "kind", "options", "sentence"),
    [
        (data_of(CLASSES, val=["c0", "c1", "c2"]), "class", {}, f"{TRAIN}measured on val: 3"),
        (data_of(CLASSES, val=["c1"]), "class", {}, f"{TRAIN}measured on val: 1 (none of the classes c0, c2)"),
        (
            data_of(["a", "b", "b"]),
            "class",
            {},
            "train: 3 images of 2 classes a, b; each image is measured by the others (1 of one image each cannot "
            "be found among the others)",
        ),
        (
            data_of(["a", "b"] * 10),
            "class",
            {"hold_out": True},
            "train: 16 images of 2 classes a, b; measured on 4 images held out of train",
        ),
        (
            data_of(["a", "b"] * 10, test=["a", "b"]),
            "class",
            {"fraction": 0.1},
            "train: 2 of 20 labelled images of 2 classes a, b; measured on test: 2",
        ),
        (
            data_of([0.5, 12.25], test=[3.0]),
            "number",
            {},
            "train: 2 images with numbers 0.5 … 12.25; measured on test: 1",
        ),
        (
            data_of([["x", "y"], ["z"], []], test=[["x"]]),
            "labels",
            {},
            "train: 3 images of 3 labels x … z; measured on test: 1 (none of the labels y, z)",
        ),
        (
            data_of(CLASSES, val=["c0", "c1", "c2"], test=[None], extra=[None] * 1200),
            "class",
            {},
            f"{TRAIN}measured on val: 3; left out: test (1), extra (1,200)",
        ),
    ],
)
def test_a_sentence_says_what_the_data_are_taken_for(
    data: Data, kind: Kind, options: dict[str, Any], sentence: str
) -> None:
    assert split(data, kind, **options).understood.sentence() == sentence


def test_what_a_source_leaves_out_is_said() -> None:
    data = data_of(CLASSES)
    data = Data(
        splits=data.splits, left_out=(LeftOut("runs/", 3, "written by openmae"), LeftOut("x.tar", None, "beside"))
    )
    understood = split(data).understood
    assert understood.sentence().endswith("; left out: runs/ (3), x.tar")
    assert understood.record()["left_out"][0] == {"what": "runs/", "images": 3, "why": "written by openmae"}


def test_the_record_is_plain_and_whole() -> None:
    understood = split(data_of([*CLASSES, None], val=["c1"], extra=[None])).understood
    record = understood.record()
    assert json.loads(json.dumps(record)) == record
    assert record["train"] == {
        "split": "train",
        "images": 6,
        "labelled": 6,
        "unlabelled": 1,
        "unlabelled_images": ["train/006.png"],
        "classes": {"count": 3, "first": "c0", "last": "c2"},
    }
    assert record["measured"]["classes"] == {"count": 1, "first": "c1", "last": "c1"}
    assert (record["held_out"], record["leave_one_out"], record["not_measured"]) == (False, False, ["c0", "c2"])
    assert [(left["what"], left["images"]) for left in record["left_out"]] == [("extra", 1)]
    numbers = split(data_of([0.5, 12.25]), "number").understood.record()
    assert (numbers["train"]["numbers"], numbers["leave_one_out"]) == ({"min": 0.5, "max": 12.25}, True)
