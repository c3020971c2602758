"""Time and memory of calls, as comparable as one run can make them."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch


def best_times(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Shortest time of each candidate in seconds; every round runs each of them once.

    Args:
        candidates: calls to measure, by name.
        rounds: number of rounds.
    """
    times = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


def peak_extra_memory(run: Callable[[], object], device: str = 'cpu') -> int | None:
    """Peak memory of a call above the memory before it, in bytes; None where it is not measured.

    The CPU's is measured on Linux only.

    Args:
        run: call to measure.
        device: device whose memory counts.
    """
    gc.collect()
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    clear = Path('/proc/self/clear_refs')
    if not clear.exists():
        return None
    # Memory that the allocator keeps from earlier calls would hide what this one needs.
    ctypes.CDLL(None).malloc_trim(0)
    clear.write_text('5')
    before = resident('VmRSS')
    run()
    return resident('VmHWM') - before


def resident(field: str) -> int:
    """Read a field of the memory of this process, in bytes, on Linux.

    Args:
        field: name of the field, VmRSS for what is resident now, VmHWM for the most that ever was.
    """
    lines = Path('/proc/self/status').read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])
