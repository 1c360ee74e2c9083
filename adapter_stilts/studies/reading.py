"""Find and check studies: those shipped as task_configs/studies/*.yaml and a user's own YAML files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from adapter_stilts import backbone_names
from adapter_stilts.errors import Complaint, ConfigError, UsageError
from adapter_stilts.jobs.request import only_train_language, training_languages
from adapter_stilts.model.composition import BOTTLENECK_NAMES, COMPOSITIONS, Composition, Rule
from adapter_stilts.paths import is_file, shipped_configs, user_path
from adapter_stilts.schema import Recipe, override, setting_text
from adapter_stilts.strict_yaml import Complaints, complaint, line_of, load_yaml
from adapter_stilts.studies.grid import (
    GROUPED,
    arrangement_uses,
    expand,
    intermediate_title,
    intermediate_uses,
    override_uses,
    selects_cell,
    tasks_of,
)
from adapter_stilts.study_schema import Arrangement, Exclusion, Intermediate, Override, Study
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.yaml_complaints import Location, did_you_mean, dotted

GRIDS = ("targets", "intermediates", "methods", "compositions", "layers", "controls", "seeds")


def find_study(name_or_path: str | Path, targets: Sequence[str] = ()) -> Study:
    """The study of that name among the shipped ones, or the study in a YAML file, checked; `targets`, where there are
    any, stand in for its own.

    Raises UsageError, a line each with file, line, key, what was found and what is accepted.
    """
    shipped = {path.stem: path for path in shipped_studies()}
    path = shipped.get(str(name_or_path)) or user_path(name_or_path)
    if not is_file(path) and path.suffix not in (".yaml", ".yml"):
        hint = did_you_mean(str(name_or_path), shipped)
        accepted = f"{', '.join(sorted(shipped)) or 'none shipped'} or the path of a YAML file"
        raise UsageError(f"study '{name_or_path}': found no such study{hint}, accepted {accepted}")
    if not is_file(path):
        raise UsageError(f"{path}: found no such file, accepted a study's YAML file")
    return read_study(path, targets)


def shipped_studies() -> list[Path]:
    """Files of the shipped studies."""
    return sorted((shipped_configs() / "studies").glob("*.yaml"))


def read_study(path: Path, targets: Sequence[str] = ()) -> Study:
    """The study in a YAML file, with what it includes, on `targets` where they are given. Raises UsageError."""
    path = user_path(path).resolve()
    tasks_of.cache_clear()  # a task's YAML may have changed since another study was read
    values, files = _with_includes(path, (), {})
    values |= {"targets": tuple(targets)} if targets else {}
    study = Study.model_validate({"name": _name_of(path), **values})
    study._path, study._files = path, files
    _check(study)
    return study


def _name_of(path: Path) -> str:
    return re.sub("[^A-Za-z0-9_.-]", "_", path.stem).lstrip("_.-") or "study"


_Values = tuple[dict[str, Any], dict[str, Path]]
# Files that one study is made of.
MOST_FILES = 100


def _with_includes(path: Path, above: tuple[Path, ...], known: dict[Path, _Values]) -> _Values:
    """Values of the keys that a file or one that it includes gives, and which file each is from; those of each file are
    read once and kept in `known`."""
    if path in known:
        return known[path]
    content = load_yaml(path, Study)
    values: dict[str, Any] = {}
    files: dict[str, Path] = {}
    for number, name in enumerate(content.include or ()):
        included = (path.parent / user_path(name)).resolve()
        if not is_file(included):
            _refuse(path, ("include", number), f"no file {included}", "a study's YAML file")
        if included == path or included in above:
            _refuse(path, ("include", number), f"{name}, which includes this file", "files that do not include it")
        if len(known) + len(above) >= MOST_FILES:
            _refuse(path, ("include", number), f"more than {MOST_FILES} files", "fewer")
        more_values, more_files = _with_includes(included, (*above, path), known)
        values |= more_values
        files |= more_files
    for key in content.model_fields_set - {"include"}:
        values[key], files[key] = _resolved(path, key, getattr(content, key)), path
    known[path] = values, files
    return values, files


def _resolved(path: Path, key: str, value: Any) -> Any:
    """A value with the paths of task YAML in it made absolute: they are relative to the file they stand in."""
    if key == "targets":
        return tuple(_task_path(path, name) for name in value)
    if key == "intermediates":
        return tuple(_intermediate(path, one) for one in value)
    if key == "compositions":
        entries = (
            entry if isinstance(entry, str) else entry.model_copy(update={"set": _fields(path, entry.set)})
            for entry in value
        )
        return tuple(entries)
    if key == "groups":
        return {group: tuple(_task_path(path, name) for name in names) for group, names in value.items()}
    if key in ("exclude", "overrides"):
        return tuple(_selector(path, selector) for selector in value)
    return value


def _intermediate(path: Path, one: Intermediate | str) -> Intermediate | str:
    if isinstance(one, str):
        return _task_path(path, one)
    return one.model_copy(update={"task": _task_path(path, one.task), "set": _fields(path, one.set)})


def _fields(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a recipe, of which one may name a task's YAML."""
    text = fields.get("mlm_task")
    return {**fields, "mlm_task": _absolute_yaml(path, text)} if isinstance(text, str) else fields


def _selector(path: Path, selector: Exclusion | Override) -> Exclusion | Override:
    update: dict[str, Any] = {}
    for key in ("target", "intermediate"):
        if names := getattr(selector, key):
            update[key] = tuple(_task_path(path, name) for name in names)
    if fields := getattr(selector, "set", None):
        update["set"] = _fields(path, fields)
    return selector.model_copy(update=update)


def _task_path(path: Path, name: str) -> str:
    return "+".join(_absolute_yaml(path, part) for part in name.split("+"))


def _absolute_yaml(path: Path, name: str) -> str:
    file = path.parent / user_path(name)
    return str(file.resolve()) if name.endswith((".yaml", ".yml")) and is_file(file) else name


# --- what pydantic cannot know --------------------------------------------------------------------------------------


def _check(study: Study) -> None:
    complaints = Complaints()
    complaints.gather(_check_targets, study)
    complaints.gather(_check_backbone, study)
    for key in GRIDS:
        complaints.gather(_check_once, study, key)
    for number, name in enumerate(study.targets):
        complaints.gather(_check_task, study, ("targets", number), name)
    for number, one in enumerate(study.intermediates):
        _check_intermediate(study, ("intermediates", number), one, complaints)
    for group, names in study.groups.items():
        for number in range(len(names)):
            complaints.gather(_check_member, study, group, number)
    _check_compositions(study, complaints)
    for number, selector in enumerate(study.exclude):
        _check_selector(study, ("exclude", number), selector, complaints)
    for number, setting in enumerate(study.overrides):
        _check_selector(study, ("overrides", number), setting, complaints)
        _check_settings(study, ("overrides", number), setting.set, complaints)
    complaints.gather(_check_titles, study)
    complaints.refuse()
    # What follows asks for the study's cells.
    _check_uses(study, complaints)
    complaints.refuse()


def _check_intermediate(study: Study, location: Location, one: Intermediate | str, complaints: Complaints) -> None:
    """A bare task, or a mapping with a task that exists in its languages, and fields that a recipe has."""
    if isinstance(one, str):
        complaints.gather(_check_task, study, location, one)
        return
    if complaints.gather(_check_task, study, (*location, "task"), one.task):
        for number, code in enumerate(one.languages or ()):
            complaints.gather(_check_language, study, (*location, "languages", number), one.task, code)
    _check_settings(study, location, one.set, complaints)


def _check_language(study: Study, location: Location, task: str, code: str) -> None:
    for each in tasks_of(task):
        if code not in each.data.languages:
            _refuse_key(study, location, repr(code), f"of {each.name}: {', '.join(each.data.languages)}")


def _check_targets(study: Study) -> None:
    if not study.targets:
        _refuse_key(study, ("targets",), "nothing", "one target task or more")


def _check_backbone(study: Study) -> None:
    name = study.backbone
    if not backbone_names.is_backbone_name(name) and not user_path(name).is_dir():
        _refuse_key(study, ("backbone",), f"{name!r}{backbone_names.hint(name)}", backbone_names.ACCEPTED)


def _check_once(study: Study, key: str) -> None:
    values = [_canonical_label(value) for value in getattr(study, key)]
    for number, value in enumerate(values):
        if value in values[:number]:
            _refuse_key(study, (key, number), f"{value!r} twice", "each value once")


def _canonical_label(value: Any) -> Any:
    """What a study knows an entry by, had its languages been written as a run has them."""
    if isinstance(value, Intermediate) and value.languages is not None:
        try:
            tasks = tasks_of(value.task)
        except UsageError:  # which is told of the entry itself
            return value.label
        plain = only_train_language(tasks, value.languages)
        languages = None if plain else training_languages(tasks, value.languages)
        value = value.model_copy(update={"languages": languages})
    return getattr(value, "label", value)


def _check_titles(study: Study) -> None:
    """Tables, and the records of what stands on an intermediate, know it by its task's name."""
    known: dict[str, Intermediate] = {}
    for number, entry in enumerate(study.intermediates):
        one = study.by_label[entry.label if isinstance(entry, Intermediate) else entry]
        try:
            title = intermediate_title(one)
        except UsageError:  # which is told of the entry itself
            continue
        other = known.setdefault(title, one)
        if other is not one:
            refused = f"{one.task}, called {title} as {other.task} is"
            _refuse_key(study, ("intermediates", number), refused, "a `name` for one of them")


def _check_task(study: Study, location: Location, name: str) -> None:
    try:
        tasks = tasks_of(name)
    except UsageError as error:
        file, at = study.file_of(str(location[0])), dotted(location)
        line = line_of(file, location)
        raise ConfigError(Complaint(str(file), line, f"{at}: {reason}") for reason in error.lines) from None
    if location[0] == "targets":
        if len(tasks) > 1 or not find_kind(tasks[0].kind).has_answers:
            _refuse_key(study, location, name, "one task that has labels: it is scored")
        for number, code in enumerate(study.test_languages or ()):
            if code not in tasks[0].data.languages:
                accepted = ", ".join(tasks[0].data.languages)
                _refuse_key(study, ("test_languages", number), repr(code), f"of {tasks[0].name}: {accepted}")


def _check_member(study: Study, group: str, number: int) -> None:
    names = study.groups[group]
    name = names[number]
    if name not in study.by_label:
        accepted = ", ".join(study.by_label) or "none: `intermediates` is empty"
        hint = did_you_mean(name, (Path(label).name for label in study.by_label))
        _refuse_key(study, ("groups", group, number), f"{name!r}{hint}", f"intermediates: {accepted}")
    if name in names[:number]:
        _refuse_key(study, ("groups", group, number), f"{name!r} twice", "each intermediate once")


def _check_compositions(study: Study, complaints: Complaints) -> None:
    """Each composition and each method has a use; a grid axis without one is a mistake."""
    rules = {method: COMPOSITIONS["bottleneck" if method in BOTTLENECK_NAMES else method] for method in study.methods}  # type: ignore[index]
    entries = list(study.arrangements.values())
    names = [entry.composition for entry in entries]
    for number, entry in enumerate(entries):
        complaints.gather(_check_composition, study, rules, number, entry.composition)
        _check_settings(study, ("compositions", number), entry.set, complaints)
    for number, method in enumerate(study.methods):
        if not set(rules[method]) & set(names):
            accepted = f"a method with one of {', '.join(names)}"
            complaints.gather(_refuse_key, study, ("methods", number), method, accepted)
    if study.groups and not any(name in GROUPED for name in names):
        accepted = f"groups with a composition of several: {', '.join(GROUPED)}"
        complaints.gather(_refuse_key, study, ("groups",), "groups", accepted)
    if any(control != "none" for control in study.controls) and set(names) == {"none"}:
        accepted = "none (there is no intermediate to change)"
        complaints.gather(_refuse_key, study, ("controls",), ", ".join(study.controls), accepted)


def _check_composition(
    study: Study, rules: Mapping[str, Mapping[Composition, Rule]], number: int, composition: str
) -> None:
    if not any(composition in allowed for allowed in rules.values()):
        accepted = ", ".join(dict.fromkeys(name for allowed in rules.values() for name in allowed))
        _refuse_key(study, ("compositions", number), composition, f"under {', '.join(rules)}: {accepted}")
    if composition != "none" and not study.intermediates:
        _refuse_key(study, ("compositions", number), f"{composition} without intermediates", "none")


def _check_selector(study: Study, location: Location, selector: Exclusion | Override, complaints: Complaints) -> None:
    """What a selector names is in the grid."""
    entries = study.arrangements
    axes = {
        "target": study.targets,
        "intermediate": tuple(study.by_label),
        "group": tuple(study.groups) or ("all",),
        "method": study.methods,
        "composition": tuple(dict.fromkeys((*(entry.composition for entry in entries.values()), *entries))),
        "control": study.controls,
        "layers": study.layers,
        "seed": study.seeds,
    }
    for key, accepted in axes.items():
        for value in getattr(selector, key, None) or ():
            if value not in accepted:
                refused = f"{value!r}{did_you_mean(str(value), (Path(str(option)).name for option in accepted))}"
                of_this = f"of this study: {', '.join(map(str, accepted)) or 'none'}"
                complaints.gather(_refuse_key, study, (*location, key), refused, of_this)


def _check_settings(study: Study, location: Location, fields: Mapping[str, Any], complaints: Complaints) -> None:
    for field, value in fields.items():
        complaints.gather(_check_setting, study, (*location, "set", field), value)


def _check_setting(study: Study, location: Location, value: Any) -> None:
    try:
        override(Recipe(), {str(location[-1]): setting_text(value)})
    except UsageError as error:
        file = study.file_of(str(location[0]))
        reasons = [line.partition(": ")[2] for line in error.lines]
        raise ConfigError(complaint(file, location, reason) for reason in reasons) from None


def _check_uses(study: Study, complaints: Complaints) -> None:
    """Every exclusion leaves something out, every override sets something, and something is left."""
    every = list(expand(study, whole=True))
    for number, selector in enumerate(study.exclude):
        if not any(selects_cell(selector, cell) for cell in every):
            refused, accepted = "an exclusion that no cell agrees with", "one that leaves out cells"
            complaints.gather(_refuse_key, study, ("exclude", number), refused, accepted)
    left = list(expand(study))
    if not left:
        complaints.gather(_refuse_key, study, ("exclude",), "exclusions of every cell", "fewer")
        return
    useless: list[Location] = [
        ("overrides", number) for number, each in enumerate(study.overrides) if not override_uses(study, each, left)
    ]
    for number, one in enumerate(study.intermediates):
        if isinstance(one, Intermediate) and one.set and not intermediate_uses(one, left):
            useless.append(("intermediates", number))
    for number, entry in enumerate(study.compositions):
        if isinstance(entry, Arrangement) and entry.set and not arrangement_uses(entry, left):
            useless.append(("compositions", number))
    for location in useless:
        refused, accepted = "settings that no run of the study uses", "ones that decide something"
        complaints.gather(_refuse_key, study, location, refused, accepted)


def _refuse_key(study: Study, location: Location, refused: str, accepted: str) -> NoReturn:
    _refuse(study.file_of(str(location[0])), location, refused, accepted)


def _refuse(path: Path, location: Sequence[str | int], refused: str, accepted: str) -> NoReturn:
    raise ConfigError([complaint(path, location, f"found {refused}, accepted {accepted}")])
