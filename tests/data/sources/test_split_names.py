import pytest

from openmae.data.sources.split_names import divide, is_held_out, name_splits, split_of_folder


@pytest.mark.parametrize("name", ["testimonials", "trainstation", "trains", "crash test", "developers", "tests", "1"])
def test_a_folder_is_a_split_only_when_its_whole_name_says_so(name: str) -> None:
    assert split_of_folder(name) is None


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.parquet", "train"),
        ("train0001.tar", "train"),
        ("train_0.tar", "train"),
        ("Validation-00000-of-00001.parquet", "val"),
        ("imagenet1k-dev-000.tar", "val"),
        ("cifar10_test.parquet", "test"),
        ("data/valid/0000.parquet", "val"),
        ("testing/part/0.tar", "test"),
    ],
)
def test_a_word_in_the_name_of_a_file_or_else_its_folder_makes_a_split(name: str, split: str) -> None:
    other = "part-train.tar" if split != "train" else "part-test.tar"
    assert divide([name, other])[split] == [name]


def test_part_of_a_word_makes_no_split() -> None:
    files = ["trainstation.parquet", "testimonials.parquet", "tests/0.parquet"]
    assert divide(files) == {"train": files}


def test_folders_above_the_data_say_nothing() -> None:
    assert divide(["/home/test/x-0.tar", "/home/test/x-1.tar"], "/home/test") == {
        "train": ["/home/test/x-0.tar", "/home/test/x-1.tar"]
    }


def test_a_word_that_every_file_has_divides_nothing() -> None:
    assert divide(["crash-test-train.tar", "crash-test-val.tar"]) == {
        "train": ["crash-test-train.tar"],
        "val": ["crash-test-val.tar"],
    }


def test_a_file_that_names_two_splits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train_val.tar names two splits \(train and val\); rename it"):
        divide(["train_val.tar", "test.tar"])


def test_validation_and_test_are_never_merged_whatever_they_are_called() -> None:
    assert divide(["dev-0.tar", "eval-0.tar", "validation-0.tar", "test-0.tar", "training-0.tar"]) == {
        "train": ["training-0.tar"],
        "val": ["validation-0.tar"],
        "test": ["test-0.tar"],
        "dev": ["dev-0.tar"],
        "eval": ["eval-0.tar"],
    }
    assert is_held_out("dev")
    assert is_held_out("eval")


def test_the_query_of_a_url_names_no_split() -> None:
    assert list(divide(["https://host/a-0.tar?key=test", "https://host/a-1.tar?key=train"])) == ["train"]


def test_two_spellings_of_one_folder_stay_two_splits() -> None:
    assert name_splits(["Train", "train"]) == {"train": "train", "Train": "Train"}
