"""The device that a run uses: which, in what precision, and how much of its memory."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from pathlib import Path

# What trains: bf16 under autocast, or throughout where steps are captured.
TRAINING_PRECISIONS = ("float32", "bf16")


def default_device() -> str:
    """CUDA where PyTorch can use it. PyTorch is not asked (and loaded) on Linux without any driver of GPUs."""
    if sys.platform == "linux" and not _has_driver():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _has_driver() -> bool:
    """Whether NVIDIA's or AMD's driver is there; PyTorch's libraries look for it by the same name."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True


def default_precision(device: str) -> str:
    """That of training: bf16 on CUDA, float32 on a CPU."""
    return "bf16" if is_cuda(device) else "float32"


def is_cuda(device: str) -> bool:
    """Whether the device is a GPU, by its name (`cuda`, `cuda:1`)."""
    return device.partition(":")[0] == "cuda"


def device_name(device: str) -> str:
    """The device as a reader of a table wants it named."""
    import torch

    if is_cuda(device):
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def reset_peak_memory(device: str) -> None:
    """Start counting anew, so that a run in a long process reports its own peak.

    On Linux the kernel resets a process's high-water mark on request (proc(5), clear_refs); where it does not, the peak
    is the process's since its start.
    """
    if is_cuda(device):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_bytes(device: str) -> int:
    """Highest memory use since `reset_peak_memory`, in bytes: the device's on CUDA, the process's on a CPU."""
    if is_cuda(device):
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        peak = None
    return int(peak[1]) * 1024 if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
