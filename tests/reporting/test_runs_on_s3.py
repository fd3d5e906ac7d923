"""Runs behind s3://, on a server on this machine."""

import json

from openmae.reporting.run_files import RunReader
from openmae.reporting.run_finding import find_runs
from tests.data.sources.proxy import Proxy
from tests.data.sources.test_s3 import network as network
from tests.data.sources.test_s3 import send
from tests.data.sources.test_s3 import server as server


def line(step: int) -> bytes:
    return json.dumps({"step": step, "epoch": step / 20, "loss": 1.0}).encode() + b"\n"


def test_a_run_on_s3_is_found_and_watched_as_it_grows(server: int, network: Proxy) -> None:
    def put(name: str, data: bytes) -> None:
        send(server, f"bucket/runs/{name}", data)

    put("a/recipe.yaml", b"stage: pretrain\nname: mine\nepochs: 10\n")
    put("a/metrics.jsonl", line(20) + line(40))
    put("a/checkpoints/step-1/recipe.yaml", b"")
    put("of/b/recipe.yaml", b"stage: linear\n")
    assert find_runs("s3://bucket/runs") == ["s3://bucket/runs/a", "s3://bucket/runs/of/b"]
    reader = RunReader("s3://bucket/runs/a")
    run = reader.read()
    assert (run.name, run.state, [one["step"] for one in run.metrics]) == ("a", "running", [20, 40])
    assert run.updated is not None
    put("a/metrics.jsonl", line(20) + line(40) + line(60) + b'{"st')
    assert [one["step"] for one in reader.read().metrics] == [20, 40, 60]
    put("a/metrics.jsonl", line(20) + line(30))
    put("a/results.json", b'{"loss": 0.5}')
    run = reader.read()
    assert (run.state, run.results, [one["step"] for one in run.metrics]) == ("finished", {"loss": 0.5}, [20, 30])
