import os
import socket
from pathlib import Path

import pytest

from tests.faults.processes import start_ranks
from tests.faults.zygote import Zygote


def say_who_the_other_is(arguments: list[str]) -> int:
    """In a child: the name of the other process, before either has given a sign of life."""
    from openmae.recipes import find_recipe
    from openmae.training.processes.devices import start_fabric
    from openmae.training.processes.watching import Watch

    fabric = start_fabric(find_recipe("fashion-mnist", "pretrain"))
    name = Watch(fabric, 20.0)._name(1 - fabric.global_rank)
    (Path(arguments[0]) / os.environ["RANK"]).write_text(name)
    fabric.barrier()  # what rank 0 keeps ends with it
    return 0


@pytest.mark.slow
def test_another_process_is_known_by_number_and_machine_before_the_first_step(zygote: Zygote, tmp_path: Path) -> None:
    target = f"{__name__}:{say_who_the_other_is.__name__}"
    ranks = start_ranks(zygote, [str(tmp_path)], tmp_path / "said.log", target=target)
    assert [child.wait() for child in ranks] == [0, 0], (tmp_path / "said-0.log").read_text()
    for rank, child in enumerate(ranks):
        told = (tmp_path / str(1 - rank)).read_text()
        assert told == f"rank {rank} (process {child.pid} on {socket.gethostname()})"
