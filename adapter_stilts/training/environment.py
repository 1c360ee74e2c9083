"""Where runs lie and how they are computed, as opposed to what they are: decides nothing of a result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from adapter_stilts.runs.store import Keep, RunStore
from adapter_stilts.training.execution import Execution


@dataclass(frozen=True)
class Environment:
    """`store` has the runs, and gets them. Data come from the Hub, or from the folder `mirror`. `threads` compute on a
    CPU (None: as many as PyTorch has been given). `keep` is what a run that trains keeps of its weights (`scores`:
    none); a run that exists without weights is trained again where `weights` are wanted. `out` gets a copy of the run's
    folder."""

    store: RunStore
    mirror: Path | None
    device: str
    execution: Execution = field(default_factory=Execution)
    threads: int | None = None
    keep: Keep = "all"
    weights: bool = True
    out: Path | None = None

    @property
    def needs_weights(self) -> bool:
        """Whether a run without its weights will not do."""
        return self.weights and self.keep != "scores"

    def for_intermediate(self, weights: bool) -> Environment:
        """That of what lies underneath a run: it keeps its weights, and is copied nowhere."""
        return replace(self, keep="all", weights=weights, out=None)
