"""What is active and what trains, for each method, composition and phase: decided here, before there is a model.

`parts` does it on a built one, and checks it there.

| phase, method and composition | active, in the order in which the states pass | trains |
|---|---|---|
| train: bottleneck, lora, dora, ia3 by none, continue | target adapter | target adapter, heads |
| ... by stack | intermediates, then target adapter (peft: side by side) | target adapter, heads |
| ... by merge | merged adapter, then target adapter (then=continue: target adapter) | target adapter, heads |
| ... by bake | target adapter on a backbone that took the intermediates up | target adapter, heads |
| ... by fuse (bottleneck) | fusion of the intermediates, then target adapter | fusion, target adapter, heads |
| train: full by none, continue | backbone | backbone, heads |
| train: head | backbone | heads |
| use: any | the same | nothing |

A pretrained head of masked language modelling stays as it is when it is mixed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapter_stilts.model.composition import Composition, Method

BACKBONE = "backbone"


@dataclass(frozen=True)
class Arrangement:
    """What is active and what trains.

    `adapters`: names of the active adapters in the order in which the states pass them, the target's last; the first
    `fused` of them are fused. `baked`: adapters that the backbone took up. `heads`: heads on the model, the first one
    active; `frozen_heads`: heads that do not train. `trained`: the parts that train.
    """

    method: Method
    composition: Composition
    adapters: tuple[str, ...]
    fused: int
    baked: tuple[str, ...]
    heads: tuple[str, ...]
    frozen_heads: tuple[str, ...]
    trained: frozenset[str]

    @property
    def head(self) -> str:
        return self.heads[0]

    @property
    def fusion(self) -> str | None:
        """Name of the fusion, as `adapters` calls it."""
        return ",".join(self.adapters[: self.fused]) if self.fused else None

    @property
    def parts(self) -> frozenset[str]:
        """Every part that the model must have, and may have."""
        fusion = {f"fusion {self.fusion}"} if self.fusion else set()
        heads = {f"head {name}" for name in (*self.heads, *self.frozen_heads)}
        return frozenset({BACKBONE, *(f"adapter {name}" for name in self.adapters), *fusion, *heads})


def arrange(
    method: Method,
    composition: Composition,
    target: str,
    underneath: Sequence[str] = (),
    heads: Sequence[str] = (),
    frozen_heads: Sequence[str] = (),
    phase: str = "train",
) -> Arrangement:
    """The arrangement of a target adapter over the adapters `underneath` (names as they are called in the model).

    `heads` defaults to the target's own. In the phase "train" the target trains; in "use" nothing does. Of the order:
    Stack(intermediate, target) trains the target on the intermediate's output, as MAD-X stacks a task adapter on a
    language adapter (Pfeiffer et al., 2020); Stack(Fuse(intermediates), target) puts AdapterFusion (Pfeiffer et al.,
    2021) there.
    """
    heads = tuple(heads) or (target,)
    adapters = () if method in ("full", "head") else (*underneath, target)
    baked: tuple[str, ...] = ()
    if composition == "bake":
        adapters, baked = (target,), tuple(underneath)
    fused = len(underneath) if composition == "fuse" else 0
    trained: set[str] = set()
    if phase == "train":
        trained = {f"head {name}" for name in heads}
        trained |= {BACKBONE} if method == "full" else set()
        trained |= {f"adapter {target}"} if adapters else set()
        trained |= {f"fusion {','.join(underneath)}"} if fused else set()
    return Arrangement(method, composition, adapters, fused, baked, heads, tuple(frozen_heads), frozenset(trained))
