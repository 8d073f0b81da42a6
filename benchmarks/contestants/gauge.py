"""The CPU time and the memory of another process, read from /proc; without /proc there are no values."""

from pathlib import Path
from typing import Any


class Gauge:
    """The CPU time and the peak memory of a process, counted from when the gauge is made."""

    def __init__(self, pid: int) -> None:
        self._proc = Path("/proc") / str(pid)
        self._begin: tuple[float, int] | None = None
        try:
            # This resets the peak to the current size.
            (self._proc / "clear_refs").write_text("5")
            self._begin = self._cpu(), self._status("VmRSS")
        except (OSError, ValueError):
            pass

    def read(self) -> dict[str, Any]:
        """The CPU time in seconds; in bytes the peak, and how far it is above the size at the beginning."""
        if self._begin is None:
            return {}
        seconds, held = self._begin
        peak = self._status("VmHWM")
        return {"cpu": self._cpu() - seconds, "peak": peak, "growth": max(peak - held, 0)}

    def _cpu(self) -> float:
        # schedstat counts nanoseconds; a tick of `stat` is as long as a burst.
        tasks = (self._proc / "task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def _status(self, name: str) -> int:
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise ValueError(f"{name} is not in {self._proc}/status")
