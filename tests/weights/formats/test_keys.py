from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openmae.weights.formats import fair, huggingface, mm, timm
from openmae.weights.formats.keys import PLACE, KeyTable, first_of, fuse_qkv, rename
from openmae.weights.formats.kinds import SIGNS, looks_like

TABLES = {
    "fair": fair.TABLE,
    "mm": mm.FINETUNED,
    "mm, by class token": mm.BY_CLASS_TOKEN,
    "mm, probe": mm.PROBE,
    "mm 0.x": mm.FINETUNED_0,
    "mm 0.x, probe": mm.PROBE_0,
    "mm, probe with fc": mm.PROBE_FC,
    "Hugging Face 4": huggingface.WRITTEN_BY_4,
    "Hugging Face 5": huggingface.WRITTEN_BY_5,
    "Hugging Face 5 in memory": huggingface.IN_MEMORY_OF_5,
    "timm": timm.PLAIN,
}


@given(
    table=st.sampled_from(sorted(TABLES)),
    row=st.integers(0, 100),
    number=st.integers(0, 999),
    leaf=st.sampled_from(["", ".weight", ".bias", ".running_mean", ".running_var", ".num_batches_tracked"]),
)
def test_a_name_goes_to_theirs_and_back(table: str, row: int, number: int, leaf: str) -> None:
    rows = list(TABLES[table].rows.items())
    ours, theirs = (side.replace(PLACE, f".{number}") + leaf for side in rows[row % len(rows)])
    assert TABLES[table].theirs(ours) == theirs
    assert TABLES[table].ours(theirs) == ours


@pytest.mark.parametrize("table", TABLES)
def test_no_two_of_our_names_are_one_of_theirs(table: str) -> None:
    rows = TABLES[table].rows
    assert len(set(rows.values())) == len(rows)


@given(st.text(alphabet="abn.0123456789{}_i", max_size=30))
def test_any_other_name_has_no_place(name: str) -> None:
    table = KeyTable({"blocks.{i}.norm1": "layers.{i}.ln1"})
    assert table.theirs(name) is None
    assert table.ours(name) is None


def test_names_without_a_place_are_listed_and_names_that_become_one_are_refused() -> None:
    one, file = torch.ones(1), Path("f.pth")
    renamed = rename({"layers.0.ln1.weight": one, "z": one, "a": one}, mm.FINETUNED.ours, file)
    assert renamed.unknown == ["a", "layers.0.ln1.weight", "z"]
    with pytest.raises(ValueError, match=r"f\.pth has norm twice, once as .; it mixes two models"):
        rename({"a": one, "b": one}, lambda _: "norm", file)


def test_values_without_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="lacks query, key or value of blocks"):
        fuse_qkv({"blocks.0.attn.v.weight": torch.ones(1)}, Path("f.pth"))


def test_long_names_are_cut_in_messages() -> None:
    assert first_of(["x" * 1000]) == "x" * 77 + "..."
    assert first_of([]) == ""


def test_every_sign_of_a_kind_is_told_apart_from_none() -> None:
    assert looks_like(["nothing.known"]) == ""
    assert len({words for _, words in SIGNS}) == len(SIGNS)
    assert looks_like(["decoder_blocks.0.norm1.weight", "patch_embed.proj.weight"]).endswith("fair's layout")
    assert looks_like(["backbone.patch_embed.projection.bias"]) == "a Vision Transformer of MMPretrain"
