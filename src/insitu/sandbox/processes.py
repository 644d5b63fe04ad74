"""Telling a process from a later one that has its number."""

from __future__ import annotations

from pathlib import Path


def start_ticks(pid: int) -> int | None:
    """When that process started, in ticks since boot (proc(5), field 22); None: there is none, or it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
