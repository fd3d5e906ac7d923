"""The command line: what each verb prints, and that wrong input ends in two clear sentences, never in a traceback."""

import errno
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from openmae import cli
from openmae.cli import main
from openmae.errors import UserError
from openmae.recipes import RECIPES, PretrainRecipe
from openmae.reporter import say
from openmae.verbs import VERBS, Verb


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:  # tyro's way out
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


TINY_FLAGS = ("--width", 32, "--depth", 2, "--heads", 2, "--batch-size", 40, "--workers", 0)


def test_help_teaches_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for verb in (*VERBS, "slurm"):
        assert f"\n  {verb} " in out
        assert verb == "slurm" or (inspect.getdoc(VERBS[verb].run) or "").splitlines()[0] in out
        verb_code, verb_out, _ = run(capsys, verb, "--help")
        assert verb_code == 0
        assert "--json" in verb_out or verb in ("plan", "pretrain", "linear", "finetune", "slurm")


def test_recipe_help_explains_every_field_with_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "pretrain", "vit-b16-800e", "--help")
    assert code == 0
    for flag, value in (("--epochs", "800"), ("--base-lr", "0.00015"), ("--mask-ratio", "0.75"), ("--data", "None")):
        assert flag in out
        assert f"(default: {value})" in " ".join(out.replace("│", " ").split())
    assert "--published-top1" not in out


def test_recipes_lists_all_and_prints_one(capsys: pytest.CaptureFixture[str]) -> None:
    _, listing, _ = run(capsys, "recipes", "--json")
    rows = json.loads(listing)
    assert len(rows) == len(RECIPES)
    assert {"name", "stage", "backbone", "epochs", "batch_size", "follows", "published_top1"} == set(rows[0])
    by_name = {row["name"]: row for row in rows}
    assert by_name["vit-l16-1600e-linear"]["published_top1"] == 76.0
    assert by_name["vit-l16-1600e-linear-mm"]["published_top1"] == 75.5
    _, text, _ = run(capsys, "recipes", "vit-b16-800e")
    assert yaml.safe_load(text)["epochs"] == 800
    _, table, _ = run(capsys, "recipes")
    assert "vit-h14-1600e-finetune-448" in table


def test_pretrain_measure_and_draw(
    tiny_recipe: PretrainRecipe, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, data = tmp_path / "run", tiny_recipe.data
    decoder = ("--decoder-width", 32, "--decoder-depth", 1, "--decoder-heads", 2)
    command = ("pretrain", "fashion-mnist", "--data", data, "--out", out, "--epochs", 1, *TINY_FLAGS, *decoder)
    code, printed, _ = run(capsys, *command, "--json")
    assert code == 0
    result = json.loads(printed)
    assert result["epoch"] == 1.0
    assert yaml.safe_load((out / "recipe.yaml").read_text())["width"] == 32

    code, printed, progress = run(capsys, *command)
    assert code == 0
    assert "already finished" in progress
    assert f"{result['loss']:.4f}" in printed

    repeat = tmp_path / "repeat"
    code, printed, _ = run(capsys, "pretrain", "--recipe-file", out / "recipe.yaml", "--out", repeat, "--json")
    assert (code, json.loads(printed)["loss"]) == (0, result["loss"])

    code, printed, _ = run(capsys, "knn", "--weights", out, "--data", data, "-k", 5, "--json")
    assert (code, json.loads(printed)["neighbours"]) == (0, 5)
    for verb in ("linear", "finetune"):
        measured = tmp_path / verb
        flags = ("--weights", out, "--data", data, "--out", measured, "--epochs", 1, *TINY_FLAGS, "--json")
        code, printed, _ = run(capsys, verb, "fashion-mnist", *flags)
        assert (code, json.loads(printed)["protocol"]) == (0, verb)
    code, _, _ = run(capsys, "embed", "--weights", out, "--data", data, "--out", tmp_path / "e.parquet")
    assert (code, len(pq.read_table(tmp_path / "e.parquet"))) == (0, 160)
    Image.new("L", (28, 28), 90).save(tmp_path / "a.png")
    code, _, _ = run(capsys, "reconstruct", "--weights", out, "--out", tmp_path / "p.png", tmp_path / "a.png")
    assert code == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def empty(folder: Path) -> list[object]:
    (folder / "empty").mkdir()
    return ["pretrain", "cifar10", "--data", folder / "empty", "--out", folder / "run"]


def no_images(folder: Path) -> list[object]:
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("hello")
    return ["pretrain", "cifar10", "--data", folder / "texts", "--out", folder / "run"]


def indivisible(folder: Path) -> list[object]:
    return ["pretrain", "cifar10", "--data", "fashion-mnist", "--image-size", 30, "--out", folder / "run"]


def unknown_recipe(folder: Path) -> list[object]:
    return ["pretrain", "vit-b16-80e", "--data", "fashion-mnist", "--out", folder / "run"]


def unwritable(folder: Path) -> list[object]:
    (folder / "file").write_text("in the way")
    return ["pretrain", "fashion-mnist", "--out", folder / "file" / "run"]


def missing_data(folder: Path) -> list[object]:
    return ["pretrain", "cifar10", "--out", folder / "run"]


def no_such_weights(folder: Path) -> list[object]:
    return ["knn", "--weights", folder / "nowhere", "--data", "fashion-mnist"]


def pickled_weights(folder: Path) -> list[object]:
    (folder / "model.pth").write_bytes(b"\x80\x04.")
    return ["knn", "--weights", folder / "model.pth", "--data", "fashion-mnist"]


def unknown_verb(_: Path) -> list[object]:
    return ["pretrian", "cifar10"]


def no_recipe(_: Path) -> list[object]:
    return ["pretrain", "--data", "photos"]


def wrong_stage(folder: Path) -> list[object]:
    return ["pretrain", "cifar10-linear", "--data", "fashion-mnist", "--out", folder / "run"]


def bad_field(folder: Path) -> list[object]:
    return ["pretrain", "cifar10", "--label-fraction", "2", "--out", folder / "run"]


def bad_value(folder: Path) -> list[object]:
    return ["finetune", "cifar10", "--label-fraction", "2", "--out", folder / "run"]


@pytest.mark.parametrize(
    ("command", "code", "wrong", "remedy"),
    [
        (empty, 1, "no images in", "point --data at a folder that holds"),
        (no_images, 1, "1 files, none of them an image", "point --data at"),
        (indivisible, 1, "30x30 is not a multiple of the patch size 4x4", "use --image-size 32x32"),
        (unknown_recipe, 2, "no pretrain recipe called 'vit-b16-80e'", "did you mean vit-b16-800e"),
        (unwritable, 1, "cannot write to", "give --out a folder that you may write"),
        (missing_data, 1, "no images to train on", "give --data"),
        (no_such_weights, 1, "there are no weights at", "give a run folder"),
        (pickled_weights, 1, "cannot be read without executing code", "save its tensors as .safetensors"),
        (unknown_verb, 2, "no verb called 'pretrian'", "did you mean `openmae pretrain`"),
        (no_recipe, 2, "which recipe?", "`openmae recipes` lists them"),
        (wrong_stage, 2, "cifar10-linear is a recipe for linear", "did you mean cifar10"),
        (bad_field, 2, "--label-fraction", "--help"),
        (bad_value, 2, "--label-fraction must lie in (0, 1]", "--help"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_wrong_input_says_what_is_wrong_and_what_to_do(
    command: object, code: int, wrong: str, remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(command)
    found_code, out, error = run(capsys, *command(tmp_path))
    said = " ".join((out + error).replace("│", " ").split())
    assert found_code == code
    assert wrong in said
    assert remedy in said
    assert "Traceback" not in said


def test_weights_of_another_model_are_refused(
    tiny_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, error = run(capsys, "finetune", "fashion-mnist", "--weights", tiny_run, "--out", tmp_path / "run")
    assert code == 1
    assert "is of another network than fashion-mnist-finetune (width 32 instead of 128" in error
    assert "add --width 32" in error


def test_an_encoder_alone_cannot_reconstruct(
    tiny_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "a.png")
    weights = tiny_run / "encoder.safetensors"
    code, _, error = run(capsys, "reconstruct", "--weights", weights, "--out", tmp_path / "p.png", tmp_path / "a.png")
    assert code == 1
    assert "without its decoder" in error
    assert "give the run folder" in error


def test_another_recipe_on_the_same_folder_is_refused(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(capsys, "pretrain", "fashion-mnist", "--out", tiny_run)
    assert code == 1
    assert "holds another run" in error
    assert "use another --out" in error


def test_starting_the_command_line_does_not_import_torch() -> None:
    program = (
        "import sys, openmae.cli; code = openmae.cli.main(['recipes', '--json']); "
        "assert 'torch' not in sys.modules, 'torch'; sys.exit(code)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_on_a_system_without_posix_locks_one_sentence_says_where_it_runs() -> None:
    program = (
        "import sys, signal; sys.modules['fcntl'] = None; import openmae.cli; "
        "sys.exit(openmae.cli.main(['pretrain', 'fashion-mnist', '--out', 'run']))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr.startswith("openmae: OpenMAE runs on Linux and macOS, and this is ")
    assert finished.stderr.count("\n") == 1


def test_a_closed_pipe_is_no_error_message() -> None:
    command = f"{sys.executable} -m openmae.cli recipes | head -1"
    finished = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert finished.stderr == ""


def test_pack_says_what_it_did_and_what_it_brings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (400, 300)).save(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_text("<html>")
    flags = ("--short-side", 100, "--workers", 0)
    code, out, _ = run(capsys, "pack", tmp_path / "in", tmp_path / "text", *flags)
    assert code == 0
    assert "1 images packed" in out
    assert "1 left out (bad_images.jsonl says why)" in out
    assert "times as fast" in out
    assert f"--data {tmp_path / 'text'}" in out
    code, out, _ = run(capsys, "pack", tmp_path / "in", tmp_path / "json", *flags, "--format", "raw", "--json")
    assert code == 0
    assert json.loads(out)["bytes_after"] > 100 * 133 * 3
    code, _, err = run(capsys, "pack", tmp_path / "in", tmp_path / "json", *flags)
    assert code == 1
    assert "holds a packed set already; give a new folder" in err


def test_a_recipe_file_of_another_stage_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    assert main(["recipes", "cifar10-linear"]) == 0
    file.write_text(capsys.readouterr().out)
    code, _, err = run(capsys, "pretrain", "--recipe-file", file, "--out", tmp_path / "run")
    assert code == 2
    assert "is a recipe for linear; use `openmae linear`" in err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("odd"), ValueError("odd")])
def test_what_nobody_foresaw_ends_in_a_sentence_and_in_a_traceback_only_when_asked_for(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setitem(VERBS, "knn", Verb(fail))
    code, _, err = run(capsys, "knn")
    assert code == 1
    asks = (
        "the same command continues"
        if isinstance(error, KeyboardInterrupt)
        else f"odd ({type(error).__name__}; set OPENMAE_DEBUG=1"
    )
    assert asks in err
    if isinstance(error, Exception):
        monkeypatch.setenv("OPENMAE_DEBUG", "1")
        with pytest.raises(type(error), match="odd"):
            main(["knn"])


def test_the_features_of_a_run_are_counted_in_one_json_object(
    tiny_run: Path, small_fashion: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "f.parquet"
    code, printed, _ = run(capsys, "embed", "--weights", tiny_run, "--data", small_fashion, "--out", out, "--json")
    result = json.loads(printed)
    assert (code, result["images"], result["bad"], result["out"]) == (0, 160, 0, str(out))


@pytest.mark.parametrize("result", [{"top1": 50.0, "out": "runs/a"}, [{"name": "a"}], {}])
def test_json_prints_the_result_and_nothing_else(
    result: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(VERBS, "knn", Verb(lambda: result))
    code, printed, err = run(capsys, "knn", "--json")
    assert (code, json.loads(printed), err) == (0, result, "")


def test_in_one_of_several_processes_what_libraries_print_is_no_result(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def greet() -> list[int]:
        os.write(1, b"rank 0 is connected\n")  # as gloo does, from C++
        return [1]

    monkeypatch.setitem(VERBS, "knn", Verb(greet))
    monkeypatch.setenv("LOCAL_RANK", "0")
    code, printed, err = run(capfd, "knn", "--json")
    assert (code, json.loads(printed), err) == (0, [1], "rank 0 is connected\n")


def test_quiet_prints_the_result_and_errors_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def speak(*, fail: bool = False) -> str:
        say("starting")
        if fail:
            raise UserError("no images; give some")
        return "the result"

    monkeypatch.setitem(VERBS, "knn", Verb(speak))
    assert run(capsys, "knn") == (0, "the result\n", "starting\n")
    assert run(capsys, "knn", "--quiet") == (0, "the result\n", "")
    assert run(capsys, "knn", "--quiet", "--fail") == (1, "", "openmae: no images; give some\n")


def test_a_refusal_of_the_system_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/a/log.txt")

    monkeypatch.setitem(VERBS, "knn", Verb(fail))
    code, _, err = run(capsys, "knn")
    assert code == 1
    assert err.startswith("openmae: runs/a/log.txt: No space left on device; check that")
    assert "please report" not in err


@pytest.mark.parametrize(
    ("command", "patience"),
    [
        (["knn", "--weights", "w", "--data", "d", "--devices", "2"], 15.0),
        (["embed", "--weights", "w", "--data", "d", "--out", "o", "--devices", "2"], 15.0),
        (["pretrain", "cifar10", "--data", "d", "--devices", "2", "--peer-timeout", "5"], 20.0),
    ],
)
def test_a_verb_on_several_devices_runs_in_a_process_for_each(
    command: list[str], patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def run_processes(words: list[str], *, devices: int, nodes: int, patience: float) -> int:
        started.append((words, devices, nodes, patience))
        return 71

    monkeypatch.setattr(cli, "run_processes", run_processes)
    assert main(command) == 71
    assert started == [(command, 2, 1, patience)]


def test_a_training_that_no_process_could_begin_starts_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "run_processes", None)
    code, _, err = run(capsys, "pretrain", "cifar10", "--devices", "2")
    assert code == 1
    assert "give --data" in err


def test_python_runs_the_package_as_the_command() -> None:
    command = [sys.executable, "-m", "openmae", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("openmae ")
