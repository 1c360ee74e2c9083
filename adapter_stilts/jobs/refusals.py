"""What is refused of a request, before anything is trained for it: names, amounts, controls, intermediates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapter_stilts.errors import UsageError
from adapter_stilts.jobs.job import MERGED, MIXED_IN_HEAD, NULL, Intermediate, Job, adapter_name
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.composition import SHAPE
from adapter_stilts.runs.manifest import check_backbone
from adapter_stilts.runs.store import Run
from adapter_stilts.schema import Recipe, Task
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.trust import LONGEST_NAME

# Attributes of PyTorch's ModuleDict, with what `transformers` adds, that a task's name could be: written down, so that
# a plan needs neither.
MODULE_ATTRIBUTES = """
T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double dump_patches
eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys
load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters pop
register_backward_hook register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
set_submodule share_memory smart_apply state_dict to to_empty train training type update values xpu zero_grad
"""


def check_names(tasks: Sequence[Task]) -> None:
    """Raise UsageError for a name that is taken: those of adapters and heads are attributes of PyTorch modules, where
    two tasks' names may be one."""
    known: dict[str, str] = {}
    for task in tasks:
        other = known.setdefault(adapter_name(task.name), task.name)
        if other != task.name:
            raise UsageError(f"tasks {other} and {task.name}: found names that are one in a model, accepted others")
        name = adapter_name(task.name)
        if name in (MERGED, NULL, MIXED_IN_HEAD) or name in MODULE_ATTRIBUTES.split():
            raise UsageError(f"task {task.name}: found a name that a model's parts have, accepted another name")


def check_lengths(job: Job) -> None:
    """Raise UsageError where an adapter, a head or a fusion has a name that no folder can have."""
    arrangement = job.arrangement
    for name in (*arrangement.adapters, *arrangement.baked, *arrangement.heads):
        if len(name) > LONGEST_NAME:
            what = f"found a name of {len(name)} characters in a model"
            raise UsageError(f"task {job.title}: {what}, accepted up to {LONGEST_NAME} (of several tasks together)")
    if arrangement.fusion is not None and len(arrangement.fusion) > LONGEST_NAME:
        what = f"found names of {len(arrangement.fusion)} characters together"
        raise UsageError(f"--compose fuse: {what}, accepted intermediates whose names have up to {LONGEST_NAME}")


def check_amount(limit: int | None, match_tokens: int | None) -> None:
    """Raise UsageError where the amount of training data is none, or is said twice."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit: found {limit}, accepted: at least 1 example")
    if match_tokens is not None and match_tokens < 1:
        raise UsageError(f"--match-tokens: found {match_tokens}, accepted: at least 1 piece")
    if match_tokens is not None and limit is not None:
        raise UsageError("--match-tokens and --limit: found both for one run, accepted one of them")


def check_control(control: str | None, intermediates: int) -> None:
    """Raise UsageError for a control that there is not, or that is asked for where something lies underneath."""
    if control is not None and control not in ("random", "shuffled"):
        raise UsageError(f"--control: found {control!r}, accepted: random, shuffled")
    if control is not None and intermediates:
        raise UsageError(
            "--control with --over: a control is an intermediate; give it as --over TASK@random or TASK@shuffled"
        )


def check_control_of(tasks: Sequence[Task], control: str | None) -> None:
    """Raise UsageError where labels are to be shuffled of a task that has none."""
    for task in tasks:
        if control == "shuffled" and find_kind(task.kind).shuffle is None:
            raise UsageError(
                f"--control: found shuffled for {task.name}, of kind {task.kind}, which has no labels to shuffle; "
                "accepted: random"
            )


def check_development_limit(limit: int | None, settings: Mapping[str, str]) -> None:
    """Raise UsageError where the number of development examples is said twice."""
    if limit is not None and "development_examples" in settings:
        raise UsageError("--development-limit and --set development_examples: found both, accepted one of them")


def check_languages(tasks: Sequence[Task], languages: Sequence[str] | None) -> None:
    """Raise UsageError for a training language that a task does not have."""
    for task in tasks:
        for code in languages or ():
            if code not in task.data.languages:
                accepted = ", ".join(task.data.languages)
                raise UsageError(f"--languages: found {code!r}, accepted for {task.name}: {accepted}")


def check_intermediate(
    intermediate: Intermediate, method: str, composition: str, recipe: Recipe, backbone: Backbone
) -> None:
    """Raise UsageError for a run that cannot lie underneath: of another method, backbone, composition or shape."""
    option = f"--over {intermediate.name}"
    if intermediate.method != method:
        raise UsageError(f"{option}: a {intermediate.method} run, accepted under --method {method}: {method}")
    source = intermediate.source
    if isinstance(source, Run):  # what is yet to be trained is trained on this one
        check_backbone(source.folder, intermediate.backbone, backbone)
    if intermediate.composition in ("fuse", "bake"):
        raise UsageError(
            f"{option}: composed by {intermediate.composition}, accepted underneath: none, stack, continue, merge"
        )
    if composition not in ("stack", "bake") and len(intermediate.adapters) > 1:
        raise UsageError(
            f"{option}: a stack of {len(intermediate.adapters)} adapters, accepted under {composition}: runs of one"
        )
    if composition == "fuse":
        # AdapterFusion sits where all fused adapters do, and the target's adapter on top of it.
        for field in ("adapter", "layers"):
            value, accepted = getattr(intermediate.recipe, field), getattr(recipe, field)
            if value != accepted:
                raise UsageError(
                    f"{option}: found {field} {value or 'all'}, accepted to fuse: {accepted or 'all'}, as the target"
                )
    if composition == "continue" and method in SHAPE:
        for field in SHAPE[method]:
            value, accepted = getattr(recipe, field), getattr(intermediate.recipe, field)
            if value != accepted and not (intermediate.composition == "merge" and field in ("rank", "alpha")):
                raise UsageError(
                    f"--set {field}: found {value}, accepted {accepted}, the shape of {intermediate.name}, to continue"
                )


def check_equal_shapes(intermediates: Sequence[Intermediate], method: str) -> None:
    """Raise UsageError where runs that are to be merged differ in shape."""
    first = intermediates[0]
    for other in intermediates[1:]:
        for field in SHAPE[method]:
            value, accepted = getattr(other.recipe, field), getattr(first.recipe, field)
            if value != accepted:
                raise UsageError(
                    f"--over {other.name}: {field} {value}, accepted {accepted}, as of {first.name}, to merge"
                )
