"""Several places of `--data` as one data set: their splits are joined by name."""

import os
from collections.abc import Mapping, Sequence

from openmae.data.sources.data_set import Data, LeftOut, Source
from openmae.data.sources.joined import JoinedSource
from openmae.data.sources.split_names import in_order, split_of_folder
from openmae.data.sources.storage import is_remote, resolve
from openmae.errors import UserError


def require_apart(places: Sequence[str]) -> None:
    """Raise UserError when a place is given twice or lies in another one: its images would count twice."""
    real = [place if is_remote(place) else os.path.realpath(resolve(place)) for place in places]
    for number, place in enumerate(real):
        for other, outer in enumerate(real):
            if number > other and place == outer:
                raise UserError(f"--data names {places[other]} twice; give each place once")
            if number != other and place.startswith(outer.rstrip("/") + "/"):
                raise UserError(f"--data names {places[number]}, which lies in {places[other]}; give one of them")


def join_places(opened: Mapping[str, Data]) -> Data:
    """The data sets at several places as one.

    A place that is not divided, but is called as a split, is that split: photos/train and photos/val.
    """
    parts: dict[str, dict[str, Source]] = {}
    left_out: list[LeftOut] = []
    for place, data in opened.items():
        shown = place.rstrip("/") or place
        for split, source in data.splits.items():
            own = split_of_folder(os.path.split(shown)[1]) if tuple(data.splits) == ("train",) else None
            parts.setdefault(own or split, {})[shown] = source
        left_out += [left._replace(what=f"{shown}/{left.what}") for left in data.left_out]
    joined: dict[str, JoinedSource] = {}
    for split, sources in in_order(parts).items():
        train = next(iter(joined.values()), None)
        joined[split] = JoinedSource(sources, train=None if train is None else train.given)
    return Data(splits=joined, left_out=tuple(left_out))
