"""Help, the list of recipes and the import of the package answer without the seconds that torch takes."""

import pytest

from benchmarks.startup import COMMANDS, import_times, run


@pytest.mark.parametrize("name", COMMANDS)
def test_no_torch_is_imported_before_there_is_work_for_it(name: str) -> None:
    assert "torch" not in import_times(run(COMMANDS[name], "-X", "importtime").errors)


def test_torch_is_noticed_in_what_python_says_about_imports() -> None:
    report = "import time: self [us] | cumulative | imported package\nimport time:  20 |  90 |   torch.nn\n"
    assert import_times(report + "import time:  30 |  120 | torch\n") == {"torch": 0.05}
