from pathlib import Path

import pytest

from tests.faults.controls import unverified
from tests.faults.damage import injured, injuries, measure_damage
from tests.faults.zygote import Zygote


@pytest.mark.slow
def test_no_damage_is_loaded_silently(zygote: Zygote, images: Path, tmp_path: Path) -> None:
    result = measure_damage(zygote, images, tmp_path, flips=60, cuts=20)
    assert result.flips + result.cuts == 80
    assert result.silent == 0, result.failures
    assert set(result.injured) >= {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}


@pytest.mark.slow
def test_damage_is_loaded_silently_when_manifests_are_not_looked_at(
    zygote: Zygote, images: Path, tmp_path: Path
) -> None:
    with unverified():
        assert measure_damage(zygote, images, tmp_path, flips=40, cuts=5).silent > 10


def test_every_file_is_injured_and_healed(tmp_path: Path) -> None:
    for name, size in (("large", 10_000), ("small", 3)):
        (tmp_path / name).write_bytes(bytes(size))
    drawn = injuries(tmp_path, flips=50, cuts=10, seed=1)
    assert drawn == injuries(tmp_path, flips=50, cuts=10, seed=1)
    assert len(drawn) == 60
    assert {injury.file for injury in drawn if injury.kind == "flip"} == {"large", "small"}
    for injury in drawn:
        before = (tmp_path / injury.file).read_bytes()
        with injured(tmp_path, injury):
            after = (tmp_path / injury.file).read_bytes()
            assert sum(map(int.bit_count, after)) == (injury.kind == "flip")
            assert (len(after) < len(before)) == (injury.kind == "cut")
        assert (tmp_path / injury.file).read_bytes() == before
