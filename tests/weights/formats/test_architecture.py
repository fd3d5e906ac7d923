from dataclasses import replace
from pathlib import Path

import pytest
import torch

from openmae.core.encoder import create_encoder
from openmae.weights.formats.architecture import (
    BACKBONES,
    HEADS,
    Known,
    block_count,
    describe,
)
from openmae.weights.formats.keys import rename
from openmae.weights.formats.timm import PLAIN
from tests.weights.formats.samples import NETWORK, PUBLISHED, random_like, shapes_of

FILE = Path("f.pth")
TENSORS = random_like(shapes_of(NETWORK, "encoder"))


@pytest.mark.parametrize(("size", "name"), BACKBONES.items(), ids=BACKBONES.values())
def test_each_backbone_is_plain_and_has_the_size_that_names_it(size: tuple[int, int, int], name: str) -> None:
    with torch.device("meta"):
        vit = create_encoder(name)
    assert (vit.embed_dim, len(vit.blocks), vit.patch_embed.patch_size[0]) == size
    assert vit.blocks[0].attn.num_heads == HEADS[vit.embed_dim]
    assert (vit.num_prefix_tokens, vit.no_embed_class) == (1, False)
    assert not rename(vit.state_dict(), PLAIN.ours, FILE).unknown


def test_sizes_of_no_backbone_are_spelt_out() -> None:
    network = describe(TENSORS, FILE, Known(heads=6)).network
    assert network == replace(NETWORK, heads=6)
    assert network.architecture == ("vit_tiny_patch16_224", 4, 192, 2, 6)


def test_other_channels_than_colour_get_a_neutral_normalisation_aloud() -> None:
    grey = {**TENSORS, "patch_embed.proj.weight": torch.ones(192, 5, 4, 4)}
    network, assumed = describe(grey, FILE, Known(imagenet=True, heads=3))
    assert (network.channels, network.mean, network.std) == (5, (0.5,) * 5, (0.5,) * 5)
    assert assumed == ("it does not say how pixels are normalised: mean 0.5 and std 0.5 in every channel",)
    assert describe(TENSORS, FILE, Known(imagenet=True, heads=3)).assumed == ()


def test_heads_are_assumed_aloud_unless_the_size_is_published() -> None:
    note = "it does not say its attention heads: 3, as in the published networks that are as wide"
    assert describe(TENSORS, FILE, Known(imagenet=True)).assumed == (note,)
    published = shapes_of(PUBLISHED["L"], "encoder")
    assert describe(published, FILE, Known(imagenet=True)).assumed == ()


def test_statistics_for_another_number_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="mean has 1 values and std 1 for 3 channels"):
        describe(TENSORS, FILE, Known(mean=(0.5,), std=(0.5,)))


def test_blocks_are_counted_without_gaps() -> None:
    one = torch.ones(1)
    assert block_count({f"blocks.{number}.a": one for number in range(3)}, "blocks.", FILE) == 3
    for missing in ({"blocks.0.a", "blocks.2.a"}, {"blocks.1.a", "blocks.2.a"}, set[str]()):
        with pytest.raises(ValueError, match=rf"lacks blocks\.{'1' if 'blocks.0.a' in missing else '0'}; check"):
            block_count(dict.fromkeys(missing, one), "blocks.", FILE)
