"""What `evaluate.load` makes of this folder: see `adapter_stilts.evaluation.metric_modules`."""

from adapter_stilts.evaluation.metric_modules import SpanF1

__all__ = ["SpanF1"]
