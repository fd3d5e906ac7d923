"""Whatever stands in a file or a configuration, the user is told in a sentence or the network is built."""

import contextlib
import io
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openmae.errors import UserError
from openmae.weights.formats import fair, huggingface, mm, timm
from openmae.weights.reading import layout_of, read_weights
from openmae.weights.weights import Weights
from tests.weights.formats.samples import NETWORK, shapes_of, stored

KEYS = {
    huggingface: (
        "model_type",
        "image_size",
        "patch_size",
        "num_attention_heads",
        "decoder_num_attention_heads",
        "norm_pix_loss",
        "hidden_act",
        "layer_norm_eps",
    ),
    timm: ("architecture", "model_args", "pretrained_cfg"),
    fair: ("architecture", "model_args"),
    mm: ("model_args",),
}
INNER = ("img_size", "num_heads", "decoder_num_heads", "mean", "std", "crop_pct", "interpolation", "depth", "qk_norm")
PIXELS = ("image_mean", "image_std", "size", "resample", "shortest_edge", "height")

ENCODER = Weights(tensors=shapes_of(NETWORK, "encoder"), network=NETWORK, file=Path("here"))

numbers = st.one_of(st.integers(-3, 600), st.integers(), st.floats(), st.booleans())
simple = st.one_of(st.none(), numbers, st.text(max_size=5), st.just("vit_tiny_patch16_224"), st.just("resnet18"))
values = st.one_of(
    simple,
    st.lists(simple, max_size=4),
    st.lists(st.floats(0.1, 1), min_size=3, max_size=3),
    st.dictionaries(st.sampled_from(INNER + PIXELS), st.one_of(simple, st.lists(simple, max_size=3)), max_size=4),
)


@pytest.mark.parametrize("layout", KEYS, ids=lambda layout: layout.__name__.rpartition(".")[2])
@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_any_configuration_is_used_or_refused_in_a_sentence(layout: Any, data: st.DataObject) -> None:
    config = data.draw(st.dictionaries(st.sampled_from(KEYS[layout]), values, max_size=4))
    preprocessor = data.draw(st.dictionaries(st.sampled_from(PIXELS), values, max_size=3))
    file = stored(layout.tensors_to(ENCODER), config=config, preprocessor=preprocessor)
    with contextlib.suppress(UserError):
        assert layout_of(file).weights_from(file).network.eval_resize <= 64


@cache
def small_file(zipped: bool) -> bytes:
    """A small file of torch, in one of its two formats."""
    saved = io.BytesIO()
    small = {name: torch.zeros(2) for name in ENCODER.tensors}
    torch.save({"model": small, "epoch": 3}, saved, _use_new_zipfile_serialization=zipped)
    return saved.getvalue()


@given(
    zipped=st.booleans(),
    injuries=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4),
    cut=st.floats(0, 1),
)
@example(zipped=True, injuries=[(0.75, 128)], cut=1.0)  # a name in the zip's directory that is no UTF-8
@example(zipped=False, injuries=[(0.0, 1)], cut=0.5)
@settings(deadline=None, max_examples=150)
def test_a_damaged_file_of_torch_is_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, zipped: bool, injuries: Any, cut: float
) -> None:
    content = bytearray(small_file(zipped))
    for place, change in injuries:
        content[int(place * len(content))] ^= change
    file = tmp_path_factory.getbasetemp() / "damaged.pth"
    file.write_bytes(content if cut > 0.9 else content[: int(cut * len(content))])
    with pytest.raises(UserError, match=r"damaged\.pth"):
        read_weights(file)
