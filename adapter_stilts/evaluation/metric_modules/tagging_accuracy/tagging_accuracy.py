"""What `evaluate.load` makes of this folder: see `adapter_stilts.evaluation.metric_modules`."""

from adapter_stilts.evaluation.metric_modules import TaggingAccuracy

__all__ = ["TaggingAccuracy"]
