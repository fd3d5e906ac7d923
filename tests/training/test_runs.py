import errno
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from openmae.checkpoints.names import BAD_IMAGES, ENVIRONMENT, LOG, METRICS, RECIPE, RESULTS
from openmae.recipes import PretrainRecipe
from openmae.recipes.saved import from_yaml
from openmae.recipes.values import Every
from openmae.reporter import Reporter, note, say, use
from openmae.training.runs import Run

OPENED: list[Run] = []


@pytest.fixture(autouse=True)
def close_runs() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def open_run(path: Path, recipe: PretrainRecipe, *, writes: bool = True) -> Run:
    run = Run(path, recipe, writes=writes)
    OPENED.append(run)
    return run


def logged(path: Path, recipe: PretrainRecipe, steps: int) -> None:
    """Leave a run behind that was stopped after `steps` logged steps."""
    run = open_run(path, recipe)
    run.rewind(0)
    for step in range(1, steps + 1):
        run.log(step, loss=2.0 ** (1 - step))
    run.close()


def test_the_folder_holds_the_recipe_and_the_environment(tmp_path: Path, tiny_recipe: PretrainRecipe) -> None:
    open_run(tmp_path / "a" / "run", tiny_recipe)
    assert from_yaml((tmp_path / "a" / "run" / RECIPE).read_text()) == tiny_recipe
    environment = json.loads((tmp_path / "a" / "run" / ENVIRONMENT).read_text())
    assert environment["seed"] == tiny_recipe.seed
    assert {"torch", "timm", "openmae"} <= set(environment["packages"])
    assert {"command", "started", "python", "platform", "processors", "accelerators"} <= set(environment)


def test_logged_steps_are_in_metrics_and_tensorboard(tmp_path: Path, tiny_recipe: PretrainRecipe) -> None:
    logged(tmp_path, tiny_recipe, 3)
    assert (tmp_path / METRICS).read_text().splitlines()[1] == '{"step": 2, "loss": 0.5}'
    assert curve(tmp_path) == [(1, 1.0), (2, 0.5), (3, 0.25)]


def test_messages_go_to_the_terminal_and_the_log(tmp_path: Path, tiny_recipe: PretrainRecipe) -> None:
    console = Console(record=True, width=400, file=io.StringIO())
    with use(Reporter(console=console)):
        open_run(tmp_path, tiny_recipe)
        say("first [bold]")
        say("second")
    assert console.export_text().splitlines() == ["first [bold]", "second"]
    lines = (tmp_path / LOG).read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["first [bold]", "second"]


def test_a_process_that_does_not_write_leaves_no_trace(tmp_path: Path, tiny_recipe: PretrainRecipe) -> None:
    run = open_run(tmp_path / "run", tiny_recipe, writes=False)
    say("hello")
    run.rewind(0)
    run.log(1, loss=1.0)
    run.append(BAD_IMAGES, {})
    run.finish({})
    run.close()
    assert not (tmp_path / "run").exists()


def curve(path: Path) -> list[tuple[int, float]]:
    """The loss as TensorBoard shows it."""
    reader = import_module("tensorboard.backend.event_processing.event_accumulator")  # it has no types
    events = reader.EventAccumulator(str(path / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 5}, "seed 0 there, 5 now"),
        ({"base_lr": 1.0, "epochs": 9}, "epochs 2 there, 9 now, base_lr 0.5 there, 1.0 now"),
        ({"mask_ratio": 0.5}, "mask_ratio 0.75 there, 0.5 now"),
    ],
)
def test_another_recipe_on_the_same_folder_is_refused_by_every_process(
    tmp_path: Path,
    tiny_recipe: PretrainRecipe,
    changes: dict[str, float],
    message: str,
    writes: bool,
) -> None:
    tiny_recipe = replace(tiny_recipe, base_lr=0.5)
    logged(tmp_path, tiny_recipe, 1)
    other = replace(tiny_recipe, **changes)  # type: ignore[arg-type]  # field names with their values
    with pytest.raises(ValueError, match="holds another run") as error:
        open_run(tmp_path, other, writes=writes)
    assert message in str(error.value)
    assert "--out" in str(error.value)
    assert from_yaml((tmp_path / RECIPE).read_text()) == tiny_recipe


def test_a_folder_where_no_step_was_made_takes_another_recipe(tmp_path: Path, tiny_recipe: PretrainRecipe) -> None:
    open_run(tmp_path, replace(tiny_recipe, patch_size=5))
    open_run(tmp_path, tiny_recipe)
    assert from_yaml((tmp_path / RECIPE).read_text()) == tiny_recipe


def test_what_changes_no_result_may_differ(tmp_path: Path, tiny_recipe: PretrainRecipe) -> None:
    logged(tmp_path, tiny_recipe, 1)
    other = replace(
        tiny_recipe, devices=2, nodes=2, workers=7, log_every=3, save_every=Every(1, "min"), keep_last=5, max_bad=0.5
    )
    open_run(tmp_path, other)
    assert from_yaml((tmp_path / RECIPE).read_text()) == other


def test_rewinding_drops_later_and_half_lines_and_returns_the_newest_figures(
    tmp_path: Path, tiny_recipe: PretrainRecipe
) -> None:
    run = open_run(tmp_path, tiny_recipe)
    lines = [
        '{"step": 1, "loss": 3.5}',
        '{"step": 2, "loss": 3.25}',
        '{"step": 2, "top1": 50.0}',
        '{"step": 3, "loss": 3.0}',
    ]
    (tmp_path / METRICS).write_text("\n".join([*lines, '{"step": 2, "lo', "17", "{}"]))
    assert run.rewind(2) == {"loss": 3.25, "top1": 50.0}
    run.log(3, loss=2.5)
    run.close()
    assert (tmp_path / METRICS).read_text().splitlines() == [*lines[:3], '{"step": 3, "loss": 2.5}']


def test_rewinding_repairs_the_list_of_bad_images(tmp_path: Path, tiny_recipe: PretrainRecipe) -> None:
    run = open_run(tmp_path, tiny_recipe)
    (tmp_path / BAD_IMAGES).write_text('{"image": 4}\n{"image": 5, "na')
    run.rewind(0)
    run.append(BAD_IMAGES, {"image": 6})
    run.close()
    assert run.records(BAD_IMAGES) == [{"image": 4}, {"image": 6}]


def test_a_continued_run_draws_one_curve(tmp_path: Path, tiny_recipe: PretrainRecipe) -> None:
    logged(tmp_path, tiny_recipe, 4)
    run = open_run(tmp_path, tiny_recipe)
    run.rewind(2)
    run.log(3, loss=9.0)
    run.close()
    assert curve(tmp_path) == [(1, 1.0), (2, 0.5), (3, 9.0)]


def test_a_finished_run_says_so_returns_its_results_and_keeps_its_files(
    tmp_path: Path, tiny_recipe: PretrainRecipe
) -> None:
    run = open_run(tmp_path, tiny_recipe)
    assert run.finished() is None
    run.finish({"loss": 0.25, "seed": 0})
    before = {name: (tmp_path / name).read_bytes() for name in (ENVIRONMENT, RECIPE, RESULTS)}
    again = open_run(tmp_path, replace(tiny_recipe, workers=3))
    assert again.finished() == {"loss": 0.25, "seed": 0}
    assert "already finished" in (tmp_path / LOG).read_text()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("below", ["file", "file/run"])
def test_an_output_that_cannot_be_written_is_one_clear_sentence(
    tmp_path: Path, tiny_recipe: PretrainRecipe, below: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"^cannot write to .*file.* \(.+\); give --out a folder that you may write$"):
        open_run(tmp_path / below, tiny_recipe)


def test_only_the_first_process_writes_to_the_log(tmp_path: Path, tiny_recipe: PretrainRecipe) -> None:
    for writes in (False, True):
        with use(Reporter(quiet=True)):
            open_run(tmp_path, tiny_recipe, writes=writes)
            note("told before")
            say("told now")
    assert (tmp_path / LOG).read_text().count("told") == 2


def test_a_log_begins_with_what_was_said_before_the_folder_was_opened(
    tmp_path: Path, tiny_recipe: PretrainRecipe
) -> None:
    say("3 images are left out")
    run = open_run(tmp_path / "one", tiny_recipe)
    say("now")
    run.close()
    say("between")
    open_run(tmp_path / "two", tiny_recipe)
    logs = [(tmp_path / name / LOG).read_text().splitlines() for name in ("one", "two")]
    assert [[line.split(" ", 2)[2] for line in log] for log in logs] == [["3 images are left out", "now"], ["between"]]


def test_figures_that_a_full_disk_refuses_are_written_with_later_ones(
    tmp_path: Path, tiny_recipe: PretrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(tmp_path, tiny_recipe)
    run.rewind(0)
    run.log(1, loss=1.0)
    opened = Path.open

    def half(self: Path, *arguments: Any, **options: Any) -> Any:
        """A disk that takes the beginning of a line."""
        if self.name != METRICS:
            return opened(self, *arguments, **options)
        with opened(self, "a") as file:
            file.write('{"step": ')
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", half)
        run.log(2, loss=0.5)
        run.log(3, loss=0.25)
    run.log(4, loss=0.125)
    assert [record["step"] for record in run.records(METRICS)] == [1, 2, 3, 4]
    assert run.rewind(3)["loss"] == 0.25
    assert [record["step"] for record in run.records(METRICS)] == [1, 2, 3]


def test_a_run_that_only_saved_its_first_weights_may_be_another_one(
    tmp_path: Path, tiny_recipe: PretrainRecipe
) -> None:
    open_run(tmp_path, tiny_recipe).close()
    (tmp_path / "checkpoints" / "step-00000000").mkdir(parents=True)
    open_run(tmp_path, replace(tiny_recipe, epochs=7))
    assert not (tmp_path / "checkpoints").exists(), "weights of another recipe must not be continued"


def test_after_a_later_checkpoint_it_may_not(tmp_path: Path, tiny_recipe: PretrainRecipe) -> None:
    open_run(tmp_path, tiny_recipe).close()
    (tmp_path / "checkpoints" / "step-00000010").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds another run"):
        open_run(tmp_path, replace(tiny_recipe, epochs=7))
