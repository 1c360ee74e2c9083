"""What the README of a dataset repository says of its files.

The YAML is read as text, node by node, and only as far as it says which files a config's split has: a config may be
called `no` or `1.10`, and whatever else stands there (dates, numbers, thousands of aliases) is never evaluated.
"""

from functools import lru_cache
from pathlib import Path
from typing import NoReturn

import yaml

from adapter_stilts.errors import DataError
from adapter_stilts.files import read_regular
from adapter_stilts.trust import regular_file

# In bytes; that of a repository with a thousand configs has one million.
LARGEST_README = 2**21

Patterns = dict[str, dict[str, list[str]]]
"""Config -> split -> patterns of files."""


@lru_cache(maxsize=64)
def readme_configs(path: Path, _modified: int) -> Patterns:
    """The `configs` of a repository's README; empty where it has none. Raises `DataError` for broken metadata."""
    try:
        text = read_regular(regular_file(path, path.parent), LARGEST_README).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "bytes that are not UTF-8"
        raise DataError(f"{path}: found {reason}, accepted a readable README") from None
    metadata = _metadata(text)
    if metadata is None:
        return {}
    try:
        root = yaml.compose(metadata, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 2
        raise DataError(f"{path}:{line}: found broken metadata ({type(error).__name__}), accepted `configs`") from None
    if root is None:
        return {}
    configs = _Card(path).values(root).get("configs")
    return {} if configs is None else _Card(path).configs(configs)


def _metadata(text: str) -> str | None:
    """The YAML between two lines of three hyphens at the beginning of a README."""
    first, _, rest = text.partition("\n")
    end = f"\n{rest}".find("\n---")
    return None if first.rstrip() != "---" or end < 0 else rest[: max(end - 1, 0)]


class _Card:
    """Reads the nodes of one README."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def configs(self, node: yaml.Node) -> Patterns:
        configs: Patterns = {}
        for item in self._items(node, "a list of configs"):
            values = self.values(item)
            name = self._text(values["config_name"]) if "config_name" in values else "default"
            configs[name] = self._splits(values["data_files"]) if "data_files" in values else {"train": []}
        return configs

    def values(self, node: yaml.Node) -> dict[str, yaml.Node]:
        """Key -> node of a mapping."""
        if not isinstance(node, yaml.MappingNode):
            self._refuse(node, "no mapping", "a mapping")
        return {str(key.value): value for key, value in node.value if isinstance(key, yaml.ScalarNode)}

    def _splits(self, node: yaml.Node) -> dict[str, list[str]]:
        """`data_files`: patterns of one split, train; or a split and its patterns, several times."""
        if isinstance(node, yaml.ScalarNode):
            return {"train": [self._text(node)]}
        if isinstance(node, yaml.MappingNode):
            return {split: self._patterns(patterns) for split, patterns in self.values(node).items()}
        items = self._items(node, "patterns of files")
        if not items or any(isinstance(item, yaml.ScalarNode) for item in items):
            return {"train": [self._text(item) for item in items]}
        splits: dict[str, list[str]] = {}
        for item in items:
            values = self.values(item)
            if not {"split", "path"} <= set(values):
                self._refuse(item, "no split and path", "both")
            splits[self._text(values["split"])] = self._patterns(values["path"])
        return splits

    def _patterns(self, node: yaml.Node) -> list[str]:
        if isinstance(node, yaml.ScalarNode):
            return [self._text(node)]
        return [self._text(item) for item in self._items(node, "patterns of files")]

    def _items(self, node: yaml.Node, accepted: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self._refuse(node, "no list", accepted)
        return node.value

    def _text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._refuse(node, "no text", "a name or a pattern of files")
        return str(node.value)

    def _refuse(self, node: yaml.Node, problem: str, accepted: str) -> NoReturn:
        line = node.start_mark.line + 2
        raise DataError(f"{self.path}:{line}: found broken metadata ({problem}), accepted {accepted}")
