"""Write one recipe into a task's YAML file; every other byte of the file stays as it is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from adapter_stilts.backbone_names import recipe_key
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.files import atomic_write_text
from adapter_stilts.paths import user_path
from adapter_stilts.schema import EMBEDDED_PREFIX, Recipe, Task
from adapter_stilts.strict_yaml import Loader, load_yaml
from adapter_stilts.tasks.catalog import SPLITS
from adapter_stilts.yaml_complaints import complaints_of, dotted

__all__ = ["write_recipe"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")
# The line ends of YAML 1.1, which PyYAML keeps to.
_REST_OF_LINE = re.compile("[^\r\n\x85\u2028\u2029]*")
_PROPERTIES = re.compile(r"(?:[&!]\S*[ \t]*)*")


def write_recipe(task: Task, method: str, backbone: str, recipe: Recipe, out: Path) -> None:
    """Write to `out` a copy of the task's YAML file in which `recipes.<method>.<backbone>` is `recipe`.

    A backbone's folder that is given by its bare name is the path ./name there. `out` may be the task's own file. The
    recipe takes one line; comments, order, anchors and line ends around it stay. Comments between the lines of a recipe
    that is replaced go with it. Nothing is written unless the result reads back as the same task with that recipe.

    Raises `UsageError`: `out` is another task or no task, cannot be written, or lies in another folder although data
    paths are relative to the file; or the recipe's place is shared with another by an anchor (`&x`, `*x`).
    Raises `StiltsError` where the result would not read back.
    """
    before = load_yaml(task.path, Task)
    _refuse_other_folder(before, task.path, out)
    if out.exists() and not out.samefile(task.path):
        _refuse_other_content(before, out)
    text = task.path.read_bytes().decode("utf-8")
    loader = _MarkingLoader(text)
    backbone = recipe_key(backbone)
    keys, root = ("recipes", method, backbone), loader.get_single_node()
    edit = _edit(task.path, text, root, keys, _shown(_fields(recipe)))
    edited = text[: edit.start] + edit.text + text[edit.end :]
    if trouble := _difference(edited, before, method, backbone, recipe):
        _refuse_shared(task.path, keys, edit, loader.aliases)
        raise StiltsError(
            f"{task.path}:{_line(text, edit.start)}: {'.'.join(keys)}: found no way to write the recipe ({trouble}),"
            " accepted a file that can be edited in place; write the recipe by hand"
        )
    try:
        atomic_write_text(out.resolve(), edited)
    except OSError as error:
        raise UsageError(f"--out: {out} cannot be written ({error.strerror}), accepted a writable place") from error


@dataclass(frozen=True)
class _Edit:
    """`text` in place of the characters from `start` to `end`."""

    start: int
    end: int
    text: str


class _Alias(yaml.ScalarNode):
    """Where `*x` stands; PyYAML itself puts the anchored node there, whose marks are those of `&x`."""

    def __init__(self, target: yaml.Node, start_mark: yaml.Mark, end_mark: yaml.Mark) -> None:
        super().__init__("tag:yaml.org,2002:str", getattr(target, "value", ""), start_mark, end_mark)
        self.target = target


class _MarkingLoader(Loader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.aliases: list[_Alias] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if not self.check_event(yaml.AliasEvent):
            return super().compose_node(parent, index)
        event = self.peek_event()
        target = super().compose_node(parent, index)
        assert event is not None
        assert target is not None
        self.aliases.append(_Alias(target, event.start_mark, event.end_mark))
        return self.aliases[-1]


def _refuse_other_folder(task: Task, path: Path, out: Path) -> None:
    if out.resolve().parent == path.resolve().parent:
        return
    for code, source in task.data.languages.items():
        for split in SPLITS:
            value = getattr(source, split)
            anywhere = value is not None and (user_path(value).is_absolute() or value.startswith(EMBEDDED_PREFIX))
            if value is not None and (source.format or task.data.format) and not anywhere:
                raise UsageError(
                    f"--out: found {out}, accepted a file in {path.resolve().parent}: data.languages.{code}.{split} is"
                    " relative to the task's file, so the copy must lie beside the original"
                )


def _refuse_other_content(task: Task, out: Path) -> None:
    accepted = f"a new file, or one that holds task {task.name}"
    try:
        there = load_yaml(out, Task)
    except UsageError as error:
        raise UsageError(f"--out: found a file that is no task ({error}), accepted {accepted}") from None
    if there.name != task.name:
        raise UsageError(f"--out: found task {there.name} in {out}, accepted {accepted}")


def _fields(recipe: Recipe) -> dict[str, Any]:
    """What the recipe's YAML must say: the learning rate and whatever differs from the defaults."""
    default, values = Recipe().model_dump(), recipe.model_dump()
    kept = {key: value for key, value in values.items() if key == "learning_rate" or value != default[key]}
    for key in [key for key, value in kept.items() if value is None]:
        without = {other: value for other, value in kept.items() if other != key}
        # A null that another field implies (batch_examples beside batch_tokens) need not be said.
        if Recipe.model_validate(without) == recipe:
            kept = without
    return kept


def _shown(value: Any, *, quoted: bool = False) -> str:
    """The value as YAML in flow style, on one line."""
    if isinstance(value, dict):
        items = [f"{_shown(key)}: {_shown(item, quoted=key == 'tuning')}" for key, item in value.items()]
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return _shown_number(value)
    if isinstance(value, str):
        return value if not quoted and _is_plain(value) else _quoted(value)
    return str(value)


def _shown_number(value: float) -> str:
    """Shortest text that reads back equal: 4e-3, 2.5e-5, 0.05, 16, 1e6."""
    if value == 0:
        return "0"
    if 0.01 <= abs(value) < 1e6:
        return repr(value).removesuffix(".0")
    sign, digits, _ = Decimal(repr(value)).normalize().as_tuple()
    fraction = "".join(map(str, digits[1:]))
    exponent = Decimal(repr(value)).adjusted()
    return f"{'-' if sign else ''}{digits[0]}{'.' if fraction else ''}{fraction}e{exponent}"


def _is_plain(text: str) -> bool:
    resolved = Loader("").resolve(yaml.ScalarNode, text, (True, False))
    return bool(_PLAIN.fullmatch(text)) and resolved == "tag:yaml.org,2002:str"


def _quoted(text: str) -> str:
    dumped = yaml.dump(text, Dumper=yaml.SafeDumper, default_style='"', width=float("inf"), allow_unicode=True)
    return dumped.rstrip("\n")


def _edit(
    path: Path, text: str, node: yaml.Node | None, keys: Sequence[str], value: str, above: Sequence[str] = ()
) -> _Edit:
    """The edit that puts `value` at `keys` under `node`, which itself stands at `above`."""
    if not isinstance(node, yaml.MappingNode):
        line = node.start_mark.line + 1 if node else 1
        found = "an alias (*) of what another place holds" if isinstance(node, _Alias) else "no mapping"
        raise UsageError(f"{path}:{line}: {'.'.join(above)}: found {found}, accepted a mapping of its own")
    entry = next(((key, item) for key, item in node.value if key.value == keys[0]), None)
    if entry is None:
        return _insertion(text, node, keys, value, at_end=not above)
    if len(keys) == 1:
        return _replacement(text, *entry, value)
    return _edit(path, text, entry[1], keys[1:], value, (*above, keys[0]))


def _insertion(text: str, mapping: yaml.MappingNode, keys: Sequence[str], value: str, *, at_end: bool) -> _Edit:
    if mapping.flow_style:
        for key in reversed(keys[1:]):
            value = f"{{{_shown(key)}: {value}}}"
        at = _content_end(text, mapping.value[-1][1]) if mapping.value else mapping.end_mark.index - 1
        return _Edit(at, at, f"{', ' if mapping.value else ''}{_shown(keys[0])}: {value}")
    indent = _indent(text, mapping)
    lines = [f"{' ' * (indent + 2 * depth)}{_shown(key)}:" for depth, key in enumerate(keys)]
    lines[-1] += f" {value}"
    break_ = "\r\n" if "\r\n" in text else "\n"
    if at_end:
        # A block's end mark lies behind the comments that follow it: here at the file's end, or at `...`.
        at = mapping.end_mark.index
        lines = [*([] if text[:at].endswith(("\n", "\r")) else [""]), *lines, ""]
        return _Edit(at, at, break_.join(lines))
    at = _line_end(text, _content_end(text, mapping.value[-1][1]))
    return _Edit(at, at, break_.join(["", *lines]))


def _replacement(text: str, key: yaml.Node, node: yaml.Node, value: str) -> _Edit:
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return _Edit(node.start_mark.index, node.end_mark.index, value)
    start = text.index(":", key.end_mark.index) + 1
    between = text[start : node.value[0][0].start_mark.index]
    if properties := _PROPERTIES.match(between, node.start_mark.index - start):
        between = between[: properties.start()] + between[properties.end() :]
    # Comments above the first field stay; the first field's own indentation goes.
    kept = between[: max(between.rfind("\n"), 0)].removesuffix("\r")
    return _Edit(start, _line_end(text, _content_end(text, node)), f" {value}{kept.rstrip()}")


def _content_end(text: str, node: yaml.Node) -> int:
    """Index behind the node's last character, before any comment or blank line that follows."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _content_end(text, last[1] if isinstance(last, tuple) else last)
    end = node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        if node.value.endswith("\n\n"):  # `|+`: the blank lines are part of the value
            return len(text[:end].removesuffix("\n").removesuffix("\r"))
        return len(text[:end].rstrip(" \t\r\n"))
    return end


def _line_end(text: str, index: int) -> int:
    match = _REST_OF_LINE.match(text, index)
    return match.end() if match else index


def _indent(text: str, mapping: yaml.MappingNode) -> int:
    mark = mapping.value[0][0].start_mark
    line = text[mark.index - mark.column : mark.index]
    # Not the key's own column, which lies further right in `? key`.
    return len(line) - len(line.lstrip(" ")) if line.strip() else mark.column


def _line(text: str, index: int) -> int:
    return text.count("\n", 0, index) + 1


def _difference(text: str, before: Task, method: str, backbone: str, recipe: Recipe) -> str | None:
    """What is wrong with the edited text, in a few words; None where only the recipe changed."""
    try:
        after = Task.model_validate(yaml.load(text, Loader=Loader)).model_dump()
    except yaml.YAMLError as error:
        return f"broken YAML: {getattr(error, 'problem', None) or type(error).__name__}"
    except ValidationError as error:
        location, what = complaints_of(error, Task, yaml.load(text, Loader=Loader))[0]
        return f"{dotted(location)}: {what}"
    expected = before.model_dump()
    expected["recipes"].setdefault(method, {})[backbone] = recipe.model_dump()
    changed = [key for key in expected if after[key] != expected[key]]
    return f"{', '.join(changed)} would read back changed" if changed else None


def _refuse_shared(path: Path, keys: Sequence[str], edit: _Edit, aliases: Sequence[_Alias]) -> None:
    """Raises UsageError where an alias outside the edited characters stands for something that they touch."""
    for alias in aliases:
        target, at = alias.target, alias.start_mark.index
        touched = target.start_mark.index <= edit.end and edit.start <= target.end_mark.index
        if touched and not edit.start <= at < edit.end:
            raise UsageError(
                f"{path}:{target.start_mark.line + 1}: {'.'.join(keys)}: found an anchor (&) that line"
                f" {alias.start_mark.line + 1} shares, accepted a recipe that nothing else uses"
            )
