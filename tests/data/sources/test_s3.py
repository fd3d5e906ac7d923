"""s3:// against a server that speaks S3, on this machine, and behind a network that fails."""

import io
import logging
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from PIL import Image

from openmae.data.batches import Batch, SeededImages
from openmae.data.decoding.opened import PixelFormat
from openmae.data.sources import Source, open_data, waiting
from openmae.data.sources.waiting import StorageLost
from openmae.data.transforms import EvalTransform
from openmae.data.workers import batches_of, evaluation_loader
from openmae.errors import UserError
from openmae.recipes import PretrainRecipe
from openmae.training.pretraining import run_pretraining
from tests.data.sources.proxy import Proxy
from tests.data.sources.test_storage import parquet_bytes, shard_bytes

ReadEverywhere = Callable[[Source], list[tuple[str, bytes, int]]]
IMAGES = 6


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of a server that has a bucket of that name."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    _, port = started.get_host_and_port()
    send(port, "bucket", b"")
    yield port
    started.stop()


@pytest.fixture
def network(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The way to the server; drivers and we do not wait long between two tries."""
    proxy = Proxy(server)
    environment = {"AWS_ENDPOINT_URL": proxy.url, "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}
    environment |= {"AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null"}
    for name, value in (environment | {"AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(waiting, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    yield proxy
    proxy.close()
    s3fs.S3FileSystem.clear_instance_cache()


def send(port: int, path: str, data: bytes, method: str = "PUT") -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", data=data, method=method)
    request.add_header("Content-Type", "application/octet-stream")
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=me/20200101/us-east-1/s3/aws4_request")
    urllib.request.urlopen(request).close()


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photos(server: int, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The same images behind a URL and in a folder."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(IMAGES):
        (folder / f"{number}.png").write_bytes(picture(number))
        send(server, f"bucket/photos/{number}.png", picture(number))
    return "s3://bucket/photos", folder


def batches(source: Source, *, workers: int) -> Iterator[Batch]:
    """Every image, one after another."""
    dataset = SeededImages(
        source=source, transform=EvalTransform(size=(32, 32), resize=32), format=PixelFormat(), replace_bad=True
    )
    with batches_of(evaluation_loader(dataset, batch_size=1, workers=workers, pin_memory=False)) as made:
        yield from made


def test_a_folder_of_images_in_a_bucket(network: Proxy, server: int, read_everywhere: ReadEverywhere) -> None:
    for name in ("train/cat/1.png", "train/dog/1.png", "val/dog/3.png"):
        send(server, f"bucket/set/{name}", name.encode())
    data = open_data("s3://bucket/set")
    assert read_everywhere(data.train) == [("cat/1.png", b"train/cat/1.png", 0), ("dog/1.png", b"train/dog/1.png", 1)]
    assert data.test is not None
    assert read_everywhere(data.test) == [("dog/3.png", b"val/dog/3.png", 1)]


@pytest.mark.parametrize("spec", ["tables/x.parquet", "tables", "tables/*.parquet"])
def test_parquet_in_a_bucket(network: Proxy, server: int, spec: str, read_everywhere: ReadEverywhere) -> None:
    send(server, "bucket/tables/x.parquet", parquet_bytes(b"one", b"two", label=[1, 0]))
    assert read_everywhere(open_data(f"s3://bucket/{spec}").train) == [
        ("x.parquet:0", b"one", 1),
        ("x.parquet:1", b"two", 0),
    ]


def test_shards_in_a_bucket_are_read_by_ranges(network: Proxy, server: int, read_everywhere: ReadEverywhere) -> None:
    send(server, "bucket/shards/x.tar", shard_bytes(a_jpg=b"one", a_cls=b"1", b_jpg=b"two" * 1000, b_cls=b"0"))
    source = open_data("s3://bucket/shards").train
    network.requests.clear()
    assert read_everywhere(source) == [("x.tar/a.jpg", b"one", 1), ("x.tar/b.jpg", b"two" * 1000, 0)]
    assert all(b"\r\nRange: bytes=" in request for request in network.requests)


def test_training_on_a_bucket_is_training_on_the_folder(
    network: Proxy, photos: tuple[str, Path], tiny_recipe: PretrainRecipe, tmp_path: Path
) -> None:
    recipe = replace(tiny_recipe, batch_size=IMAGES, log_every=1)
    losses = [
        run_pretraining(replace(recipe, data=str(place)), tmp_path / str(number))["loss"]
        for number, place in enumerate(photos)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("s3://nowhere/photos", "The specified bucket does not exist"),
        ("s3://nowhere/x.tar", "The specified bucket does not exist"),
        ("s3://nowhere/x.parquet", "The specified bucket does not exist"),
        ("s3://bucket/nowhere", "s3://bucket/nowhere cannot be listed"),
        ("s3://bucket/nowhere/x.tar", "a shard cannot be read"),
        ("s3://bucket/nowhere/x.parquet", "is not a readable Parquet file"),
    ],
)
def test_a_bucket_or_key_that_is_not_there_is_named(network: Proxy, spec: str, found: str) -> None:
    with pytest.raises(UserError, match=f"{found}.*; check .* your access to") as caught:
        open_data(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["s3://bucket/photos", "s3://bucket/x.tar", "s3://bucket/x.parquet"])
def test_without_credentials_the_error_says_so(network: Proxy, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(UserError, match=r"Unable to locate credentials.*; check .* your access to"):
        open_data(spec)


@pytest.mark.parametrize("spec", ["s3://bucket/photos", "s3://bucket/x.tar", "s3://bucket/x.parquet"])
def test_with_wrong_credentials_the_error_says_so(network: Proxy, server: int, spec: str) -> None:
    send(server, "moto-api/reset-auth", b"0", "POST")
    try:
        with pytest.raises(UserError, match=r"(Forbidden|does not exist in our records).*; check .* your access to"):
            open_data(spec)
    finally:
        send(server, "moto-api/reset-auth", b"inf", "POST")


def test_an_image_that_was_deleted_is_a_bad_image(network: Proxy, server: int) -> None:
    for number in range(2):
        send(server, f"bucket/deleted/{number}.png", picture(number))
    source = open_data("s3://bucket/deleted").train
    send(server, "bucket/deleted/0.png", b"", "DELETE")
    first, second = batches(source, workers=0)
    assert {record.image for record in first.bad} == {0}
    assert not second.bad


# A network that fails


@pytest.mark.parametrize(
    ("workers", "after"),
    [(0, 0), (0, 100), (0, 2000), (1, 2000)],
    ids=["at once", "in the head", "in the image", "in the image, in a loader process"],
)
def test_a_connection_that_breaks_is_tried_again_and_every_image_is_right(
    network: Proxy, photos: tuple[str, Path], workers: int, after: int
) -> None:
    url, folder = photos
    expected = [batch.images for batch in batches(open_data(str(folder)).train, workers=0)]
    source = open_data(url).train
    network.drop()
    network.cuts, network.after = 2, after
    made = list(batches(source, workers=workers))
    assert network.cuts == 0
    assert not any(batch.bad for batch in made)
    assert all((batch.images == wanted).all() for batch, wanted in zip(made, expected, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_connection_that_stays_broken_in_mid_epoch_is_one_sentence_and_no_bad_image(
    network: Proxy, photos: tuple[str, Path], workers: int
) -> None:
    made = batches(open_data(photos[0]).train, workers=workers)
    assert not next(made).bad
    network.drop()
    network.cuts, network.after = 1000, 100
    with pytest.raises(UserError, match=r"^the connection to s3://bucket/photos/\d\.png breaks .*; check") as caught:
        list(made)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_server_that_falls_silent_in_mid_epoch_is_waited_for_so_long_and_no_longer(
    network: Proxy, photos: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    source = open_data(photos[0]).train
    monkeypatch.setattr(waiting, "PATIENCE", 2.0)  # a loader process needs most of it to make its connection
    made = batches(source, workers=workers)
    assert not next(made).bad
    network.silent = True
    with pytest.raises(UserError, match=r"^s3://bucket/photos/\d\.png has given no answer for 2 s; check"):
        list(made)


@pytest.mark.parametrize("spec", ["s3://bucket/photos", "s3://bucket/x.tar", "s3://bucket/x.parquet"])
def test_a_silent_server_is_not_waited_for_when_data_are_opened(
    network: Proxy, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.5)
    network.silent = True
    with pytest.raises(StorageLost, match=rf"^{spec}.* has given no answer"):
        open_data(spec)
