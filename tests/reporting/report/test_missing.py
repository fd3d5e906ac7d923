"""The commands that would add what a report lacks."""

import shlex
from typing import Any

from openmae.reporting.report.measured import measurements_in
from openmae.reporting.report.missing import missing_parts
from openmae.reporting.run_files import RunFiles
from openmae.verbs import VERBS
from openmae.verbs.flags import parse


def run(**recipe: Any) -> RunFiles:
    return RunFiles(
        path="runs/my run",
        name="my run",
        recipe=recipe,
        stage=recipe["stage"],
        metrics=[],
        alarms=[],
        results=None,
        environment={},
        state="finished",
        started=None,
        updated=None,
    )


def test_every_command_is_understood_and_names_all_folders_of_the_data() -> None:
    pretraining = run(stage="pretrain", name="cifar10", data=["first set", "second"])
    missing = list(missing_parts(pretraining, [], classes=False, mistakes=False, pictures=False))
    verbs = []
    for one in missing:
        program, verb, *words = shlex.split(one.command.partition(" > ")[0])
        assert program == "openmae"
        verbs.append(verb)
        if verb == "pretrain":  # its recipe file would be read
            assert words[:2] == ["--recipe-file", "runs/my run/recipe.yaml"]
            continue
        assert parse(verb, VERBS[verb].run, words).arguments
        if verb != "report":
            place = words.index("--data")
            assert words[place + 1 : place + 3] == ["first set", "second"]
    assert verbs == ["knn", "knn", "linear", "report", "pretrain"]


def test_what_is_there_is_not_missing() -> None:
    knn = {"protocol": "knn", "label_fraction": 1.0, "top1": 50.0}
    measured = measurements_in([knn, {**knn, "encoder": "untrained"}])
    pretraining = run(stage="pretrain", name="cifar10")
    pretraining.metrics.append({"step": 1, "epoch": 1.0, "quality/loss": 0.5})
    assert list(missing_parts(pretraining, measured, classes=True, mistakes=True, pictures=True)) == []


def test_the_pictures_of_a_measurement_are_in_the_report_of_what_it_measured() -> None:
    (one,) = missing_parts(run(stage="linear", weights="runs/a"), [], classes=True, mistakes=True, pictures=False)
    assert one.command == "openmae report runs/a 'runs/my run'"
