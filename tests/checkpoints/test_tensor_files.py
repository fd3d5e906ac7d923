from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from openmae.checkpoints.tensor_files import write_tensors

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(3)}
WRITABLE = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("keys", [1, 2, 8])
def test_the_same_tensors_and_metadata_are_the_same_bytes(tmp_path: Path, keys: int) -> None:
    metadata = {f"key {number}": f"value {number}" for number in range(keys)}
    for number in range(8):
        write_tensors(tmp_path / f"{number}.safetensors", TENSORS, metadata)
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1


@given(metadata=st.dictionaries(WRITABLE, WRITABLE, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_as_metadata(tmp_path: Path, metadata: dict[str, str]) -> None:
    write_tensors(tmp_path / "a.safetensors", TENSORS, metadata)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as written:
        found = dict(written.metadata())
        assert {key: found[key] for key in metadata} == metadata
        assert all(torch.equal(written.get_tensor(name), tensor) for name, tensor in TENSORS.items())
