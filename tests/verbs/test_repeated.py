"""A flag that is given twice is an error that names it with both values; the last one never wins in silence."""

from collections.abc import Sequence
from typing import Annotated

import pytest
import tyro

from openmae.errors import WrongUsage
from openmae.verbs import VERBS
from openmae.verbs.flags import parse

KNN = ["--weights", "w", "--data", "d"]


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("pretrain", ["cifar10", "--epochs", "10", "--epochs", "20"], "--epochs is given twice (10, 20); give it once"),
        ("pretrain", ["cifar10", "--epochs=10", "--epochs", "20"], "--epochs is given twice (10, 20)"),
        ("pretrain", ["cifar10", "--batch-size", "8", "--batch_size=9"], "--batch-size is given twice (8, 9)"),
        ("pretrain", ["cifar10", "--out", "a", "--out", "b", "--out=c"], "--out is given 3 times (a, b, c)"),
        ("pretrain", ["cifar10", "--hold", "--no-hold"], "--hold is given twice (--hold, --no-hold)"),
        ("pretrain", ["cifar10", "--mean", "0.1", "-1", "--mean", "0.3"], "--mean is given twice (0.1 -1, 0.3)"),
        ("pretrain", ["--recipe-file", "a", "--recipe-file=b"], "--recipe-file is given 2 times; give it once"),
        ("finetune", ["cifar10", "--weights", "a", "--weights", "b"], "--weights is given twice (a, b)"),
        ("linear", ["cifar10", "--seed", "1", "--seed", "1"], "--seed is given twice (1, 1)"),
        ("knn", [*KNN, "-k", "3", "--neighbours", "4"], "--neighbours is given twice (3, 4)"),
        ("knn", [*KNN, "--weights", "v"], "--weights is given twice (w, v)"),
        ("knn", [*KNN, "--json", "--json"], "--json is given twice (--json, --json)"),
        ("check", ["d", "--out", "a", "--out", "b"], "--out is given twice (a, b)"),
        ("convert", ["a", "b", "--to", "timm", "--to", "fair"], "--to is given twice (timm, fair)"),
    ],
)
def test_it_is_named_with_its_values(verb: str, words: list[str], message: str) -> None:
    with pytest.raises(WrongUsage) as error:
        parse(verb, VERBS[verb].run, words)
    assert str(error.value).startswith(message)


def test_a_flag_whose_values_are_collected_may_be_repeated() -> None:
    def read(*, data: Annotated[Sequence[str], tyro.conf.UseAppendAction] = (), seed: int = 0) -> None:
        """Read.

        Args:
            data: Some of them.
            seed: A number.
        """

    found = parse("read", read, ["--data", "a", "--seed", "-3", "--data", "b"]).arguments
    assert found == {"data": ("a", "b"), "seed": -3}
