"""The verbs: each is one function, which is the Python API, the flags, the help, and what `--json` prints.

A new verb is a function beside its like, decorated with `verb`, and a line of this table.
"""

from typing import Any

from openmae.reporting import measurements, results
from openmae.reporting.zoo import agrees, show_zoo
from openmae.verbs.datasets import check as check
from openmae.verbs.datasets import pack as pack
from openmae.verbs.exploring import explore as explore
from openmae.verbs.first_steps import demo as demo
from openmae.verbs.first_steps import list_recipes as list_recipes
from openmae.verbs.interop import convert as convert
from openmae.verbs.interop import zoo as zoo
from openmae.verbs.measuring import embed as embed
from openmae.verbs.measuring import knn as knn
from openmae.verbs.measuring import predict as predict
from openmae.verbs.pictures import reconstruct as reconstruct
from openmae.verbs.planning import plan as plan
from openmae.verbs.reporting import report as report
from openmae.verbs.training import finetune as finetune
from openmae.verbs.training import linear as linear
from openmae.verbs.training import pretrain as pretrain
from openmae.verbs.verb import Verb as Verb
from openmae.verbs.watching import runs as runs
from openmae.verbs.watching import watch as watch

VERBS: dict[str, Verb[Any]] = {
    "demo": Verb(demo, show=results.show_demo),
    "recipes": Verb(list_recipes, show=results.show_recipes),
    "check": Verb(check, show=results.show_check),
    "plan": Verb(plan, show=results.show_plan, runs_devices=False),
    "pretrain": Verb(pretrain, show=results.show_pretraining),
    "watch": Verb(watch, show=results.show_watched),
    "runs": Verb(runs, show=results.show_runs),
    "linear": Verb(linear, show=measurements.show_measurement),
    "finetune": Verb(finetune, show=measurements.show_measurement),
    "knn": Verb(knn, show=measurements.show_measurement),
    "predict": Verb(predict, show=measurements.show_predictions),
    "embed": Verb(embed, show=results.show_embedding),
    "reconstruct": Verb(reconstruct),
    "report": Verb(report, show=results.show_report),
    "explore": Verb(explore),
    "pack": Verb(pack, show=results.show_pack),
    "zoo": Verb(zoo, show=show_zoo, passed=agrees),
    "convert": Verb(convert, show=results.show_conversion),
}
