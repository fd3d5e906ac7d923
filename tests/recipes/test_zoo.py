import re
from collections import Counter

import pytest

from openmae.recipes import RECIPES
from openmae.recipes.zoo import ENTRIES, ZOO, find_published


def test_the_zoo_has_every_published_file_and_every_figure_without_one() -> None:
    assert len(ZOO) == len(ENTRIES) == 43
    assert sum(entry.published for entry in ENTRIES) == 30
    assert sum(entry.log is not None for entry in ENTRIES) == 11
    published = Counter(entry.publisher for entry in ENTRIES if entry.published)
    assert published == {"mm": 11, "fair": 13, "huggingface": 3, "timm": 3}


def test_each_row_has_the_backbone_and_the_figure_of_its_recipe() -> None:
    for entry in ENTRIES:
        if entry.recipe is None:
            assert entry.name == "vit-l16-fair-pixels-gan"
            continue
        recipe = RECIPES[entry.recipe]
        assert (recipe.backbone, recipe.image_size.width) == (entry.backbone, entry.image_size)
        assert {"finetuned": "finetune", "linear": "linear"}.get(entry.kind, "pretrain") == recipe.stage
        if entry.top1 is not None:
            assert entry.top1 == recipe.published_top1
        else:
            assert recipe.stage == "pretrain"


def test_every_recipe_of_the_table_in_mms_form_has_a_row() -> None:
    rows = {entry.recipe for entry in ENTRIES if entry.publisher == "mm"}
    assert rows == {recipe.name for recipe in RECIPES.values() if recipe.follows == "mm"}


def test_mms_names_carry_the_hash_of_the_file() -> None:
    for entry in ENTRIES:
        if entry.publisher == "mm" and entry.url is not None:
            assert re.fullmatch(r"[0-9a-f]{8}", entry.sha256)
            assert entry.url.endswith(f"-{entry.sha256}.pth")
            assert entry.log == entry.url.replace(".pth", ".json")
        else:
            assert not entry.sha256


def test_addresses_differ_and_rows_without_a_file_have_no_hash() -> None:
    addresses = [entry.url for entry in ENTRIES if entry.url is not None]
    assert len(set(addresses)) == len(addresses)
    assert all(address.startswith(("https://", "hf://")) for address in addresses)
    assert not any(entry.md5 or entry.sha256 or entry.log for entry in ENTRIES if not entry.published)


def test_only_autoencoders_have_a_decoder_and_it_is_known_what_it_predicts() -> None:
    for entry in ENTRIES:
        assert entry.has_decoder == (entry.kind == "autoencoder")
        assert (entry.target == "raw") == (
            entry.has_decoder and ("pixels" in entry.name or "huggingface" in entry.name)
        )


def test_the_licence_of_fairs_weights_forbids_commercial_use_also_as_a_copy_in_timm() -> None:
    for entry in ENTRIES:
        assert (entry.licence == "CC-BY-NC-4.0") == (entry.publisher in ("fair", "timm"))


def test_an_address_is_spelt_out_as_published() -> None:
    assert find_published("vit-b16-300e-mm").url == (
        "https://download.openmmlab.com/mmselfsup/1.x/mae/mae_vit-base-p16_8xb512-fp16-coslr-300e_in1k/"
        "mae_vit-base-p16_8xb512-coslr-300e-fp16_in1k_20220829-c2cf66ba.pth"
    )
    assert find_published("vit-h14-1600e-fair-full").url == (
        "https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_huge_full.pth"
    )


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        ValueError, match="nothing called 'vit-b16-1600-mm' was published; did you mean vit-b16-1600e-mm"
    ):
        find_published("vit-b16-1600-mm")
    with pytest.raises(ValueError, match=r"was published; there are vit-b16-300e-mm, .* and 40 more"):
        find_published("zzz")
