"""Which methods and compositions go together, and the one line that refuses the others."""

from contextlib import suppress

import pytest

from adapter_stilts.errors import UsageError
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.composition import COMPOSITIONS, METHODS, check_recipe, choose_composition, unused_fields
from adapter_stilts.schema import Recipe, override

# What there is by the number of intermediates: none, one, two, three; the default comes first.
POSSIBLE = {
    "bottleneck": ("none", "stack continue", "stack fuse merge", "stack fuse merge"),
    "lora": ("none", "stack continue bake", "stack merge bake", "stack merge bake"),
    "dora": ("none", "stack continue bake", "stack bake", "stack bake"),
    "ia3": ("none", "stack continue bake", "stack merge bake", "stack merge bake"),
    "full": ("none", "continue", "", ""),
    "head": ("none", "", "", ""),
}
NAMES = ("none", "stack", "fuse", "continue", "merge", "bake")


def accepted(method: str, intermediates: int) -> list[str]:
    """Every composition that is not refused, the default first."""
    names: list[str] = []
    for name in (None, *NAMES):
        with suppress(UsageError):
            names.append(choose_composition(method, name, intermediates))
    return list(dict.fromkeys(names))


def test_what_there_is() -> None:
    assert tuple(POSSIBLE) == METHODS == tuple(COMPOSITIONS)
    compositions = {method: tuple(" ".join(accepted(method, count)) for count in range(4)) for method in METHODS}
    assert compositions == POSSIBLE


@pytest.mark.parametrize(
    ("method", "compose", "over", "complaint"),
    [
        (
            "bottleneck",
            "fuse",
            1,
            "--compose fuse: found 1 with --over, accepted 2 intermediates or more; accepted over 1: stack, continue",
        ),
        (
            "bottleneck",
            "stack",
            0,
            "--compose stack: found 0 with --over, accepted one intermediate or more; accepted ",
        ),
        ("bottleneck", "none", 1, "--compose none: found 1 with --over, accepted no intermediate; accepted over 1: "),
        ("bottleneck", "continue", 2, "--compose continue: found 2 with --over, accepted one intermediate; accepted "),
        ("bottleneck", "merge", 1, "--compose merge: found 1 with --over, accepted 2 intermediates or more; "),
        (
            "bottleneck",
            "bake",
            1,
            "--compose bake with --method bottleneck: a bottleneck adapter is not linear, so no weight of the backbone "
            "can take it up; accepted over 1: stack, continue",
        ),
        *(
            (
                method,
                "fuse",
                2,
                f"--compose fuse with --method {method}: AdapterFusion attends over the outputs of bottleneck "
                f"adapters; {method} changes the weights inside a layer; accepted over 2: stack, ",
            )
            for method in ("lora", "dora", "ia3")
        ),
        (
            "dora",
            "merge",
            2,
            "--compose merge with --method dora: peft merges low-rank updates, and a DoRA adapter has magnitudes "
            "besides; accepted over 2: stack, bake",
        ),
        (
            "full",
            "stack",
            1,
            "--compose stack with --method full: full fine-tuning has no adapters to stack: it continues from the "
            "intermediate's weights; accepted over 1: continue",
        ),
        (
            "full",
            None,
            2,
            "--over: found 2 with --method full, accepted: none over no intermediate; continue over one ",
        ),
        ("head", None, 1, "--over: found 1 with --method head, accepted: none over no intermediate"),
        ("head", "stack", 1, "--compose: found 'stack' with --method head, accepted over 1: nothing"),
        ("lora", "mix", 1, "--compose: found 'mix' with --method lora, accepted over 1: stack, continue, bake"),
        (
            "houlsbie",
            None,
            0,
            "--method: found 'houlsbie', accepted: bottleneck, lora, dora, ia3, full, head, houlsby, parallel, ",
        ),
    ],
)
def test_refused(method: str, compose: str | None, over: int, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_composition(method, compose, over)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "composition", "settings", "complaint"),
    [
        ("bottleneck", "none", {"layers": "1-2"}, r"^--set layers: found 1-2, accepted layers 0 to 1 of .*tiny"),
        ("lora", "none", {"layers": "2"}, r"^--set layers: found 2, accepted layers 0 to 1 of"),
        (
            "bottleneck",
            "merge",
            {"merge": "svd"},
            r"^--set merge: found svd, accepted with --method bottleneck: linear$",
        ),
        ("lora", "merge", {"merge": "linear"}, r"^--set merge: found linear, .* --method lora: svd, cat, ties, dare$"),
        ("ia3", "merge", {"merge": "ties"}, r"^--set merge: found ties, accepted with --method ia3: linear$"),
        ("lora", "merge", {"merge_weights": "1,2,3"}, r"^--set merge_weights: found 3, accepted one for each of 2$"),
        (
            "bottleneck",
            "fuse",
            {"adapter": "parallel"},
            r"^--compose fuse: found adapter=parallel, accepted pfeiffer, ",
        ),
    ],
)
def test_recipe_that_does_not_fit(
    backbone: Backbone, method: str, composition: str, settings: dict[str, str], complaint: str
) -> None:
    check_recipe(Recipe(), method, composition, 2, backbone)
    with pytest.raises(UsageError, match=complaint):
        check_recipe(override(Recipe(), settings), method, composition, 2, backbone)


def test_layers_of_a_method_without_them(backbone: Backbone) -> None:
    check_recipe(override(Recipe(), {"layers": "5"}), "full", "none", 0, backbone)
    check_recipe(override(Recipe(), {"layers": "0-1"}), "bottleneck", "none", 0, backbone)


def test_unused_fields_by_hand() -> None:
    fusion = {"fusion", "fusion_rank", "fusion_null", "fusion_learning_rate"}
    merge = {"merge", "merge_weights", "merge_then"}
    low_rank = {"rank", "alpha"}
    assert unused_fields("bottleneck", "none") == {*low_rank, "targets", *fusion, *merge}
    assert unused_fields("bottleneck", "fuse") == {*low_rank, "targets", *merge}
    assert unused_fields("lora", "merge") == {"adapter", "reduction", *fusion}
    assert unused_fields("dora", "bake") == {"adapter", "reduction", *fusion, *merge}
    assert unused_fields("ia3", "stack") == {"adapter", "reduction", *low_rank, *fusion, *merge}
    all_fields = {"adapter", "reduction", "layers", *low_rank, "targets", *fusion, *merge}
    assert unused_fields("full", "continue") == unused_fields("head", "none") == all_fields
