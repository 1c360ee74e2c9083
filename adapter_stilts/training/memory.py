"""Peak memory of one run: the device's on CUDA, the process's resident set on a CPU."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import torch


def reset_peak_memory(device: str) -> None:
    """Start counting anew, so that a run in a long process reports its own peak.

    On Linux the kernel resets a process's high-water mark on request (proc(5), clear_refs); where it does not, the peak
    is the process's since its start.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_bytes(device: str) -> int:
    """Highest memory use since `reset_peak_memory`, in bytes."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
