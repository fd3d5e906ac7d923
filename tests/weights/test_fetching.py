"""Weights by address: rows of the zoo, files of the web, models of the hub, and what is said about them."""

import hashlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq
import pytest
import torch

from openmae.cli import main
from openmae.core.decoder import DecoderConfig
from openmae.errors import UserError
from openmae.recipes import zoo
from openmae.recipes.zoo import APACHE, ENTRIES, NO_COMMERCIAL_USE, ZOO, ZooEntry
from openmae.weights import fetching, reading, transfer
from openmae.weights.building import load_encoder
from openmae.weights.fetching import cached, locate, published_file
from openmae.weights.formats import fair, huggingface, mm, timm
from openmae.weights.published import require_published
from openmae.weights.reading import read_weights
from openmae.weights.weights import Weights
from tests.weights.formats.samples import (
    PUBLISHED,
    assert_same_tensors,
    shapes_of,
    stored,
    weights_of,
    with_decoder,
)
from tests.weights.web import Site, serving

OURS = weights_of("autoencoder")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no pauses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    return tmp_path / "cache" / "openmae" / "weights"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small file in the layout of fair's autoencoders."""
    file = tmp_path_factory.mktemp("published") / "file.pth"
    torch.save({"model": fair.tensors_to(OURS)}, file)
    return file.read_bytes()


@pytest.fixture
def site(content: bytes) -> Iterator[Site]:
    with serving(Site(content)) as started:
        yield started


@pytest.fixture
def publish(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ZooEntry]:
    """Puts a row called tiny into the zoo."""

    def put(name: str = "model.pth", **changes: Any) -> ZooEntry:
        entry = ZooEntry(
            name="tiny",
            publisher="fair",
            recipe=None,
            backbone="vit_tiny_patch16_224",
            kind="autoencoder",
            image_size=16,
            target="raw",
            url=site.url.replace("model.pth", name),
            log=site.url.replace("model.pth", "log.json"),
            sha256=hashlib.sha256(site.content).hexdigest()[:8],
            licence=NO_COMMERCIAL_USE,
        )
        entry = replace(entry, **changes)
        for module in (zoo, fetching, reading):
            monkeypatch.setattr(module, "ZOO", {"tiny": entry})
        return entry

    return put


def test_a_row_of_the_zoo_is_read_with_its_target_and_said_with_its_licence(
    publish: Callable[..., ZooEntry], site: Site, said: list[str], cache: Path
) -> None:
    publish("mae_pretrain_full.pth")
    for _ in range(2):
        weights = read_weights("zoo:tiny")
        assert_same_tensors(weights.tensors, OURS.tensors)
        assert not weights.network.normalise_target  # the name of the file says something else
    assert weights.file == cache / "tiny" / "mae_pretrain_full.pth"
    assert len(site.asked) == 1
    assert "zoo:tiny: verified by the 8 digits of its SHA-256" in said[-2]
    assert "16 pixels by ImageNet's mean and std, predicts raw pixels" in said[-2]
    assert "CC-BY-NC-4.0: no commercial use" in said[-2]
    assert read_weights("zoo:tiny", normalised=True).network.normalise_target


def test_without_a_hash_it_is_said_that_nothing_was_verified(publish: Callable[..., ZooEntry], said: list[str]) -> None:
    publish(sha256="", licence=APACHE)
    read_weights("zoo:tiny")
    assert "not verified, because no hash of it is known" in said[0]
    assert "commercial" not in said[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": None, "kind": "encoder"}, "with a decoder, not vit_tiny_patch16_224 at 16x16 pixels"),
        ({"target": None, "kind": "finetuned"}, "not vit_tiny_patch16_224 at 16x16 pixels with a classifier"),
        ({"image_size": 32}, "at 16x16 pixels with a decoder, not .* at 32x32 pixels"),
        ({"backbone": "vit_base_patch16_224"}, "not vit_base_patch16_224"),
    ],
)
def test_a_file_of_another_network_is_not_taken_for_the_row(
    publish: Callable[..., ZooEntry], changes: dict[str, Any], words: str
) -> None:
    publish(**changes)
    with pytest.raises(UserError, match=f"is not the file of tiny: it is .*{words}"):
        read_weights("zoo:tiny")


def test_the_address_of_a_row_is_the_row(publish: Callable[..., ZooEntry], site: Site, cache: Path) -> None:
    publish()
    assert locate(site.url).path == cache / "tiny" / "model.pth"


def test_an_address_is_downloaded_once_cached_by_itself_and_said_to_be_unverified(
    site: Site, said: list[str], cache: Path
) -> None:
    address = f"{site.url}?token=secret"
    for _ in range(2):
        assert_same_tensors(read_weights(address).tensors, OURS.tensors)
    other = site.url.replace("model.pth", "elsewhere/model.pth")
    assert read_weights(other).file != read_weights(address).file
    assert site.asked == ["", ""]
    assert "not verified" in said[0]
    assert "secret" not in "".join(said)


def test_a_path_of_an_address_is_the_address(site: Site) -> None:
    assert read_weights(Path(site.url)).file == read_weights(site.url).file


def test_without_a_network_the_cache_serves_and_else_it_is_said_what_to_do(
    publish: Callable[..., ZooEntry], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = publish()

    def no_network(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError("no network")

    with monkeypatch.context() as offline:
        offline.setattr(socket, "socket", no_network)
        offline.setattr(socket, "getaddrinfo", no_network)
        with pytest.raises(UserError) as caught:
            read_weights("zoo:tiny")
        file = published_file(entry)
        assert (
            f"run `openmae zoo tiny --fetch` on a machine that has one, and copy the file that it names to {file}"
            in (str(caught.value))
        )
        file.write_bytes(site.content)
        assert_same_tensors(read_weights("zoo:tiny").tensors, OURS.tensors)


def test_a_row_that_was_never_published_says_how_to_train_it() -> None:
    with pytest.raises(UserError, match=r"were not published; `openmae zoo vit-b16-300e-linear-mm` says how"):
        read_weights("zoo:vit-b16-300e-linear-mm")
    with pytest.raises(UserError, match="did you mean vit-b16-1600e-mm"):
        read_weights("zoo:vit-b16-1600-mm")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("s3://bucket/model.pth", "weights are not read from s3://"),
        ("https://host.org/download?file=3", "does not end in .safetensors or .pth"),
        ("https://huggingface.co/facebook/vit-mae-base", "does not end in .safetensors"),
        ("http://[/model.pth", "is no address"),
        ("hf://vit-mae-base", "write hf://owner/name"),
        ("hf://../../etc", "write hf://owner/name"),
        ("hf://owner/name/../../etc", "write hf://owner/name"),
        ("vit-b16-1600e-mm", "there are no weights at .*zoo:vit-b16-1600e-mm"),
        ("runs/nothing", "there are no weights at .*zoo:NAME, hf://owner/name"),
    ],
)
def test_an_address_that_cannot_be_is_one_sentence(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read_weights(spec)
    assert "\n" not in str(caught.value)


def test_every_published_row_has_a_place_in_the_cache_of_its_own(cache: Path) -> None:
    files = [published_file(entry) for entry in ENTRIES if entry.url is not None and not entry.url.startswith("hf://")]
    assert len(set(files)) == len(files) > 20
    assert all(cache in file.parents and file.suffix == ".pth" for file in files)


def test_the_cache_is_only_looked_at(publish: Callable[..., ZooEntry], site: Site, cache: Path) -> None:
    entry = publish()
    assert cached(entry) is None
    assert not cache.exists()
    read_weights("zoo:tiny")
    found = cached(entry)
    assert found is not None
    assert (found.path, found.size) == (published_file(entry), len(site.content))
    assert cached(ZOO["vit-b16-300e-linear-mm"]) is None


def test_a_row_and_an_address_serve_every_verb(
    publish: Callable[..., ZooEntry], site: Site, tmp_path: Path, small_fashion: Path
) -> None:
    publish()
    features = tmp_path / "features.parquet"
    assert main(["embed", "--weights", "zoo:tiny", "--data", str(small_fashion), "--out", str(features)]) == 0
    assert pq.read_metadata(features).num_rows == 160
    assert main(["convert", site.url, str(tmp_path / "mm.pth"), "--to", "mmpretrain"]) == 0
    assert load_encoder("zoo:tiny").num_features == 192


def test_fetch_puts_a_row_into_the_cache_and_shows_where(
    publish: Callable[..., ZooEntry], site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = publish()
    assert main(["zoo", "--fetch", "zoo:tiny"]) == 0
    shown = capsys.readouterr().out
    assert f"in the cache:     {len(site.content) / 1e6:,.0f} MB, {published_file(entry)}" in shown
    assert main(["zoo", "--fetch"]) == 1
    assert main(["zoo", "tiny", "--fetch", "--log"]) == 1
    assert main(["zoo", "tiny", "--out", "a"]) == 1
    problems = capsys.readouterr().err
    for words in ("which row?", "give one of them", "--out is for --log"):
        assert words in problems


def test_a_published_log_becomes_curves(
    publish: Callable[..., ZooEntry], site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish()
    site.content = b'{"lr": 0.1, "loss": 0.5, "epoch": 1, "iter": 100, "step": 100}\n'
    out = tmp_path / "new" / "metrics.jsonl"
    assert main(["zoo", "tiny", "--log", "--out", str(out)]) == 0
    assert out.read_text() == '{"step": 100, "epoch": 0, "loss": 0.5, "lr": 0.1}\n'
    assert "1 lines of tiny written to" in capsys.readouterr().out
    assert main(["zoo", "tiny", "--log", "--out", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err
    publish(log=None)
    assert main(["zoo", "tiny", "--log"]) == 1
    assert "no log of tiny was published" in capsys.readouterr().err


# Of the other sizes the same holds; their networks take seconds to describe.
SMALLEST = [
    entry.name for entry in ENTRIES if entry.published and "base" in entry.backbone and "400e" not in entry.name
]


@pytest.mark.parametrize("name", SMALLEST)
def test_the_published_networks_are_those_of_their_rows(name: str) -> None:
    entry = ZOO[name]
    size = {"base": "B", "large": "L", "huge": "H"}[entry.backbone.split("_")[1]]
    network = PUBLISHED[size if entry.image_size == 224 else f"{size} at {entry.image_size}"]
    kind = "fine-tuned" if entry.kind == "finetuned" else entry.kind
    if kind == "autoencoder":
        network = with_decoder(network, DecoderConfig(width=512, depth=8, heads=16))
    ours = Weights(tensors=shapes_of(network, kind), network=network, file=Path("here"))
    layouts: dict[str, Any] = {"fair": fair, "mm": mm, "huggingface": huggingface, "timm": timm}
    layout = layouts[entry.publisher]
    config = {} if entry.publisher in ("fair", "mm") else layout.config_of(ours)
    read = layout.weights_from(stored(layout.tensors_to(ours), config=config))
    require_published(read, entry)
    others = [other for other in ENTRIES if (other.backbone, other.image_size) != (entry.backbone, entry.image_size)]
    with pytest.raises(UserError, match="is not the file of"):
        require_published(read, others[0])
