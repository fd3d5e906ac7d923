"""How often a run of several processes ends other than with exit code 0, after everything is written.

    python benchmarks/shutdown.py --runs 300
    python benchmarks/shutdown.py --runs 300 --command
    python benchmarks/shutdown.py --runs 300 --stress

Pre-trains a tiny network on 64 bundled images for one epoch on two processes of the CPU, again and again, and counts
the exit codes. The processes are forked from one that has imported everything, and then end as Python programs do:
threads, exit functions and objects of torch are all taken down. `--command` starts `openmae pretrain --devices 2` anew
each time, as a user does; it takes eight seconds rather than one. With `--stress` the processes talk to each other
without a pause, so that the end of the run meets them in the middle of a word.
"""

import argparse
import collections
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from openmae import cli
from openmae.data.sources import open_data
from openmae.training import pretraining  # noqa: F401  # imported before the forks, so that each of them need not
from openmae.training.processes import launching, watching

IMAGES, DEVICES = 64, 2
NETWORK = (
    "--image-size 16 --width 32 --depth 1 --heads 2 --decoder-width 32 --decoder-depth 1 --decoder-heads 2 "
    f"--batch-size {IMAGES} --epochs 1 --warmup-epochs 0 --precision 32-true"
).split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--command", action="store_true", help="start the command anew for each run")
    parser.add_argument("--stress", action="store_true", help="signs of life without a pause; not with --command")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())  # no context manager: it would end in each forked process too
    write_images(folder / "images.parquet")
    began, codes = time.monotonic(), collections.Counter[tuple[int, ...]]()
    for number in range(arguments.runs):
        workers = number % 2  # loader processes are there in every second run
        words = ["pretrain", "fashion-mnist", "--data", str(folder / "images.parquet"), *NETWORK]
        words += ["--devices", str(DEVICES), "--workers", str(workers), "--out", str(folder / str(number))]
        log = folder / f"{number}.log"
        ended = start_command(words, log) if arguments.command else fork(words, log, stress=arguments.stress)
        codes[ended] += 1
        if any(ended):
            print(f"run {number} (workers {workers}): {ended}: {log.read_text()[-2000:]}", flush=True)
        shutil.rmtree(folder / str(number), ignore_errors=True)
        if number % 20 == 19:
            print(f"{number + 1} runs, {time.monotonic() - began:.0f} s: {dict(codes)}", flush=True)
    shutil.rmtree(folder)
    print(f"{arguments.runs} runs: exit codes {dict(codes)}")


def write_images(file: Path) -> None:
    """Bundled images in a file of their own."""
    source = open_data("fashion-mnist").train
    pq.write_table(pa.table({"image": [{"bytes": source.read(index), "path": None} for index in range(IMAGES)]}), file)


def start_command(words: list[str], log: Path) -> tuple[int, ...]:
    """The exit code of the command; what its processes say is in the log."""
    with log.open("w") as file:
        done = subprocess.run([sys.executable, "-m", "openmae.cli", *words], stdout=file, stderr=file, check=False)
    said = log.read_text()
    return (done.returncode or int("was ended by" in said),)


def fork(words: list[str], log: Path, *, stress: bool) -> tuple[int, ...]:
    """The exit codes of the processes of one run."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "OMP_NUM_THREADS": "1"}
    shared |= {"WORLD_SIZE": str(DEVICES), "LOCAL_WORLD_SIZE": str(DEVICES), launching.SUPERVISOR: str(os.getpid())}
    children = []
    for rank in range(DEVICES):
        pid = os.fork()
        if not pid:
            os.setsid()
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for standard in (1, 2):
                os.dup2(descriptor, standard)
            os.environ.update({**shared, "LOCAL_RANK": str(rank)})
            if stress:
                watching.BEAT = 1e-5
            raise Forked(words)
        children.append(pid)
    return tuple(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)


class Forked(BaseException):
    """Takes a forked process out of the benchmark, so that it ends as a program of its own."""


if __name__ == "__main__":
    try:
        main()
    except Forked as forked:
        words = forked.args[0]
    else:
        sys.exit()
    sys.exit(cli.main(words))
