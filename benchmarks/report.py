"""From what was measured to what is stored and shown: speeds, shares of the machine, ratios, a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measuring import Measured, Result


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median and range of all rounds, and each of them."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "all": list(values)}


def speeds(measured: Sequence[Measured]) -> list[float]:
    """Real tokens a second of each round."""
    return [timing.tokens / timing.seconds for timing in measured]


def summary(result: Result, operations: int, matrix_rate: float) -> dict[str, Any]:
    """What the file holds of one contender; `operations` a token, and the machine's `matrix_rate` a second in the
    contender's precision, make its share of the machine. One that was left out has its `failure` alone."""
    contender = {
        "group": result.contender.group,
        "ours": result.contender.ours,
        "precision": result.contender.precision,
        **({} if result.compiled is None else {"compiled": result.compiled}),
    }
    if result.failure is not None:
        return {**contender, "failure": result.failure}
    measured = result.measured
    positions = sum(timing.positions for timing in measured)
    waits = [timing.waiting / timing.seconds for timing in measured if timing.waiting is not None]
    tokens_a_second = spread(speeds(measured))
    return {
        **contender,
        "tokens_per_second": {**tokens_a_second, "best": tokens_a_second["high"]},
        "seconds": [timing.seconds for timing in measured],
        "tokens": [timing.tokens for timing in measured],
        **({"padding_share": 1 - sum(timing.tokens for timing in measured) / positions} if result.pads else {}),
        **({"waiting_share": spread(waits)} if waits else {}),
        "matrix_share": tokens_a_second["median"] * operations / matrix_rate,
        "peak_memory_bytes": result.peak_memory,
        "trainable_parameters": result.trainable_parameters,
    }


def ratios(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Our tokens a second by a peer's in the same round: for each pair of one group in one precision `OURS / PEER`, and
    for each group `best GROUP`, our fastest by their fastest whatever the precision."""
    fit = {name: variant for name, variant in variants.items() if "failure" not in variant}
    ratio_of: dict[str, dict[str, Any]] = {}
    for group in dict.fromkeys(variant["group"] for variant in fit.values()):
        ours, peers = (
            [name for name, variant in fit.items() if variant["group"] == group and variant["ours"] is side]
            for side in (True, False)
        )
        for one in ours:
            for other in peers:
                if fit[one]["precision"] == fit[other]["precision"]:
                    ratio_of[f"{one} / {other}"] = _ratio(fit[one], fit[other])
        if ours and peers:
            one, other = (
                max(side, key=lambda name: fit[name]["tokens_per_second"]["median"]) for side in (ours, peers)
            )
            ratio_of[f"best {group}"] = {"ours": one, "peer": other, **_ratio(fit[one], fit[other])}
    return ratio_of


def _ratio(ours: Mapping[str, Any], peer: Mapping[str, Any]) -> dict[str, Any]:
    pairs = zip(ours["tokens_per_second"]["all"], peer["tokens_per_second"]["all"], strict=True)
    return spread([one / other for one, other in pairs])


def table(result: Mapping[str, Any]) -> str:
    """The result as lines of text: of each size the contenders, then the ratios."""
    lines: list[str] = []
    for size, comparison in result["results"].items():
        width = max(map(len, [*comparison["variants"], *comparison["ratios"]]))
        heads = ("median", "low", "high", "padding", "waiting", "matrix", "memory")
        lines += ["", size, f"{'tokens/s':{width}}" + "".join(f" {head:>10}" for head in heads)]
        for name, variant in comparison["variants"].items():
            lines.append(f"{name:{width}}" + "".join(f" {cell:>10}" for cell in _cells(variant)))
        lines += ["", f"{'ratios in the same round':{width}}" + "".join(f" {head:>10}" for head in heads[:3])]
        for name, ratio in comparison["ratios"].items():
            lines.append(f"{name:{width}}" + "".join(f" {ratio[key]:10.2f}" for key in ("median", "low", "high")))
    return "\n".join(line.rstrip() for line in lines[1:])


def _cells(variant: Mapping[str, Any]) -> list[str]:
    if "failure" in variant:
        return [variant["failure"]]
    speed, memory = variant["tokens_per_second"], variant["peak_memory_bytes"]
    padding, waiting = variant.get("padding_share"), variant.get("waiting_share")
    return [
        *(f"{speed[key]:,.0f}" for key in ("median", "low", "high")),
        "" if padding is None else f"{padding:.1%}",
        "" if waiting is None else f"{waiting['median']:.2%}",
        f"{variant['matrix_share']:.1%}",
        "" if memory is None else f"{memory / 2**30:.2f} GiB",
    ]
