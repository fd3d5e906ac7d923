"""What people see of a result."""

from openmae.reporting.results import show_pretraining, show_values


def test_a_pretraining_shows_its_loss_and_its_speed() -> None:
    assert list(show_pretraining({"loss": 0.25, "images_per_second": 1234.5, "out": "runs/a"})) == [
        "final loss 0.2500, 1234 images/s",
        "run folder: runs/a",
    ]


def test_any_result_can_be_shown() -> None:
    assert list(show_values({"images": 3, "bad": 0})) == ["images: 3", "bad: 0"]
    assert list(show_values("a.png")) == ["a.png"]
    assert list(show_values(None)) == []
