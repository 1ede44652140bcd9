"""What a server's processes use: CPU and memory of a process and all its children, from /proc (proc(5))."""

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
FORGET_PEAK = "5"  # what clear_refs takes to begin the peak of resident memory anew


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory, in octets, summed over processes: now, and at its peak since `forget_peak`.

    Pages that processes share count once for each.
    """

    resident: int
    peak: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of one process, in octets (smaps_rollup): all that it sees, its share of that, its alone."""

    resident: int
    proportional: int
    private: int


def family(pid: int) -> list[int]:
    """A process and all that descend from it and live; empty if it does not."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            tasks = list(Path(f"/proc/{one}/task").iterdir())
            found.append(one)
            for task in tasks:
                waiting += _children(task)
    return found


def _children(task: Path) -> list[int]:
    with contextlib.suppress(OSError):  # a thread may end at any time; its process goes on
        return list(map(int, (task / "children").read_text().split()))
    return []


def cpu_seconds(pid: int) -> float:
    """User and system time of a family, of children that ended and were waited for, too."""
    return sum(_own_seconds(one) + _ended_children_seconds(one) for one in family(pid))


def memory(pid: int) -> Memory:
    """The memory of a family."""
    texts = [_read(one, "status") for one in family(pid)]
    return Memory(*(sum(_kilobytes(text, name) for text in texts) * 1024 for name in ("VmRSS", "VmHWM")))


def footprint(pid: int) -> Footprint:
    """The memory of one process, without its children."""
    text = _read(pid, "smaps_rollup")
    resident, share, clean, dirty = (
        _kilobytes(text, name) * 1024 for name in ("Rss", "Pss", "Private_Clean", "Private_Dirty")
    )
    return Footprint(resident, share, clean + dirty)


def forget_peak(pid: int) -> None:
    """Let the peak of a family's memory begin anew."""
    for one in family(pid):
        with contextlib.suppress(OSError):
            Path(f"/proc/{one}/clear_refs").write_text(FORGET_PEAK)


def _own_seconds(pid: int) -> float:
    """By the process's own clock, far finer than /proc (clock_getcpuclockid(3))."""
    with contextlib.suppress(OSError):
        return time.clock_gettime(~pid << 3 | 2)
    return 0.0


def _ended_children_seconds(pid: int) -> float:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return sum(map(int, fields[13:15])) / TICKS


def _kilobytes(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB", status, re.MULTILINE)
    return int(found[1]) if found else 0


def _read(pid: int, name: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_text()
    return ""
