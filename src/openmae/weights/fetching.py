"""Weights that are named by an address: `zoo:NAME`, `https://…`, `hf://owner/name`; and the published logs."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from openmae.errors import UserError
from openmae.files import cache_folder
from openmae.recipes.zoo import NO_COMMERCIAL_USE, ZOO, ZooEntry, find_published
from openmae.reporter import say
from openmae.weights.downloading import Digest, download
from openmae.weights.hub import SCHEME as HUB
from openmae.weights.hub import HubModel, cached_model, fetch_model
from openmae.weights.transfer import shown

ZOO_SCHEME = "zoo:"
WEB = ("https://", "http://")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://")
# A Path of an address has one slash where the address has two.
SPOILED = re.compile(r"(https?|hf):/(?=[^/])")
READABLE = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True, kw_only=True)
class Located:
    """A file or folder on this machine, and the published row that it is of."""

    path: Path
    entry: ZooEntry | None = None


@dataclass(frozen=True, kw_only=True)
class Cached:
    """What the cache has of a published row: its file or folder, and the size in bytes."""

    path: Path
    size: int


def locate(spec: str | Path) -> Located:
    """The file or folder that a path or an address names; an address is downloaded once.

    Raises:
        UserError: when it cannot be had.
    """
    text = SPOILED.sub(r"\1://", str(spec), count=1) if SPOILED.match(str(spec)) else str(spec)
    if text.startswith(ZOO_SCHEME):
        entry = find_published(text.removeprefix(ZOO_SCHEME))
        return Located(path=fetch_published(entry), entry=entry)
    published = next((entry for entry in ZOO.values() if entry.url is not None and entry.url == text), None)
    if published is not None:
        return Located(path=fetch_published(published), entry=published)
    if text.startswith(HUB):
        return Located(path=fetch_model(HubModel.parse(text)))
    if text.startswith(WEB):
        return Located(path=_fetch_address(text))
    if SCHEME.match(text):
        raise UserError(
            f"weights are not read from {text.partition('://')[0]}://; copy the file to this machine and give its path"
        )
    return Located(path=Path(spec))


def fetch_published(entry: ZooEntry) -> Path:
    """The file of a published row, or its folder, from the cache or from the web. Says under which licence it is.

    Raises:
        UserError: when its weights were not published, or cannot be had.
    """
    if entry.url is None:
        raise UserError(
            f"the weights of {entry.name} were not published; `openmae zoo {entry.name}` says how to train them"
        )
    if entry.url.startswith(HUB):
        path = fetch_model(HubModel.parse(entry.url))
    else:
        path = download(
            entry.url, published_file(entry), digest=_digest(entry), remedy=_remedy(entry, published_file(entry))
        )
    say(_description(entry))
    return path


def fetch_log(entry: ZooEntry) -> Path:
    """The log of a published row.

    Raises:
        UserError: when it was not published, or cannot be had.
    """
    if entry.log is None:
        raise UserError(f"no log of {entry.name} was published; `openmae zoo` marks the rows that have one")
    file = _folder(entry) / Path(entry.log).name
    remedy = f"download it on a machine with a network, and copy it to {file}"
    return download(entry.log, file, digest=None, remedy=remedy)


def cached(entry: ZooEntry) -> Cached | None:
    """What the cache has of a row; None when it has nothing. Only looks, and verifies nothing."""
    if entry.url is None:
        return None
    if entry.url.startswith(HUB):
        place = cached_model(HubModel.parse(entry.url))
        files = [] if place is None else [file for file in place.iterdir() if file.is_file()]
        return None if place is None else Cached(path=place, size=sum(file.stat().st_size for file in files))
    file = published_file(entry)
    return Cached(path=file, size=file.stat().st_size) if file.is_file() else None


def published_file(entry: ZooEntry) -> Path:
    """The place of a row's file in the cache, whether or not it is there."""
    assert entry.url is not None
    return _folder(entry) / Path(entry.url).name


def _folder(entry: ZooEntry) -> Path:
    return cache_folder("weights") / entry.name


def _digest(entry: ZooEntry) -> Digest | None:
    if entry.sha256:
        return Digest("sha256", entry.sha256)
    return Digest("md5", entry.md5) if entry.md5 else None


def _remedy(entry: ZooEntry, file: Path) -> str:
    return (
        f"without a network: run `openmae zoo {entry.name} --fetch` on a machine that has one, and copy the file that "
        f"it names to {file}"
    )


def _description(entry: ZooEntry) -> str:
    digest = _digest(entry)
    proof = f"verified by the {len(digest.digits)} digits of its {digest.name} that are known" if digest else ""
    if digest is None:
        proof = "not verified, because no hash of it is known"
    licence = entry.licence
    if entry.licence == NO_COMMERCIAL_USE:
        licence = f"{entry.licence}: no commercial use, and neither of what is trained from it"
    pixels = f"{entry.image_size} pixels by ImageNet's mean and std"
    target = {"normalised": ", predicts pixels normalised per patch", "raw": ", predicts raw pixels", None: ""}
    return f"{ZOO_SCHEME}{entry.name}: {proof}; {pixels}{target[entry.target]}; licence {licence}"


def _fetch_address(url: str) -> Path:
    try:
        name = Path(unquote(urlsplit(url).path)).name
    except ValueError as error:
        raise UserError(f"{shown(url)} is no address ({error}); check it") from error
    if not name.endswith(READABLE):
        raise UserError(
            f"{shown(url)} does not end in {' or '.join(READABLE)}, so its kind is not known; download it, give it the "
            "right ending, and give --weights the file"
        )
    folder = cache_folder("weights") / f"web-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    path = download(url, folder / name, digest=None, remedy="download it with another tool and give --weights the file")
    say(f"{shown(url)}: not verified, because no hash of it is known; cached in {path}")
    return path
