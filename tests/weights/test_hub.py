"""Models of the Hugging Face hub: addresses, the files that are taken, the cache, and what goes wrong."""

import fnmatch
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors
from safetensors.torch import save_file

from openmae.errors import UserError
from openmae.weights.fetching import locate
from openmae.weights.formats import timm
from openmae.weights.hub import HubModel, cached_model, fetch_model
from openmae.weights.reading import read_weights
from tests.weights.formats.samples import assert_same_tensors, weights_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of huggingface_hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def repository(cache: Path) -> Path:
    """The snapshot of owner/name in the cache; a test fills it."""
    place = cache / "models--owner--name"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    (place / "snapshots" / COMMIT).mkdir(parents=True)
    return place / "snapshots" / COMMIT


@pytest.fixture
def remote(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that plays the repository on the hub: `snapshot_download` copies what it is asked for."""
    folder = tmp_path / "remote"
    folder.mkdir()

    def snapshot_download(name: str, *, revision: str, allow_patterns: list[str], **_: Any) -> str:
        place = cache / f"models--{name.replace('/', '--')}"
        (place / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
        (place / "refs" / revision).write_text(COMMIT)
        for file in folder.rglob("*"):
            inside = str(file.relative_to(folder))
            if any(fnmatch.fnmatch(inside, pattern) for pattern in allow_patterns):
                copy = place / "snapshots" / COMMIT / inside
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, copy)
        (place / "snapshots" / COMMIT).mkdir(parents=True, exist_ok=True)
        return str(place / "snapshots" / COMMIT)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return folder


def files_in(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://facebook/vit-mae-base", ("facebook/vit-mae-base", "main", "")),
        ("hf://timm/vit_base_patch16_224.mae/", ("timm/vit_base_patch16_224.mae", "main", "")),
        ("hf://owner/name@v1.0", ("owner/name", "v1.0", "")),
        ("hf://owner/name@refs/pr/3/sub", ("owner/name", "refs/pr/3", "sub")),
        ("hf://owner/name@a%2Fb/sub/folder", ("owner/name", "a/b", "sub/folder")),
        ("hf://owner/name/sub/model.safetensors", ("owner/name", "main", "sub/model.safetensors")),
    ],
)
def test_an_address_names_a_repository_a_revision_and_a_folder(address: str, parts: tuple[str, str, str]) -> None:
    model = HubModel.parse(address)
    assert (model.repository, model.revision, model.inside) == parts
    assert HubModel.parse(str(model).replace("a/b", "a%2Fb")) == model


@pytest.mark.parametrize("address", ["hf://", "hf://name", "hf:///disk", "hf://a/b/../c", "hf://./b", "hf://a/b@"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(UserError, match=r"is no model of the hub; write hf://owner/name"):
        HubModel.parse(address)


def test_of_a_repository_with_both_only_the_safetensors_are_taken(remote: Path) -> None:
    for name in ("model.safetensors", "pytorch_model.bin", "tf_model.h5", "config.json", "step/model.safetensors"):
        (remote / name).parent.mkdir(exist_ok=True)
        (remote / name).write_text("{}")
    place = fetch_model(HubModel.parse("hf://owner/name"))
    assert files_in(place) == {"model.safetensors", "config.json"}


def test_a_repository_without_safetensors_gives_its_torch_file(remote: Path) -> None:
    (remote / "pytorch_model.bin").write_text("")
    (remote / "config.json").write_text("{}")
    assert files_in(fetch_model(HubModel.parse("hf://owner/name"))) == {"pytorch_model.bin", "config.json"}


def test_a_folder_or_a_file_of_a_repository_is_taken_alone(remote: Path) -> None:
    for name in ("a/model.safetensors", "a/other.safetensors", "model.safetensors"):
        (remote / name).parent.mkdir(exist_ok=True)
        (remote / name).write_text("")
    folder = fetch_model(HubModel.parse("hf://owner/name/a"))
    assert (folder.name, files_in(folder)) == ("a", {"model.safetensors"})
    assert fetch_model(HubModel.parse("hf://owner/name/a/other.safetensors")) == folder / "other.safetensors"
    with pytest.raises(
        UserError, match=r"hf://owner/name/b has no model.safetensors or pytorch_model.bin; name one of"
    ):
        fetch_model(HubModel.parse("hf://owner/name/b"))
    with pytest.raises(UserError, match=r"has no such file"):
        fetch_model(HubModel.parse("hf://owner/name/b.safetensors"))


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("---\nlicense: cc-by-nc-4.0\ntags: [x]\n---\n# A", "licence cc-by-nc-4.0 (no commercial use)"),
        ("---\nlicense: apache-2.0\n---\n", "licence apache-2.0"),
        ("# license: mine", ""),
    ],
)
def test_the_commit_and_the_licence_of_the_card_are_said(remote: Path, said: list[str], card: str, words: str) -> None:
    (remote / "model.safetensors").write_text("")
    (remote / "README.md").write_text(card)
    fetch_model(HubModel.parse("hf://owner/name"))
    assert said == [f"hf://owner/name: commit {COMMIT[:12]}{', ' if words else ''}{words}"]


def test_the_cache_of_the_hub_serves_without_a_network(repository: Path) -> None:
    ours = weights_of("encoder")
    save_file(timm.tensors_to(ours), repository / "model.safetensors")
    (repository / "config.json").write_text(json.dumps(timm.config_of(ours)))
    assert_same_tensors(read_weights("hf://owner/name").tensors, ours.tensors)
    assert locate("hf://owner/name").path == cached_model(HubModel.parse("hf://owner/name")) == repository
    assert timm.NAME in read_weights(Path("hf://owner/name")).layout


def test_without_a_network_and_a_copy_it_is_said_what_to_copy(cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_weights("hf://owner/name")
    assert f"run `hf download owner/name`, and copy {cache / 'models--owner--name'} from there" in str(caught.value)
    assert cached_model(HubModel.parse("hf://owner/name")) is None


def answer(kind: type[Exception]) -> Exception:
    error = kind.__new__(kind)
    error.args = ("many\nlines",)
    return error


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (lambda: answer(errors.GatedRepoError), "open only to those who accept its terms; .*`hf auth login`"),
        (lambda: answer(errors.RepositoryNotFoundError), "the hub has no model owner/name, or it is private; check"),
        (lambda: answer(errors.RevisionNotFoundError), "has no revision 'v9'; leave it out for the newest"),
        (lambda: OSError(28, "No space left on device"), "cannot be downloaded .*No space left on device"),
        (lambda: RuntimeError("a\nb"), r"cannot be downloaded \(a b\); try again"),
    ],
)
def test_an_error_of_the_hub_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, raised: Callable[[], Exception], words: str
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise raised()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError, match=words) as caught:
        read_weights("hf://owner/name@v9")
    assert "\n" not in str(caught.value)
