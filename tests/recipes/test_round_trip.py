"""Any recipe that can be made reads back equal from its recipe.yaml."""

import io
import sys
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmae.recipes import Recipe, find_recipe
from openmae.recipes.constraints import Range
from openmae.recipes.recipe import declarations
from openmae.recipes.saved import from_yaml, to_dict, to_yaml
from openmae.recipes.stages import RECIPE_TYPES
from openmae.recipes.values import Every, ImageSize


def values_of(annotation: Any, ranges: tuple[Range, ...] = ()) -> st.SearchStrategy[Any]:
    """Any value of a declared type, within the ranges that are declared beside it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values_of(arguments[0], tuple(marker for marker in arguments[1:] if isinstance(marker, Range)))
    if origin in (Union, UnionType):
        return st.one_of(*(values_of(option, ranges) for option in arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and ... in arguments:
        return st.lists(values_of(arguments[0], ranges), min_size=1, max_size=4).map(tuple)
    if origin is tuple:
        return st.tuples(*(values_of(part, ranges) for part in arguments))
    if annotation in (int, float):
        largest = 2**63 - 1 if annotation is int else sys.float_info.max
        low = max([-largest, *(range_.low for range_ in ranges)])
        high = min([largest, *(range_.high for range_ in ranges)])
        numbers = st.integers(int(low), int(high)) if annotation is int else st.floats(low, high)
        return numbers.filter(lambda number: all(number in range_ for range_ in ranges))
    return st.builds(ImageSize, SIDES, SIDES) if annotation is ImageSize else OTHER_TYPES[annotation]


SIDES = st.integers(1, 999_999_999)
OTHER_TYPES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    str: st.text(alphabet=st.characters(exclude_categories=())),  # surrogates too: file names may be any bytes
    type(None): st.none(),
    Every: st.builds(
        Every, st.floats(0, exclude_min=True, allow_infinity=False), st.sampled_from(["min", "steps", "epochs"])
    ),
}


@st.composite
def any_recipe(draw: st.DrawFn, kind: type[Recipe]) -> Recipe:
    """A recipe with any value in every field; a new field is covered as soon as it is declared."""
    values = {name: draw(values_of(declared)) for name, declared in declarations(kind).items()}
    # The rules between two fields.
    values["std"] = values["std"][:1] * len(values["mean"])
    values["channels"] = len(values["mean"])
    values["crop_scale"] = tuple(sorted(values["crop_scale"]))
    if values["strategy"] == "fsdp":
        values |= {"ema_decay": None, "precision": "auto"}
    if values.get("eval_resize") is not None:
        values["eval_resize"] = max(values["eval_resize"], min(values["image_size"]))
    return kind(**values)


@settings(deadline=None, max_examples=25)
@pytest.mark.parametrize("kind", RECIPE_TYPES.values())
@given(data=st.data())
def test_a_recipe_with_any_values_reads_back_equal_from_its_file(kind: type[Recipe], data: st.DataObject) -> None:
    recipe = data.draw(any_recipe(kind))
    stored = to_yaml(recipe).encode()
    read = from_yaml(io.TextIOWrapper(io.BytesIO(stored), encoding="utf-8").read())
    assert read == recipe
    assert to_yaml(read).encode() == stored


def test_one_place_of_data_stays_text_and_several_stay_a_list() -> None:
    recipe = find_recipe("cifar10", "pretrain")
    for places, stored in (("photos", "photos"), (["photos"], "photos"), (("a", Path("b")), ["a", "b"])):
        made = replace(recipe, data=places)  # type: ignore[arg-type]  # recipes convert what they are given
        assert to_dict(made)["data"] == stored
        assert from_yaml(to_yaml(made)) == made
