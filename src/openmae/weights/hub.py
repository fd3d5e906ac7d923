"""Models of the Hugging Face hub: `hf://owner/name`, through huggingface_hub and its cache."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from openmae.errors import UserError, one_line
from openmae.reporter import ProgressView, say

SCHEME = "hf://"
NAME = r"[A-Za-z0-9][\w.-]*"
ADDRESS = re.compile(
    rf"(?P<owner>{NAME})/(?P<name>{NAME})(@(?P<revision>refs/[\w.-]+/[\w.-]+|[^/@]+))?(/(?P<inside>.+))?"
)
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")
DESCRIPTIONS = ("config.json", "preprocessor_config.json", "README.md")
SAFETENSORS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json", "encoder.safetensors")
PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A model of the hub, or a folder or a file in it."""

    repository: str
    """owner/name."""
    revision: str = "main"
    inside: str = ""
    """A folder or a file of the repository; "" for all of it."""

    @classmethod
    def parse(cls, address: str) -> "HubModel":
        """From `hf://owner/name`, `hf://owner/name@revision` or `hf://owner/name@revision/folder`.

        Raises:
            UserError: for anything else.
        """
        match = ADDRESS.fullmatch(address.removeprefix(SCHEME).rstrip("/"))
        inside = PurePosixPath(match["inside"] or "") if match else PurePosixPath("..")
        if match is None or ".." in inside.parts:
            raise UserError(
                f"{address} is no model of the hub; write hf://owner/name, or hf://owner/name@revision/folder"
            )
        revision = unquote(match["revision"] or "main")
        inside_text = "" if inside == PurePosixPath() else str(inside)
        return cls(repository=f"{match['owner']}/{match['name']}", revision=revision, inside=inside_text)

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"{SCHEME}{self.repository}{revision}{f'/{self.inside}' if self.inside else ''}"

    @property
    def is_file(self) -> bool:
        return self.inside.endswith(WEIGHTS)

    @property
    def folder(self) -> str:
        """The folder that its files are in, as a prefix: "" or "folder/"."""
        folder = str(PurePosixPath(self.inside).parent) if self.is_file else self.inside
        return "" if folder in ("", ".") else f"{folder}/"


def fetch_model(model: HubModel) -> Path:
    """The folder or the file in the cache of huggingface_hub, downloaded where it is not there yet.

    With a network the hub is asked whether the revision is still the same; without one the cache answers.

    Raises:
        UserError: when the hub has no such model or keeps it private, or there is neither network nor copy.
    """
    names: tuple[str, ...] = (PurePosixPath(model.inside).name,) if model.is_file else SAFETENSORS
    place = _snapshot(model, names)
    if not model.is_file and not _holds(place, names):
        place = _snapshot(model, PICKLED)
        names = PICKLED
    if not _holds(place, names):
        raise UserError(
            f"{model} has no {'such file' if model.is_file else f'{SAFETENSORS[0]} or {PICKLED[0]}'}; name one of its "
            f"files, as in {SCHEME}owner/name/folder/file.safetensors"
        )
    say(f"{model}: commit {_commit(place, model)[:12]}{_licence(place / 'README.md')}")
    return place / names[0] if model.is_file else place


def cached_model(model: HubModel) -> Path | None:
    """The file or folder in the cache; None when it is not there. Asks nobody and imports nothing heavy."""
    place = cache_folder_of(model)
    try:
        commit = (place / "refs" / model.revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = model.revision
    folder = place / "snapshots" / commit / model.folder
    if model.is_file:
        file = folder / PurePosixPath(model.inside).name
        return file if file.is_file() else None
    return folder if _holds(folder, SAFETENSORS) or _holds(folder, PICKLED) else None


def cache_folder_of(model: HubModel) -> Path:
    """The folder that huggingface_hub keeps this repository in."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"models--{model.repository.replace('/', '--')}"


def _snapshot(model: HubModel, names: tuple[str, ...]) -> Path:
    """The folder with these files of the model, as far as it has them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = [f"{model.folder}{name}" for name in (*names, *DESCRIPTIONS)]
    with ProgressView(f"downloading {model}", 0) as view:
        try:
            folder = snapshot_download(
                model.repository, revision=model.revision, allow_patterns=patterns, tqdm_class=_bars(view, model)
            )
        except GatedRepoError as error:
            raise UserError(
                f"{model} is open only to those who accept its terms; accept them on huggingface.co and run "
                "`hf auth login`"
            ) from error
        except RevisionNotFoundError as error:
            raise UserError(f"{model} has no revision {model.revision!r}; leave it out for the newest") from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise UserError(
                f"the hub has no model {model.repository}, or it is private; check the name, or run `hf auth login`"
            ) from error
        except LocalEntryNotFoundError as error:
            raise UserError(
                f"{model} is not in the cache and the hub cannot be reached; on a machine with a network run "
                f"`hf download {model.repository}`, and copy {cache_folder_of(model)} from there to the same place here"
            ) from error
        except Exception as error:  # the disk, and its network clients, which each have their own
            raise UserError(
                f"{model} cannot be downloaded ({one_line(error)}); try again: what has arrived is kept"
            ) from error
    return Path(folder) / model.folder


def _bars(view: ProgressView, model: HubModel) -> Any:
    """A class in the place of huggingface_hub's progress bars that shows the bytes of all files in `view`."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bars(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._is_of_all = kwargs.get("name") == "huggingface_hub.snapshot_download"
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            done, total = int(self.n), int(self.total or 0)
            if self._is_of_all and done <= total:
                figures = f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB"
                view.update(done, f"downloading {model}", figures, total=total)

    return Bars


def _holds(folder: Path, names: tuple[str, ...]) -> bool:
    return any(any(folder.glob(name)) for name in names)


def _commit(place: Path, model: HubModel) -> str:
    depth = len(PurePosixPath(model.folder).parts)
    return [place, *place.parents][depth].name


def licence_of(card: Path) -> str:
    """The licence that a model's card names, as it spells it; "" when it names none."""
    try:
        with card.open(encoding="utf-8", errors="replace") as file:
            head = file.read(2**16).split("---")
    except OSError:
        return ""
    found = re.search(r"^license:\s*([\w.-]+)", head[1] if len(head) > 2 else "", re.MULTILINE)
    return "" if found is None else found[1]


def _licence(card: Path) -> str:
    """The licence of a card, for a message."""
    licence = licence_of(card)
    restricted = " (no commercial use)" if "nc" in licence.lower().split("-") else ""
    return f", licence {licence}{restricted}" if licence else ""
