"""Uploading to the hub, against one that only takes notes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

import openmae
from openmae.errors import UserError
from tests.weights.formats.samples import weights_of


class Hub:
    """In the place of HfApi: remembers what it was asked, or refuses."""

    asked: list[tuple[str, dict[str, Any]]]
    refusal: Exception | None = None

    def __init__(self, **options: Any) -> None:
        pass

    def create_repo(self, repository: str, **options: Any) -> str:
        if Hub.refusal is not None:
            raise Hub.refusal
        Hub.asked.append((repository, options))
        return f"https://huggingface.co/{repository}"

    def upload_folder(self, **options: Any) -> None:
        files = sorted(path.name for path in Path(options["folder_path"]).iterdir())
        Hub.asked.append((options["repo_id"], {**options, "files": files}))


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    Hub.asked, Hub.refusal = [], None
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    for name in ("read_weights", "read_whole"):
        monkeypatch.setattr(f"openmae.weights.converting.{name}", lambda *_, **__: weights_of("encoder"))


@pytest.mark.parametrize("target", ["huggingface", "timm"])
def test_the_folder_is_uploaded_after_the_proof_and_nothing_else(target: Any, tmp_path: Path) -> None:
    result = openmae.convert("anything", tmp_path / "vit", to=target, push="me/vit")
    assert result["url"] == "https://huggingface.co/me/vit"
    (created, options), (uploaded, upload) = Hub.asked
    assert created == uploaded == "me/vit"
    assert options == {"repo_type": "model", "exist_ok": True}
    assert upload["folder_path"] == tmp_path / "vit"
    expected = {"model.safetensors", "config.json", "preprocessor_config.json", "README.md"}
    assert set(upload["allow_patterns"]) == expected
    assert set(upload["files"]) == expected - (set() if target == "huggingface" else {"preprocessor_config.json"})
    assert "me/vit" in (tmp_path / "vit" / "README.md").read_text()


def http(code: int) -> HfHubHTTPError:
    """An answer of the hub, whichever network client its library is built on."""
    error = HfHubHTTPError.__new__(HfHubHTTPError, f"{code} Client Error\nmore")
    error.args = (f"{code} Client Error\nmore",)
    error.response = cast(Any, SimpleNamespace(status_code=code))
    return error


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            LocalTokenNotFoundError("no token"),
            "does not know who you are; run `hf auth login` with a token that may write",
        ),
        (http(401), "does not accept your token; run `hf auth login`"),
        (http(403), "you may not write to me/vit on the hub"),
        (http(500), "the hub refuses me/vit"),
        (ConnectionError("no network"), r"cannot be reached \(no network\)"),
    ],
)
def test_a_refusal_is_a_sentence_and_the_folder_stays(refusal: Exception, message: str, tmp_path: Path) -> None:
    Hub.refusal = refusal
    with pytest.raises(UserError, match=message) as error:
        openmae.convert("anything", tmp_path / "vit", to="timm", push="me/vit")
    assert "`hf upload me/vit " in str(error.value)
    assert "\n" not in str(error.value)
    assert (tmp_path / "vit" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("place", "target", "push", "message"),
    [
        ("vit.safetensors", "timm", "me/vit", r"--push uploads a folder, and .*vit\.safetensors is one file"),
        ("vit.pth", "fair", "me/vit", r"--push uploads a folder"),
        ("vit", "timm", "vit", "is no model of the hub"),
        ("vit", "timm", "me/vit@old", "names more than a model; give --push owner/name"),
        ("vit.onnx", "onnx", "me/vit", "--push is for --to huggingface and timm, not onnx"),
    ],
)
def test_what_cannot_be_uploaded_is_refused_before_anything_is_written(
    place: str, target: Any, push: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        openmae.convert("anything", tmp_path / place, to=target, push=push)
    assert not list(tmp_path.iterdir())
    assert not Hub.asked
