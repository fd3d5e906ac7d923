import pytest
import torch
from torch import Tensor

from openmae.checkpoints.digest import DIGEST_KEY, digest_of, with_digest

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3), "c": torch.empty(0, dtype=torch.bfloat16)}


def test_the_digest_does_not_depend_on_the_order_of_the_tensors_or_of_their_memory() -> None:
    strided = TENSORS["a"].T.contiguous().T
    assert digest_of({"c": TENSORS["c"], "b": TENSORS["b"], "a": strided}) == digest_of(TENSORS)


@pytest.mark.parametrize(
    "change",
    [
        {"a": torch.arange(6.0).reshape(3, 2)},
        {"a": torch.tensor([[0, 1, 2], [3, 4, -5.0]])},
        {"b": torch.tensor(3, dtype=torch.int32)},
        {"c": torch.empty(0)},
        {"d": torch.empty(0)},
    ],
)
def test_another_value_type_shape_or_name_gives_another_digest(change: dict[str, Tensor]) -> None:
    assert digest_of({**TENSORS, **change}) != digest_of(TENSORS)


def test_it_is_added_to_the_metadata() -> None:
    assert with_digest(TENSORS, {"format": "pt"}) == {"format": "pt", DIGEST_KEY: digest_of(TENSORS)}
