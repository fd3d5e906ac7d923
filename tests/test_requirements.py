"""The lower bounds of pyproject.toml are the versions that requirements-oldest.txt holds, and these have been tested.

The whole suite runs with them by `make test-oldest`, in an environment of its own.
"""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = sorted(
    {*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)}
)
LINES = (ROOT / "requirements-oldest.txt").read_text(encoding="utf-8").splitlines()
OLDEST = {name: Version(version) for name, version in (line.split("==") for line in LINES if not line.startswith("#"))}


def lower_bound(requirement: Requirement) -> str | None:
    """The version behind `>=`, if there is one."""
    return next((clause.version for clause in requirement.specifier if clause.operator == ">="), None)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("text", REQUIREMENTS)
def test_every_requirement_has_a_lower_bound_and_it_is_the_version_that_was_tested(text: str) -> None:
    requirement = Requirement(text)
    bound = lower_bound(requirement)
    assert bound is not None, f"{text} permits every version there ever was; write >= and the oldest that works"
    assert OLDEST.get(normal(requirement.name)) == Version(bound), (
        f"{text} and requirements-oldest.txt disagree; run `make oldest`"
    )


def test_a_package_has_one_lower_bound_wherever_it_stands() -> None:
    bounds: dict[str, set[str | None]] = {}
    for requirement in map(Requirement, REQUIREMENTS):
        bounds.setdefault(normal(requirement.name), set()).add(lower_bound(requirement))
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}
