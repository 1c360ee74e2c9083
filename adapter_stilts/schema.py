"""Strict models of task YAML: tasks, their data and their recipes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from adapter_stilts.errors import Complaint, ConfigError
from adapter_stilts.paths import user_path
from adapter_stilts.strict_yaml import is_text, parse_value
from adapter_stilts.tasks.kinds import KINDS
from adapter_stilts.tasks.kinds.contract import Options
from adapter_stilts.yaml_complaints import complaints_of, dotted, unknown_key

# More layers, counted from 0, than any encoder has.
MOST_LAYERS = 1000


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _listed(value: object) -> object:
    """A list as YAML has it, or as it is typed after --set: `query,value`, `0.7,0.3`."""
    if isinstance(value, str):
        return tuple(parse_value(part) for part in value.split(","))
    return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else _as_tuple(value)


def _layers_text(value: object) -> object:
    """`6-11`, `0,2` or the bare number 6, as YAML has it, as text that `layer_numbers` reads."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str):
        try:
            layer_numbers(text)
        except ValueError:
            raise PydanticCustomError("layers", "layers counted from 0, such as 6-11 or 0,2,9-11", {}) from None
    return text


def layer_numbers(text: str) -> tuple[int, ...]:
    """The layers that such a text as `0,2,9-11` names, sorted. Raises ValueError for another text, and for layers that
    no encoder has."""
    numbers: set[int] = set()
    if len(text) > 10 * MOST_LAYERS:
        raise ValueError(text[:80])
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            raise ValueError(part)
        if int(last or first) >= MOST_LAYERS:
            raise ValueError(part)
        numbers.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
Values = Annotated[tuple[str | int | float | bool, ...], BeforeValidator(_as_tuple)]
Weight = Annotated[float, Field(ge=-1e6, le=1e6)]
SplitName = Literal["train", "validation", "test"]
Format = Literal["conllu", "conll", "tsv", "jsonl", "parquet"]
MethodName = Literal["bottleneck", "lora", "dora", "ia3", "full", "head"]
AdapterName = Literal["pfeiffer", "houlsby", "parallel", "compacter"]
FusionName = Literal["full", "light"]
MergeName = Literal["linear", "svd", "cat", "ties", "dare"]
MixingName = Literal["proportional", "uniform", "temperature"]
EMBEDDED_DATA = Path(__file__).resolve().parent / "embedded_data"
EMBEDDED_PREFIX = "embedded:"


# A column of a file by name or number; for a list of texts, columns that make one.
ColumnName = str | int | Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class LanguageSource(Strict):
    """Where one language's rows are; whatever is absent comes from the task's `data`."""

    dataset: str | None = None
    revision: str | None = None
    config: str | None = None
    format: Format | None = None
    columns: dict[str, ColumnName] | None = None
    splits: dict[SplitName, str] | None = None
    filter: dict[str, Values] | None = None
    exclude: dict[str, Values] | None = None
    train: str | None = None
    validation: str | None = None
    test: str | None = None


def _config_name(value: object) -> object:
    return {"config": value} if isinstance(value, str) else value


class Data(Strict):
    dataset: str | None = None
    revision: str | None = None
    format: Format | None = None
    splits: dict[SplitName, str] = {"train": "train", "validation": "validation", "test": "test"}
    columns: dict[str, ColumnName]
    filter: dict[str, Values] = {}
    exclude: dict[str, Values] = {}
    languages: dict[str, Annotated[LanguageSource, BeforeValidator(_config_name)]] = Field(min_length=1)


class Recipe(Strict):
    """How one method trains on one backbone. Fields that a method or composition does not use decide nothing there.

    Optimisation: `warmup` is a share of the steps; `development_examples` English development examples are scored after
    each epoch (None: all); `tuning` says how the numbers were chosen.
    `bottleneck`: `adapter` is the architecture, `reduction` hidden size over bottleneck size.
    `lora`, `dora`, `ia3`: `rank`, `alpha` (scaling is alpha / rank; None: twice the rank), `targets` (names of linear
    modules; None: what `peft` takes for XLM-R). `layers`: where adapters sit, such as `6-11` or `0,2,9-11`, counted
    from 0 (None: all).
    `fuse`: `fusion` full (query, key and value matrices) or light (query and key of rank `fusion_rank`, no value);
    `fusion_learning_rate` (None: a tenth of `learning_rate`); `fusion_null` puts an adapter that does nothing beside
    the others, on which fusion begins, so that it can ignore them.
    `merge`: how parameters are merged (None: linear for bottleneck and ia3, svd for lora), with `merge_weights` in the
    order of the intermediates (None: equal; their sum is made 1), and what the target does with the result.
    Several tasks at once: `mixing` draws batches in proportion to a task's examples (at most `mixing_cap` of them),
    uniformly, or in proportion to examples ** (1 / mixing_temperature). `mlm_share` of the steps train masked language
    modelling on the text of `mlm_task` (a task's name or YAML) in all its languages.
    """

    learning_rate: float = Field(default=1e-4, gt=0)
    epochs: int = Field(default=5, ge=1, le=100_000)
    batch_examples: int | None = Field(default=32, ge=1)
    batch_tokens: int | None = Field(default=None, ge=1)
    accumulate: int = Field(default=1, ge=1)
    warmup: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    selection: Literal["last", "best"] = "last"
    development_examples: int | None = Field(default=None, ge=1)
    adapter: AdapterName = "pfeiffer"
    reduction: float = Field(default=8, ge=0.01)
    layers: Annotated[str, BeforeValidator(_layers_text)] | None = None
    rank: int = Field(default=16, ge=1, le=8192)
    alpha: float | None = Field(default=None, gt=0)
    targets: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)] | None = None
    fusion: FusionName = "light"
    fusion_rank: int = Field(default=16, ge=1, le=8192)
    fusion_null: bool = True
    fusion_learning_rate: float | None = Field(default=None, gt=0)
    merge: MergeName | None = None
    merge_weights: Annotated[tuple[Weight, ...], BeforeValidator(_listed), Field(min_length=1)] | None = None
    merge_then: Literal["stack", "continue"] = "stack"
    mixing: MixingName = "proportional"
    mixing_cap: int | None = Field(default=None, ge=1)
    mixing_temperature: float = Field(default=2.0, ge=1)
    mlm_share: float = Field(default=0.0, ge=0, lt=1)
    mlm_task: str = "mlm_text"
    tuning: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_batch_size(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        tokens = values.get("batch_tokens")
        examples = values.get("batch_examples", None if tokens is not None else 32)
        if (tokens is None) == (examples is None):
            given = "neither" if tokens is None else "both"
            raise PydanticCustomError("batch_size", "exactly one of batch_examples, batch_tokens", {"found": given})
        return {**values, "batch_examples": examples}


# What no key of YAML is called: there the options stand among the other keys.
_OPTIONS = "options of the kind"


def _known_kind(name: object) -> object:
    if isinstance(name, str) and name not in KINDS:
        expected = " or ".join(repr(kind) for kind in KINDS)
        raise PydanticCustomError("literal_error", "{expected}", {"expected": expected})
    return name


class Task(Strict):
    """A task as its YAML says. `path` is the file it was read from; `options` are the keys of its kind."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    version: int = Field(ge=1)
    kind: Annotated[str, BeforeValidator(_known_kind)]
    role: Literal["intermediate", "target", "both"]
    knowledge: Literal["syntactic", "semantic", "none"]
    granularity: Literal["token", "sentence"]
    description: str
    licence: str
    citation: str
    metrics: Names
    selection_metric: str
    train_language: str = "en"
    labels: Names | Literal["open"] | None = None
    label_until: str | None = Field(default=None, min_length=1)
    options: SerializeAsAny[Options] = Field(default_factory=Options, validation_alias=_OPTIONS)
    development_share: float | None = Field(default=None, gt=0, lt=1)
    data: Data
    recipes: dict[MethodName, dict[str, Recipe]] = {}
    _path: Path = PrivateAttr(default=Path())

    @model_validator(mode="before")
    @classmethod
    def _options_of_kind(cls, values: Any) -> Any:
        """Collect the keys that the kind adds; of an unknown kind, those of any."""
        if not isinstance(values, dict):
            return values
        kind = KINDS.get(values["kind"]) if isinstance(values.get("kind"), str) else None
        keys = {key for entry in ([kind] if kind else KINDS.values()) for key in entry.options.model_fields}
        rest = {key: value for key, value in values.items() if key not in keys}
        return {**rest, _OPTIONS: {key: value for key, value in values.items() if key in keys}}

    @field_validator("options", mode="wrap")
    @classmethod
    def _typed_options(cls, value: Any, handler: Any, info: ValidationInfo) -> Options:
        kind = KINDS.get(info.data.get("kind", ""))
        if isinstance(value, Options) or kind is None:
            return value if isinstance(value, Options) else Options()
        return kind.options.model_validate(value)

    @classmethod
    def accepted_keys(cls, content: object = None) -> list[str]:
        """Keys of a task's YAML: those of all tasks, and those of its kind (of every kind, where it says none)."""
        name = content.get("kind") if isinstance(content, dict) else None
        kinds = [KINDS[name]] if isinstance(name, str) and name in KINDS else list(KINDS.values())
        options = dict.fromkeys(key for kind in kinds for key in kind.options.model_fields)
        return [*(key for key in cls.model_fields if key != "options"), *options]

    @property
    def path(self) -> Path:
        return self._path

    def file(self, name: str) -> Path:
        """Where a data file is: relative to the task's YAML; after `embedded:`, among the data that come with the
        package, wherever that is installed."""
        if name.startswith(EMBEDDED_PREFIX):
            return EMBEDDED_DATA / name.removeprefix(EMBEDDED_PREFIX)
        return self._path.parent / user_path(name)


def setting_text(value: object) -> str:
    """A value of a recipe field, from YAML or from Python, as it would be typed after --set."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(setting_text, value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def override(recipe: Recipe, assignments: Mapping[str, str]) -> Recipe:
    """`recipe` with the fields in `assignments` (texts as typed after `--set`) replaced.

    Setting one of batch_examples and batch_tokens clears the other. Raises `ConfigError`, a line for each key.
    """
    known = {key: text for key, text in assignments.items() if key in Recipe.model_fields}
    unknown = [(key, unknown_key(key, Recipe)) for key in assignments if key not in known]
    unknown += [(key, f"found {text!a}, accepted Unicode") for key, text in known.items() if not is_text(text)]
    values = {key: text if key == "tuning" else parse_value(text) for key, text in known.items()}
    fields = {key: value for key, value in recipe.model_dump().items() if key not in values}
    for key, other in (("batch_examples", "batch_tokens"), ("batch_tokens", "batch_examples")):
        if values.get(key) is not None:
            fields.pop(other, None)
    wrong: list[tuple[str, str]] = []
    try:
        changed = Recipe.model_validate({**fields, **values})
    except ValidationError as error:
        complaints = complaints_of(error, Recipe, values, typed=True)
        wrong = [(dotted(location) or " ".join(assignments), what) for location, what in complaints]
    if unknown or wrong:
        raise ConfigError(Complaint("", 0, f"--set {key}: {what}") for key, what in [*unknown, *wrong])
    return changed
