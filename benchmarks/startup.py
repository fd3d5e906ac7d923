"""The seconds that importing the package and asking the command for help take, and the packages that take them.

    python benchmarks/startup.py [--runs 11] [--json]

Each command runs in its own process, as the installed `openmae` starts it. The commands take turns, so that a busy
minute of the machine slows all of them alike. One more run of each, under `-X importtime`, shows whether torch was
imported and the time of each package; that run is slower, so compare its times only with each other. `python -c pass`
is the time of Python itself. The goal is less than 0.3 seconds, and no torch.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

GOAL = 0.3  # seconds
COSTLY = 5  # packages shown for each command
MAIN = "import sys; from openmae.cli import main; sys.exit(main())"  # what the installed command runs
COMMANDS = {
    "python": ["-c", "pass"],
    "import openmae": ["-c", "import openmae"],
    "openmae --help": ["-c", MAIN, "--help"],
    "openmae recipes --json": ["-c", MAIN, "recipes", "--json"],
    "openmae pretrain vit-b16-800e --help": ["-c", MAIN, "pretrain", "vit-b16-800e", "--help"],
    "openmae knn --help": ["-c", MAIN, "knn", "--help"],
    "openmae zoo": ["-c", MAIN, "zoo"],
}


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A process that succeeded: the seconds it took, and its standard error."""

    seconds: float
    errors: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One command: seconds, whether torch was imported, and the milliseconds of the costliest packages."""

    command: str
    median: float
    fastest: float
    torch: bool
    imports: dict[str, float]


def run(arguments: list[str], *options: str) -> Finished:
    """Run Python with these options and arguments."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *options, *arguments], capture_output=True, text=True, check=True)
    return Finished(seconds=time.perf_counter() - began, errors=done.stderr)


def import_times(report: str) -> dict[str, float]:
    """Milliseconds that each top-level package took by itself, read from what `-X importtime` prints."""
    spent: Counter[str] = Counter()
    for line in report.splitlines():
        if line.startswith("import time:") and not line.endswith("imported package"):
            own, _, module = line.removeprefix("import time:").split("|")
            spent[module.strip().partition(".")[0]] += int(own)
    return {package: microseconds / 1000 for package, microseconds in spent.items()}


def measure(runs: int) -> list[Row]:
    """Time all commands, and list the imports of each."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():
        run(arguments)  # writes bytecode and fills the disk's cache
    for _ in range(runs):
        for name, arguments in COMMANDS.items():
            seconds[name].append(run(arguments).seconds)
    return [row_of(name, seconds[name]) for name in COMMANDS]


def row_of(name: str, seconds: list[float]) -> Row:
    """One command: its timed runs, and one more run under `-X importtime`."""
    spent = import_times(run(COMMANDS[name], "-X", "importtime").errors)
    packages = Counter({package: ms for package, ms in spent.items() if package not in sys.stdlib_module_names})
    return Row(
        command=name,
        median=round(statistics.median(seconds), 3),
        fastest=round(min(seconds), 3),
        torch="torch" in spent,
        imports={
            "standard library": round(sum(spent.values()) - sum(packages.values()), 1),
            **{package: round(ms, 1) for package, ms in packages.most_common(COSTLY)},
        },
    )


def main() -> int:
    """Print the table; 1 when a command is slower than the goal or imports torch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=11, help="timed runs of each command")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args()
    rows = measure(arguments.runs)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        print("| command | median, s | fastest, s | torch | imports, ms |\n|---|---|---|---|---|")
        for row in rows:
            imports = ", ".join(f"{package} {ms:g}" for package, ms in row.imports.items())
            print(f"| `{row.command}` | {row.median} | {row.fastest} | {'yes' if row.torch else 'no'} | {imports} |")
    return int(any(row.torch or row.median > GOAL for row in rows))


if __name__ == "__main__":
    sys.exit(main())
