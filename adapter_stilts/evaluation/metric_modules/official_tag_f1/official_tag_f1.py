"""What `evaluate.load` makes of this folder: see `adapter_stilts.evaluation.metric_modules`."""

from adapter_stilts.evaluation.metric_modules import OfficialTagF1

__all__ = ["OfficialTagF1"]
