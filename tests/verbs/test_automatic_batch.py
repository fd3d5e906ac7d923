import pytest

from openmae.cli import main
from openmae.verbs import VERBS
from openmae.verbs.flags import parse


@pytest.mark.parametrize(
    "words", [["--batch-size", "auto"], ["--batch-size=auto"], ["--batch_size=auto"], ["--batch_size", "auto"]]
)
def test_an_automatic_batch_reaches_the_verb_beside_the_recipes_own(words: list[str]) -> None:
    call = parse("pretrain", VERBS["pretrain"].run, ["cifar10", *words, "--epochs", "3"])
    assert call.arguments["batch_size"] == "auto"
    assert (call.arguments["recipe"].batch_size, call.arguments["recipe"].epochs) == (64, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "cifar10", "--batch-size", "auto", "--batch-size", "64"], "--batch-size is given twice"),
        (
            ["pretrain", "cifar10", "--batch-size", "auto", "--accumulate", "2"],
            "--batch-size auto chooses --accumulate",
        ),
    ],
)
def test_an_automatic_batch_and_one_of_the_user_are_wrong_usage(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_only_pre_training_has_an_automatic_batch() -> None:
    with pytest.raises(SystemExit) as stop:
        parse("finetune", VERBS["finetune"].run, ["cifar10", "--batch-size", "auto"])
    assert stop.value.code == 2
