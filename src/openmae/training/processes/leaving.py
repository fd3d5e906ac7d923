"""The orderly end of several processes: nobody goes while another one still needs what it keeps."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from openmae.training.processes.launching import have_joined
from openmae.training.processes.stopping import Interrupted

PATIENCE = timedelta(seconds=5)  # everything is written by then, so that a process that does not come is no failure


@contextmanager
def leaving_in_order() -> Iterator[None]:
    """At the end of the block, take the process group down in all processes together, if there is one.

    Every process of the run ends the block at about the same time when it succeeds, and after a request to stop. After
    any other error the others may never come: this process then ends at once, and the group with it.
    """
    try:
        yield
    except Interrupted:
        _leave()
        raise
    _leave()


def _leave() -> None:
    if not have_joined():
        return
    import torch

    # Rank 0 keeps the store of the group. Whoever still uses it when Python ends may be aborted by the C++ library.
    with contextlib.suppress(RuntimeError):
        torch.distributed.barrier(async_op=True).wait(PATIENCE)
    torch.distributed.destroy_process_group()
