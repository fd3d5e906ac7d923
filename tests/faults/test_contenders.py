from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import contenders
from tests.faults.contenders import fingerprint, lightning, measure_damage, transformers_trainer
from tests.faults.job import STEPS, Contender, losses, uninterrupted
from tests.faults.zygote import Zygote


@pytest.fixture(scope="module")
def others() -> Iterator[Zygote]:
    for package in ("transformers", "accelerate", "pytorch_lightning"):
        pytest.importorskip(package, reason=f"the comparison needs {package}: pip install openmae[bench]")
    with Zygote(contenders.IMPORTS) as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize("make", [transformers_trainer, lightning])
def test_contenders_train_to_the_end_resume_and_are_damaged(
    others: Zygote, images: Path, tmp_path: Path, make: Callable[[Path], Contender]
) -> None:
    contender = make(images)
    uninterrupted(others, contender, tmp_path)
    assert len(losses(tmp_path / "uninterrupted")) == STEPS
    result = measure_damage(others, contender, tmp_path, flips=6, cuts=2)
    assert result.detected + result.harmless + result.silent == 8
    assert result.detected > 0
    out = tmp_path / "run"
    assert others.run(contender.target, contender.arguments(out), log=tmp_path / "log") == 0
    assert contender.starts(out) == [0, contenders.STOPPED_AFTER]
    assert [step for step, _ in losses(out)] == list(range(1, STEPS + 1))


def test_fingerprints_tell_states_apart() -> None:
    assert fingerprint({"a": [1, 2.0]}) == fingerprint({"a": [1, 2.0]})
    assert fingerprint({"a": [1, 2.0]}) != fingerprint({"a": [1, 2.5]})
