"""The chart of the curves: which points and lines it has."""

from typing import Any

from openmae.reporting.report.curves import MOST_POINTS, Log, axes, curves


def steps(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [
        {"step": s, "epoch": s / 10, "samples": 10 * s, "loss": 1 / s, "lr": 0.1, **changes}
        for s in range(1, count + 1)
    ]


def lines(chart: dict[str, Any], title: str) -> dict[str, list[dict[str, Any]]]:
    """The points of each line of the panel with this title."""
    (panel,) = [one for one in chart["vconcat"] if one["layer"][0]["encoding"]["y"]["title"] == title]
    source = panel["layer"][0]["data"]
    points = chart["datasets"][source["name"]] if "name" in source else source["values"]
    found: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        found.setdefault(point["line"], []).append(point)
    return found


def test_every_figure_of_the_log_is_a_line_and_trivial_predictors_are_dashed() -> None:
    quality = {"step": 10, "epoch": 1.0, "samples": 100, "quality/loss": 0.4, "quality/own_mean": 1.0}
    chart = curves([Log(name="mine", records=[*steps(10), quality])])
    assert chart is not None
    loss = lines(chart, "loss")
    assert list(loss) == ["training", "fixed images and masks", "true mean of each patch"]
    assert [loss[name][0]["dashed"] for name in loss] == [False, False, True]
    assert len(loss["training"]) == 10
    assert len(lines(chart, "learning rate")["rate"]) == 10


def test_a_long_log_is_thinned_to_the_means_of_neighbouring_points_and_ends_where_it_ends() -> None:
    chart = curves([Log(name="mine", records=steps(1000))])
    assert chart is not None
    points = lines(chart, "loss")["training"]
    assert len(points) <= MOST_POINTS
    assert points[-1]["samples"] == 10_000
    assert abs(points[0]["value"] - sum(1 / s for s in range(1, 5)) / 4) < 1e-4


def test_an_evaluation_is_where_the_training_before_it_was() -> None:
    chart = curves([Log(name="mine", records=[*steps(10), {"step": 10, "top1": 50.0}])])
    assert chart is not None
    (point,) = lines(chart, "accuracy, %")["top-1"]
    assert (point["samples"], point["epoch"], point["value"]) == (100, 1.0, 50.0)


def test_runs_are_laid_over_each_other_and_a_published_log_is_dashed() -> None:
    logs = [
        Log(name="a", records=steps(4)),
        Log(name="b", records=steps(8)),
        Log(name="zoo:c", records=steps(9), published=True),
    ]
    chart = curves(logs)
    assert chart is not None
    found = lines(chart, "loss")
    assert {name: points[0]["dashed"] for name, points in found.items()} == {"a": False, "b": False, "zoo:c": True}
    assert [found[name][-1]["share"] for name in found] == [100, 100, 100]


def test_only_axes_that_all_logs_have_are_offered() -> None:
    whole, published = Log(name="a", records=steps(3)), Log(name="b", records=[{"epoch": 1, "loss": 1.0}])
    assert axes([whole]) == ["samples", "epoch", "share"]
    assert axes([whole, published]) == ["epoch", "share"]


def test_without_a_line_of_training_there_is_no_chart() -> None:
    assert curves([Log(name="mine", records=[{"step": 3, "top1": 50.0}])]) is None


def test_one_zoom_is_of_all_panels() -> None:
    chart = curves([Log(name="mine", records=steps(3))])
    assert chart is not None
    (zoom,) = chart["params"]
    assert zoom["views"] == [panel["layer"][0]["name"] for panel in chart["vconcat"]]
