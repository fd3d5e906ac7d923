import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timm.optim import Lars, Muon
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from openmae.checkpoints import tensor_files, writing
from openmae.checkpoints.checkpoint import (
    EMA,
    MANIFEST,
    MODEL,
    OPTIMIZER,
    STATE,
    Checkpoint,
    Damaged,
    GivenUp,
    list_checkpoints,
)
from openmae.checkpoints.reading import newest_verified, read_checkpoint, verify
from openmae.checkpoints.save_mode import SaveMode
from openmae.checkpoints.tensor_files import write_tensors
from openmae.checkpoints.writing import write_checkpoint
from openmae.files import write_text
from openmae.training.processes.sharding import load_model, load_optimizer, model_state, optimizer_state

FILES = (MODEL, EMA, OPTIMIZER, STATE, MANIFEST)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(model: nn.Module, optimizer: Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 3, generator=generator)).square().mean().backward()
        optimizer.step()


def snapshot(
    model: nn.Module, optimizer: Optimizer | None = None, ema: nn.Module | None = None, *, step: int = 1
) -> Checkpoint:
    return Checkpoint(
        step=step,
        model=model_state(model, keep=True),
        ema=None if ema is None else model_state(ema, keep=True),
        optimizer={} if optimizer is None else optimizer_state(model, optimizer, keep=True),
        pending_losses=[0.1, 0.2],
    )


def write(folder: Path, step: int, *, keep: int = 9) -> Path:
    return write_checkpoint(folder, snapshot(small_model(), step=step), metadata={}, keep=keep)


def steps(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in list_checkpoints(folder)]


def flip(file: Path, position: int, bit: int = 0) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1 << bit
    file.write_bytes(data)


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name]), name


OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "adamw": lambda model: AdamW(model.parameters(), lr=0.1),
    "lars": lambda model: Lars(model.parameters(), lr=0.1, momentum=0.9, always_adapt=True),
    "muon": lambda model: Muon(model.parameters(), lr=0.1, nesterov=True),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_model_average_and_optimizer_come_back_bit_for_bit_and_train_on_alike(tmp_path: Path, kind: str) -> None:
    model, average = small_model(), small_model()
    optimizer = OPTIMIZERS[kind](model)
    train(model, optimizer, 3)
    train(average, AdamW(average.parameters()), 1)
    path = write_checkpoint(tmp_path, snapshot(model, optimizer, average, step=3), metadata={}, keep=1)

    verify(path)
    saved = read_checkpoint(path)
    assert (saved.step, saved.pending_losses) == (3, [0.1, 0.2])
    assert saved.ema is not None
    assert_same(saved.model, model.state_dict())
    assert_same(saved.ema, average.state_dict())
    restored = small_model()
    load_model(restored, saved.model)
    again = OPTIMIZERS[kind](restored)
    load_optimizer(restored, again, saved.optimizer)
    for name, values in optimizer_state(model, optimizer, keep=True).items():
        other = optimizer_state(restored, again, keep=True)[name]
        assert values.keys() == other.keys()
        assert_same(
            {name: value for name, value in values.items() if isinstance(value, Tensor)},
            {name: value for name, value in other.items() if isinstance(value, Tensor)},
        )
    train(model, optimizer, 2)
    train(restored, again, 2)
    assert_same(model.state_dict(), restored.state_dict())


def test_rates_of_a_restored_optimizer_are_those_it_was_built_with(tmp_path: Path) -> None:
    model = small_model()
    optimizer = AdamW(model.parameters(), lr=0.1)
    train(model, optimizer, 1)
    saved = read_checkpoint(write_checkpoint(tmp_path, snapshot(model, optimizer), metadata={}, keep=1))
    fresh = small_model()
    again = AdamW(fresh.parameters(), lr=0.7)
    load_optimizer(fresh, again, saved.optimizer)
    assert again.param_groups[0]["lr"] == 0.7


def test_a_checkpoint_without_an_average_has_none(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    assert read_checkpoint(path).ema is None
    assert not (path / EMA).exists()


def test_metadata_is_in_the_weights(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = write_checkpoint(tmp_path, snapshot(small_model()), metadata={"openmae.recipe": "x"}, keep=1)
    with safe_open(path / MODEL, framework="pt") as opened:
        assert opened.metadata() == {"openmae.recipe": "x"}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with every kind of file; a test that damages it repairs it."""
    model = small_model()
    optimizer = Muon(model.parameters(), lr=0.1)
    train(model, optimizer, 1)
    return write_checkpoint(tmp_path_factory.mktemp("full"), snapshot(model, optimizer, model), metadata={}, keep=1)


def assert_damaged(path: Path, file: Path, data: bytes) -> None:
    """`verify` refuses the checkpoint while `file` holds `data`, and names a file."""
    original = file.read_bytes()
    try:
        file.write_bytes(data)
        with pytest.raises(Damaged, match=r"\.(safetensors|json) "):
            verify(path)
    finally:
        file.write_bytes(original)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_in_any_file_is_detected(full: Path, data: st.DataObject) -> None:
    file = full / data.draw(st.sampled_from(FILES))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert_damaged(full, file, bytes(content))


def test_an_undamaged_checkpoint_passes(full: Path) -> None:
    verify(full)


def test_any_flipped_bit_in_the_manifest_is_detected(full: Path) -> None:
    content = (full / MANIFEST).read_bytes()
    for position in range(0, len(content), 3):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        assert_damaged(full, full / MANIFEST, bytes(changed))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_truncation_of_any_file_is_detected(full: Path, data: st.DataObject) -> None:
    file = full / data.draw(st.sampled_from(FILES))
    content = file.read_bytes()
    assert_damaged(full, file, content[: data.draw(st.integers(0, len(content) - 1))])


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_detected(tmp_path: Path, name: str) -> None:
    model = small_model()
    path = write_checkpoint(tmp_path, snapshot(model, ema=model), metadata={}, keep=1)
    (path / name).unlink()
    with pytest.raises(Damaged, match=f"{name} is missing"):
        verify(path)


@pytest.mark.parametrize(
    "manifest",
    [
        {"sha256": {MODEL: "", OPTIMIZER: "", STATE: "", "optimizer.pt": ""}},
        {"sha256": {MODEL: "", OPTIMIZER: "", STATE: "", "../../secret": ""}},
        {"sha256": {MODEL: "", STATE: ""}},
        {"sha256": [MODEL, OPTIMIZER, STATE]},
        {"md5": {}},
        [],
    ],
)
def test_a_manifest_that_names_other_files_is_refused(tmp_path: Path, manifest: Any) -> None:
    path = write(tmp_path, 1)
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(Damaged, match=MANIFEST):
        verify(path)


def test_nothing_in_a_checkpoint_is_a_pickle(full: Path) -> None:
    assert {file.name for file in full.iterdir()} == set(FILES)
    for name in (MODEL, EMA, OPTIMIZER):
        header = (full / name).read_bytes()
        assert header[8:9] == b"{"  # safetensors: a length, then JSON
    for name in (STATE, MANIFEST):
        json.loads((full / name).read_text())


def test_a_damaged_newest_one_is_reported_and_the_older_taken(tmp_path: Path, said: list[str]) -> None:
    old, new = write(tmp_path, 1), write(tmp_path, 2)
    assert newest_verified(tmp_path) == new
    assert said == []
    flip(new / MODEL, 200)
    assert newest_verified(tmp_path) == old
    assert len(said) == 1
    assert f"{new} is damaged ({MODEL} is not what was written)" in said[0]
    flip(old / STATE, 3)
    assert newest_verified(tmp_path) is None


def test_a_folder_that_does_not_exist_has_no_checkpoint(tmp_path: Path) -> None:
    assert newest_verified(tmp_path / "none") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 99_999_999, 100_000_000):
        write(tmp_path, step, keep=3)
    assert steps(tmp_path) == [100_000_000, 99_999_999, 10]


def test_damaged_checkpoints_of_a_later_step_do_not_push_out_the_new_one(tmp_path: Path) -> None:
    later = write(tmp_path, 100)
    flip(later / MODEL, 200)
    write(tmp_path, 50, keep=1)
    assert steps(tmp_path) == [50]
    write(tmp_path, 60, keep=1)
    assert steps(tmp_path) == [60]


def test_the_same_step_can_be_written_again(tmp_path: Path) -> None:
    flip(write(tmp_path, 5) / MODEL, 200)
    verify(write(tmp_path, 5))
    assert steps(tmp_path) == [5]


def test_folders_and_files_of_other_names_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "step-notes").mkdir()
    (tmp_path / "step-00000009").write_text("a file")
    assert steps(tmp_path) == [1]


def test_leftovers_of_a_crash_are_ignored_and_removed_by_the_next_write(tmp_path: Path) -> None:
    good = write(tmp_path, 1)
    leftover = tmp_path / ".writing-step-00000002"
    shutil.copytree(good, leftover)
    assert newest_verified(tmp_path) == good
    write(tmp_path, 3)
    assert not leftover.exists()
    assert steps(tmp_path) == [3, 1]


def test_a_disk_that_refuses_the_rename_leaves_the_old_checkpoint_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write(tmp_path, 1, keep=1)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.is_dir():
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        write(tmp_path, 2, keep=1)
    monkeypatch.undo()
    assert newest_verified(tmp_path) == old
    write(tmp_path, 2, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002"]


def test_files_that_a_full_disk_cuts_short_are_removed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(tmp_path, 1)

    def full(_path: Path, _text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 2)
    assert list(tmp_path.iterdir()) == [old]


def test_space_is_looked_for_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(tmp_path, 1)
    needed = sum(tensor.nbytes for tensor in small_model().state_dict().values())
    enough = needed + writing.SPACE_TO_SPARE
    monkeypatch.setattr(writing, "save_tensors", pytest.fail)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=enough - 1))
    with pytest.raises(OSError, match=r"No space left on device: 0 MB to write, 17 MB free") as refused:
        write(tmp_path, 2)
    assert refused.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == [old]
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=enough))
    write(tmp_path, 2)


@pytest.mark.parametrize("lie", ["numbers", "a name", "metadata", "shapes", "types", "a tensor more"])
def test_the_older_ones_stay_until_the_new_one_has_been_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    """A disk that takes a file and gives back another one, which is as good a file."""
    old = write(tmp_path, 1)
    from safetensors.torch import save_file

    def other(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None) -> None:
        if not path.name.endswith(MODEL):
            pass
        elif lie == "numbers":
            tensors = {name: tensor + 1 for name, tensor in tensors.items()}
        elif lie == "a name":
            tensors = {f"{name}2": tensor for name, tensor in tensors.items()}
        elif lie == "metadata":
            metadata = {"recipe": "another"}
        elif lie == "shapes":
            tensors = {name: tensor.reshape(-1, 1) for name, tensor in tensors.items()}
        elif lie == "types":
            same_size = {torch.float32: torch.int32, torch.int64: torch.float64}
            tensors = {name: tensor.view(same_size[tensor.dtype]) for name, tensor in tensors.items()}
        else:
            tensors = {**tensors, "more": torch.zeros(1)}
        save_file(tensors, path, metadata=metadata)

    monkeypatch.setattr(tensor_files, "save_file", other)
    with pytest.raises(Damaged, match=f"{MODEL} did not come back from the disk as it was written"):
        write(tmp_path, 2, keep=1)
    assert list(tmp_path.iterdir()) == [old]
    verify(old)


def test_the_older_ones_stay_when_the_manifest_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write(tmp_path, 1)

    def spoiled(path: Path, text: str) -> None:
        write_text(path, text)
        if path.name == MANIFEST:
            flip(path, 30)

    monkeypatch.setattr(writing, "write_text", spoiled)
    with pytest.raises(Damaged, match=f"{MANIFEST} did not come back"):
        write(tmp_path, 2, keep=1)
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize(
    ("name", "place"), [(STATE, 3), (MODEL, 9), (MODEL, -1)], ids=["text", "header", "last tensor's end"]
)
def test_a_file_that_changes_before_it_is_read_back_is_noticed_before_the_older_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: int
) -> None:
    monkeypatch.setattr(tensor_files, "CHUNK_BYTES", 4)
    old = write(tmp_path, 1)
    forget = tensor_files._forget_cached

    def spoiled(file: Path) -> None:
        forget(file)
        if file.name == name:
            flip(file, place % file.stat().st_size)

    monkeypatch.setattr(tensor_files, "_forget_cached", spoiled)
    with pytest.raises(Damaged, match=name):
        write(tmp_path, 2, keep=1)
    assert list(tmp_path.iterdir()) == [old]


def test_not_a_number_can_be_read_back_too(tmp_path: Path) -> None:
    tensors = {"state": torch.tensor([1.0, math.nan, -0.0]), "count": torch.tensor(3), "none": torch.empty(0, 2)}
    tensors |= {"short": torch.tensor([1.5], dtype=torch.bfloat16), "flags": torch.tensor([True, False])}
    saved = Checkpoint(step=1, model=tensors, optimizer={})
    verify(write_checkpoint(tmp_path, saved, metadata={}, keep=1))


def test_a_crash_while_deleting_leaves_no_half_under_a_checkpoints_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)

    def crash(path: Path) -> None:
        (path / MODEL).unlink()
        raise OSError("power cut")

    monkeypatch.setattr(shutil, "rmtree", crash)
    write(tmp_path, 2, keep=1)  # the new one is safe, and that is what counts
    monkeypatch.undo()
    assert steps(tmp_path) == [2]
    verify(list_checkpoints(tmp_path)[0])
    write(tmp_path, 3, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003"]


def test_an_error_of_the_system_through_safetensors_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        write_tensors(tmp_path / "no folder" / "file.safetensors", {"a": torch.zeros(1)}, {})


@pytest.mark.parametrize("writer", [lambda file: write_text(file, "new"), lambda file: write_tensors(file, {}, {})])
def test_a_crash_while_writing_a_file_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: Callable[[Path], None]
) -> None:
    file = tmp_path / "file"
    file.write_text("old")

    def crash(self: Path, target: Path) -> Path:
        raise OSError("power cut")

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(OSError, match="power cut"):
        writer(file)
    assert file.read_text() == "old"


def test_files_are_synced_before_they_get_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str | int] = []
    rename = Path.rename

    def noted(self: Path, target: Path) -> Path:
        events.append(target.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", noted)
    monkeypatch.setattr("openmae.files.os.fsync", lambda file: events.append(os.fstat(file).st_ino))
    path = write(tmp_path, 1)
    renamed = events.index(path.name)
    for file in path.iterdir():
        assert file.stat().st_ino in events[:renamed], file.name
    # Folders as well, or the names themselves could be lost.
    assert path.stat().st_ino in events[events.index(MANIFEST) : renamed]
    assert tmp_path.stat().st_ino in events[renamed:]


def test_a_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    events: list[bool] = []
    monkeypatch.setattr("openmae.files.os.fsync", lambda _: events.append(file.exists()))
    for write_file in (partial(write_text, text="new"), partial(write_tensors, tensors={}, metadata={})):
        write_file(file)
        assert events == [False, True]
        file.unlink()
        events.clear()


def test_before_an_exit_the_same_bytes_are_written_and_verified_by_the_process_that_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model()
    optimizer = AdamW(model.parameters(), lr=0.1)
    train(model, optimizer, 1)
    first, second = (snapshot(model, optimizer, model, step=step) for step in (1, 2))
    metadata = {"openmae.recipe": "x"}
    waited = write_checkpoint(tmp_path / "waited", second, metadata=metadata, keep=1)
    monkeypatch.setattr(writing, "read_back_tensors", pytest.fail)
    folder, mode = tmp_path / "before an exit", SaveMode.BEFORE_EXIT
    old = write_checkpoint(folder, first, metadata=metadata, keep=1, mode=mode)
    new = write_checkpoint(folder, second, metadata=metadata, keep=1, mode=mode)
    for file in waited.iterdir():
        assert file.read_bytes() == (new / file.name).read_bytes()
    assert newest_verified(folder) == new
    flip(new / MODEL, -1 % (new / MODEL).stat().st_size)
    assert newest_verified(folder) == old


@pytest.mark.parametrize("mode", SaveMode)
def test_a_save_that_is_given_up_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: SaveMode
) -> None:
    monkeypatch.setattr(tensor_files, "CHUNK_BYTES", 4)
    old = write(tmp_path, 1)
    asked = times = 0

    def now() -> bool:
        nonlocal asked
        asked += 1
        return asked >= times

    options: dict[str, Any] = {"metadata": {}, "keep": 9, "mode": mode, "given_up": now}
    while True:
        times, asked = times + 1, 0
        try:
            new = write_checkpoint(tmp_path, snapshot(small_model(), step=2), **options)
            break
        except GivenUp:
            assert list(tmp_path.iterdir()) == [old]
    assert times > 5
    assert steps(tmp_path) == [2, 1]
    verify(new)


def test_tensors_are_written_contiguous_and_without_gradient(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    tensor = nn.Parameter(torch.arange(6.0).reshape(2, 3))
    write_tensors(tmp_path / "file.safetensors", {"transposed": tensor.T}, {})
    assert torch.equal(load_file(tmp_path / "file.safetensors")["transposed"], tensor.detach().T)


@pytest.mark.parametrize(("umask", "permissions"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_of_tensors_may_be_read_by_whom_the_umask_says(tmp_path: Path, umask: int, permissions: int) -> None:
    before = os.umask(umask)
    try:
        write_tensors(tmp_path / "encoder.safetensors", {"a": torch.zeros(3)}, {})
        written = write_checkpoint(tmp_path, snapshot(small_model()), metadata={}, keep=1)
    finally:
        os.umask(before)
    for file in (tmp_path / "encoder.safetensors", *written.iterdir()):
        assert file.stat().st_mode & 0o777 == permissions, file.name
