"""What a benchmark ran on, so that its numbers can be read beside another machine's."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import psutil
import torch

from adapter_stilts.threads import usable_cores


def describe_machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in bytes, system, PyTorch's threads, GPU name or None."""
    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def processor_name(information: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model by Linux's /proc/cpuinfo; elsewhere, and where that names none, what Python knows of it."""
    try:
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def portable(path: str | Path) -> str:
    """A name or relative path as it is; of an absolute path its last part, for results that others read."""
    return Path(path).name if Path(path).is_absolute() else str(path)
