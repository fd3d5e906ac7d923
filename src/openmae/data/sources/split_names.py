"""Which split a folder or a file belongs to, by its name: one rule for all sources."""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from openmae.errors import UserError

T = TypeVar("T")

WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("train", "training"),
        "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
        "test": ("test", "testing"),
    }
)
"""The names of splits, and the words that stand for them, the usual one first."""
UNLABELLED_NAMES = ("unlabeled", "unlabelled", "unsupervised", "extra")
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
FOLDER = re.compile(rf"(?i:({'|'.join(SPLIT_OF)})[-_ ]?(?:\d+|images?|imgs?|data|set|split)?)[AB]?")
WORD = re.compile(r"[^\W\d_]+")
SHARD_NUMBER = re.compile(r"[-_. ]?\d+([-_ ]?of[-_ ]?\d+)?$", re.IGNORECASE)


def split_of_folder(name: str) -> str | None:
    """The split that a folder, or a split of the hub, stands for: the whole name is a word for it.

    >>> [split_of_folder(name) for name in ("Train", "val2017", "test_images", "testB", "testimonials", "crash test")]
    ['train', 'val', 'test', 'test', None, None]
    """
    found = FOLDER.fullmatch(name)
    return SPLIT_OF[found[1].lower()] if found else None


def is_held_out(split: str) -> bool:
    """Whether a split of this name is for measuring, so that nothing is trained on it unless someone asks for that.

    >>> [is_held_out(name) for name in ("train", "val", "eval", "test_hard", "unlabeled")]
    [False, True, True, True, False]
    """
    words = (SPLIT_OF.get(word) for word in WORD.findall(split.lower()))
    return any(word in ("val", "test") for word in (split_of_folder(split), *words))


def name_splits(names: Iterable[str]) -> dict[str, str]:
    """For each of these names of folders or splits the name of the split it becomes.

    Two that stand for the same split are never merged: the usual word gets its name, the other keeps its own.

    >>> name_splits(["Training", "dev", "eval", "test", "extra"])
    {'Training': 'train', 'dev': 'val', 'test': 'test', 'eval': 'eval', 'extra': 'extra'}
    """
    names = list(names)
    found: dict[str, str] = {}
    for split, words in WORDS.items():
        candidates = [name for name in names if split_of_folder(name) == split]
        by_word = sorted(candidates, key=lambda name: (name != name.lower(), name))
        ordered = sorted(by_word, key=lambda name: words.index(name.lower()) if name.lower() in words else len(words))
        if ordered:
            found[ordered[0]] = split
    return found | {name: name for name in names if name not in found}


def divide(files: Sequence[str], base: str = "") -> dict[str, list[str]]:
    """Divide containers of images into splits by their names.

    A word of the file's own name decides, then the nearest folder below `base` that stands for a split. A word that
    every file has divides nothing. Files that name no split are for training where no file says so; beside a training
    split they are splits of their own, called as their folder or file, without the number of the shard.

    >>> divide(["a/train-0.tar", "a/test-0.tar", "a/extra-0.tar"], "a")
    {'train': ['a/train-0.tar'], 'test': ['a/test-0.tar'], 'extra': ['a/extra-0.tar']}
    >>> divide(["part-0.parquet", "part-1.parquet", "dev.parquet"])
    {'train': ['part-0.parquet', 'part-1.parquet'], 'val': ['dev.parquet']}
    >>> divide(["test.parquet"])
    {'test': ['test.parquet']}

    Raises:
        UserError: when a file names two splits.
    """
    relative = [_below(base, file) for file in files]
    found = [_words(name) for name in relative]
    shared = set.intersection(*map(set, found)) if len(files) > 1 else set()
    named: dict[str, list[str]] = {}
    unnamed: list[int] = []
    for place, words in enumerate(found):
        own = [word for word in words if word not in shared] or words
        if len({SPLIT_OF[word] for word in own}) > 1:
            raise UserError(f"{files[place]} names two splits ({' and '.join(own)}); rename it so that it names one")
        name = own[0] if own else next(filter(split_of_folder, reversed(relative[place].split("/")[:-1])), None)
        if name is None:
            unnamed.append(place)
        else:
            named.setdefault(name, []).append(files[place])
    names = name_splits(named)
    splits = {names[name]: parts for name, parts in named.items()}
    for place in unnamed:
        beside = "train" in names.values()
        splits.setdefault(_own_name(relative[place]) if beside else "train", []).append(files[place])
    return in_order(splits)


def in_order(splits: Mapping[str, T]) -> dict[str, T]:
    """train, val and test first, then all others as they come."""
    return {name: splits[name] for name in (*filter(splits.__contains__, WORDS), *splits)}


def _below(base: str, file: str) -> str:
    """The path of a file from the folder `base`; of a URL without its query."""
    path = file.partition("?")[0] if "://" in file else file
    return path[len(base) :].lstrip("/") if path.startswith(base) else path


def _words(file: str) -> list[str]:
    """The words for splits in a file's own name."""
    stem = file.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
    return [word for word in dict.fromkeys(WORD.findall(stem.lower())) if word in SPLIT_OF]


def _own_name(file: str) -> str:
    """The split of a file that names none: its first folder, or its name without extension and number."""
    folder, _, name = file.replace("\\", "/").partition("/")
    stem = folder if name else folder.partition(".")[0]
    return SHARD_NUMBER.sub("", stem) or "other"
