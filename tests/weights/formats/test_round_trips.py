"""Ours to theirs to ours gives back every bit; theirs to ours to theirs as well."""

from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from openmae.core.decoder import DecoderConfig
from openmae.core.network import Network
from openmae.weights.formats import fair, huggingface, mm, timm
from openmae.weights.formats.keys import fuse_qkv, split_qkv
from openmae.weights.reading import layout_of
from openmae.weights.weights import Weights
from tests.weights.formats.samples import (
    CLASSES,
    KINDS,
    NETWORK,
    PUBLISHED,
    assert_same_tensors,
    random_like,
    shapes_of,
    stored,
    weights_of,
    with_decoder,
)

HELD: dict[ModuleType, tuple[str, set[str]]] = {
    # Which kinds a layout can contain, and the key of its container.
    fair: ("model", {"encoder", "autoencoder", "fine-tuned", "probe"}),
    mm: ("state_dict", set(KINDS)),
    huggingface: ("", {"encoder", "autoencoder", "by class token"}),
    timm: ("", {"encoder", "fine-tuned", "by class token"}),
}
CASES = [(layout, kind) for layout, (_, kinds) in HELD.items() for kind in KINDS if kind in kinds]
NAMES = [f"{layout.__name__.rpartition('.')[2]}-{kind}" for layout, kind in CASES]


@pytest.mark.parametrize(("layout", "kind"), CASES, ids=NAMES)
def test_ours_to_theirs_to_ours_is_the_same_to_the_bit(layout: ModuleType, kind: str) -> None:
    ours = weights_of(kind)
    theirs = layout.tensors_to(ours)
    file = stored(theirs, container=HELD[layout][0])
    back = layout_of(file).weights_from(file, normalised=True)
    assert_same_tensors(back.tensors, ours.tensors)
    assert back.network == ours.network or layout is mm
    assert (back.network.architecture, back.network.decoder) == (ours.network.architecture, ours.network.decoder)
    assert_same_tensors(layout.tensors_to(back), theirs)
    if kind != "autoencoder":
        assert not back.has_decoder


@pytest.mark.parametrize(
    ("layout", "kind", "size"),
    [(*case, size) for case in CASES for size in PUBLISHED if size != "H at 448" or case[1] == "fine-tuned"],
)
def test_published_sizes_are_known_by_their_keys_and_shapes(layout: ModuleType, kind: str, size: str) -> None:
    network = PUBLISHED[size]
    if kind == "autoencoder":
        network = with_decoder(network, DecoderConfig())
    ours = Weights(tensors=shapes_of(network, kind), network=network, file=stored({}).file)
    file = stored(layout.tensors_to(ours), container=HELD[layout][0])
    read = layout_of(file).weights_from(file, normalised=True)
    assert {name: tensor.shape for name, tensor in read.tensors.items()} == {
        name: tensor.shape for name, tensor in ours.tensors.items()
    }
    assert (read.network.backbone, read.network.image_size) == (network.backbone, network.image_size)
    assert (read.network.decoder, read.network.eval_resize) == (network.decoder, network.eval_resize)
    assert read.network.width is read.network.heads is read.network.depth is read.network.patch_size is None


@pytest.mark.parametrize(
    ("layout", "kind", "message"),
    [
        (timm, "autoencoder", "timm has no place for a decoder"),
        (timm, "probe", "timm has no place for the batch normalisation of a linear probe"),
        (huggingface, "fine-tuned", r"Hugging Face's ViT has no place for fc_norm\.bias, fc_norm\.weight"),
        (huggingface, "probe", r"Hugging Face's ViT has no place for head\.0\.num_batches_tracked, .* and 2 more"),
    ],
)
def test_a_layout_refuses_what_it_has_no_place_for(layout: ModuleType, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layout.tensors_to(weights_of(kind))


def test_without_decoder_and_head_any_weights_fit_into_timm() -> None:
    encoder = weights_of("encoder", seed=3)
    whole = weights_of("autoencoder", seed=3)
    assert timm.tensors_to(whole.without_decoder()).keys() == encoder.tensors.keys()
    assert whole.without_decoder().network.decoder is None
    assert timm.tensors_to(weights_of("probe", seed=3).without_head()).keys() == encoder.tensors.keys()


def test_layouts_refuse_parts_that_only_timm_has() -> None:
    network = Network(
        backbone="vit_small_patch14_dinov2",
        image_size=(28, 28),
        depth=1,
        mean=NETWORK.mean,
        std=NETWORK.std,
        eval_resize=28,
    )
    weights = Weights(tensors=shapes_of(network, "encoder"), network=network, file=stored({}).file)
    assert timm.tensors_to(weights).keys() == weights.tensors.keys()
    for layout in (fair, mm, huggingface):
        with pytest.raises(
            ValueError, match=r"has no place for blocks\.0\.ls1\.gamma, blocks\.0\.ls2\.gamma; use|leave"
        ):
            layout.tensors_to(weights)


@given(width=st.integers(1, 5), blocks=st.integers(1, 3), bias=st.booleans(), seed=st.integers(0, 2**16))
@settings(deadline=None, max_examples=25)
def test_splitting_query_key_and_value_is_undone_by_fusing(width: int, blocks: int, bias: bool, seed: int) -> None:
    shapes: dict[str, Tensor] = {"norm.weight": torch.empty(width)}
    for number in range(blocks):
        shapes[f"blocks.{number}.attn.qkv.weight"] = torch.empty(3 * width, width)
        if bias:
            shapes[f"blocks.{number}.attn.qkv.bias"] = torch.empty(3 * width)
    fused = random_like(shapes, seed)
    split = split_qkv(fused)
    assert len(split) == len(fused) + 2 * blocks * (1 + bias)
    assert_same_tensors(fuse_qkv(split, stored({}).file), fused)


@given(dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float64]))
@settings(deadline=None, max_examples=3)
def test_the_precision_of_a_file_stays_as_it_is(dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in weights_of("autoencoder").tensors.items()}
    ours = Weights(tensors=tensors, network=with_decoder(NETWORK), file=stored({}).file)
    for layout in (fair, mm, huggingface):
        file = stored(layout.tensors_to(ours))
        assert_same_tensors(layout.weights_from(file, normalised=True).tensors, tensors)


def test_the_number_of_classes_is_read_from_the_head() -> None:
    for layout, kind in CASES:
        file = stored(layout.tensors_to(weights_of(kind)), container=HELD[layout][0])
        read = layout_of(file).weights_from(file)
        assert read.has_head == (kind in ("fine-tuned", "by class token", "probe"))
        head = next(
            (tensor for name, tensor in read.tensors.items() if name.startswith("head.") and "bias" in name), None
        )
        assert head is None or len(head) == CLASSES
