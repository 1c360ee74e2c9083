"""Intermediate-task training (STILTs) with adapters on a frozen multilingual encoder.

from adapter_stilts import evaluate, train

run = train("udpos", over=["ud_deprel"], backbone="embedded", mirror="hub")
print(evaluate(run, mirror="hub").mean_zero_shot)
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "RunStore",
    "Scores",
    "Task",
    "all_tasks",
    "evaluate",
    "load_backbone",
    "load_run",
    "load_study",
    "load_task",
    "train",
    "tune",
]

# Names that the package offers -> the module that has them. Read on first use: `adapter-stilts --help` must not wait
# for torch.
_PLACES = {
    "RunStore": ("adapter_stilts.runs.store", "RunStore"),
    "Scores": ("adapter_stilts.evaluation.scores", "Scores"),
    "Task": ("adapter_stilts.schema", "Task"),
    "all_tasks": ("adapter_stilts.tasks.catalog", "all_tasks"),
    "evaluate": ("adapter_stilts.evaluation.zero_shot", "evaluate"),
    "load_backbone": ("adapter_stilts.model.backbone", "load_backbone"),
    "load_run": ("adapter_stilts.evaluation.zero_shot", "load_run"),
    "load_study": ("adapter_stilts.analysis.frame", "load_study"),
    "load_task": ("adapter_stilts.tasks.catalog", "find_task"),
    "train": ("adapter_stilts.training.api", "train"),
    "tune": ("adapter_stilts.training.tune", "tune"),
}

if TYPE_CHECKING:
    from adapter_stilts.analysis.frame import load_study
    from adapter_stilts.evaluation.scores import Scores
    from adapter_stilts.evaluation.zero_shot import evaluate, load_run
    from adapter_stilts.model.backbone import load_backbone
    from adapter_stilts.runs.store import RunStore
    from adapter_stilts.schema import Task
    from adapter_stilts.tasks.catalog import all_tasks
    from adapter_stilts.tasks.catalog import find_task as load_task
    from adapter_stilts.training.api import train
    from adapter_stilts.training.tune import tune


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
