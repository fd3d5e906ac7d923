import pickle
from pathlib import Path

import pytest
import torch
import yaml

from tests.faults.malicious import CANARY, ZOO, Evil, Hostile, _torch_zip, table, try_one, yaml_evil


@pytest.mark.parametrize("hostile", ZOO, ids=[hostile.name for hostile in ZOO])
def test_a_strangers_file_is_refused_and_runs_nothing(hostile: Hostile, tmp_path: Path) -> None:
    problem, canary_ran = try_one(hostile, tmp_path / "in" / "here")
    assert not canary_ran
    assert not problem


def test_the_canaries_sing_where_nobody_is_careful(tmp_path: Path) -> None:
    """Or their silence would show nothing."""
    pickle.loads(pickle.dumps(Evil(tmp_path)))
    assert (tmp_path / CANARY).exists()
    (tmp_path / CANARY).unlink()
    (tmp_path / "a.pth").write_bytes(_torch_zip(tmp_path))
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert (tmp_path / CANARY).exists()
    (tmp_path / CANARY).unlink()
    yaml.unsafe_load(yaml_evil(tmp_path))
    assert (tmp_path / CANARY).exists()


def test_the_table_of_the_documentation_is_the_zoo() -> None:
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    between = text.split("<!-- zoo: begin -->\n")[1].split("\n<!-- zoo: end -->")[0]
    assert between.splitlines() == table()
