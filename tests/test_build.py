"""The source archive and the wheel: what they hold, and that the wheel works where nothing else of ours is.

No test here needs the network: the build uses the setuptools that is installed, and the new environment borrows the
dependencies of the running one.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import openmae

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NETWORK = ("--width", 32, "--depth", 1, "--heads", 2, "--decoder-width", 32, "--decoder-depth", 1, "--decoder-heads", 2)


def run(*command: object, cwd: Path) -> str:
    """Standard output of a command that must work; it finds no package through PYTHONPATH and none on the network."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**environment, "PIP_NO_INDEX": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked() -> list[Path]:
    """The files that git knows; a new file counts once it is added."""
    names = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    return [Path(name) for name in names if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the archive and the wheel, as `make build` makes them from a fresh checkout."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in tracked():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, checkout / name)
    run(sys.executable, "-m", "build", "--no-isolation", cwd=checkout)
    return checkout / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that holds the wheel, and reads the dependencies from the running environment."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    run(sys.executable, "-m", "pip", "--python", place, "install", "--no-deps", "--no-index", wheel, cwd=place)
    # The borrowed folder comes last on the path, and no .pth file in it is read, not even that of an editable openmae.
    (packages,) = place.glob("lib/python*/site-packages")
    borrowed = f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n"
    (packages / "dependencies.pth").write_text(borrowed, encoding="utf-8")
    return place


def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name) for name in archive.namelist()}
    package = {name for name in names if name.parts[0] == "openmae"}
    assert package == {name.relative_to("src") for name in tracked() if name.parts[0] == "src"}
    images = Path("openmae/data/fashion_mnist")
    assert {Path("openmae/py.typed"), images / "train.parquet", images / "test.parquet", images / "NOTICE"} <= package
    notes = f"openmae-{openmae.__version__}.dist-info"
    assert {name.parts[0] for name in names} == {"openmae", notes}
    assert {"LICENSE", "NOTICE"} <= {name.name for name in names if name.parts[:2] == (notes, "licenses")}


def test_the_archive_holds_what_a_build_needs_and_no_tests(dist: Path) -> None:
    (found,) = dist.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = {Path(*Path(name).parts[1:]) for name in archive.getnames()}
    needed = {Path(name) for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff")}
    assert needed | {name for name in tracked() if name.parts[0] == "src"} <= names
    assert not {name for name in names if "tests" in name.parts}


def test_the_wheel_works_in_an_environment_without_the_source(
    environment: Path, small_fashion: Path, tmp_path: Path
) -> None:
    command = environment / "bin" / "openmae"
    program = "import openmae, openmae.cli; print(openmae.__file__, openmae.cli.__file__, sep='\\n')"
    for file in run(environment / "bin" / "python", "-c", program, cwd=tmp_path).split():
        assert Path(file).is_relative_to(environment)
    assert run(command, "--version", cwd=tmp_path).split() == ["openmae", openmae.__version__]
    assert "fashion-mnist" in {row["name"] for row in json.loads(run(command, "recipes", "--json", cwd=tmp_path))}
    training = (*NETWORK, "--epochs", 1, "--batch-size", 256, "--workers", 0, "--out", "run", "--json")
    result = run(command, "pretrain", "fashion-mnist", *training, cwd=tmp_path)
    assert json.loads(result)["epoch"] == 1.0
    assert (tmp_path / "run" / "encoder.safetensors").is_file()
    images = ("--data", small_fashion / "test.parquet", "--out", "features.parquet")
    run(command, "embed", "--weights", "run", *images, cwd=tmp_path)
    assert len(pq.read_table(tmp_path / "features.parquet")) == 40
