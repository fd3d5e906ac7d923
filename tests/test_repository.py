"""The files around the package agree with each other: version, licence, commands."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import openmae

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_version_and_licence_are_the_same_wherever_they_stand() -> None:
    citation = read("CITATION.cff")
    assert PROJECT["version"] == openmae.__version__ == citation["version"]
    assert PROJECT["license"] == citation["license"]


def test_ci_runs_make_test_on_the_oldest_python_that_the_package_permits() -> None:
    job = read(".github/workflows/test.yml")["jobs"]["test"]
    assert any(step.get("run", "").startswith("make test") for step in job["steps"])
    assert PROJECT["requires-python"] == f">={job['strategy']['matrix']['python'][0]}"


def test_ci_runs_the_tests_with_the_oldest_versions() -> None:
    steps = read(".github/workflows/test.yml")["jobs"]["oldest"]["steps"]
    assert any(step.get("run", "").startswith("make test-oldest ") for step in steps)


def test_each_commit_hook_is_a_check_of_make_test() -> None:
    checks = subprocess.run(["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (local,) = read(".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        assert hook["entry"].removesuffix(" --force-exclude") in checks


def test_make_help_names_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (targets,) = (line.split()[1:] for line in makefile.splitlines() if line.startswith(".PHONY:"))
    assert {line.split()[1] for line in listed.splitlines() if line.startswith("make ")} == set(targets)


@pytest.mark.parametrize("form", ["bug_report", "feature_request"])
def test_issue_forms_ask_for_each_thing_under_a_name_of_its_own(form: str) -> None:
    content = read(f".github/ISSUE_TEMPLATE/{form}.yml")
    assert {"name", "description", "body"} <= set(content)
    asked = [field["id"] for field in content["body"] if field["type"] != "markdown"]
    assert len(set(asked)) == len(asked) > 0
