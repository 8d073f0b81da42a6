"""What a process has used, read from /proc by another; where there is none, nothing is told."""

from pathlib import Path
from typing import Any


class Gauge:
    """The CPU time and the peak memory of a process since the gauge was made."""

    def __init__(self, pid: int) -> None:
        self._proc = Path("/proc") / str(pid)
        self._begin: tuple[float, int] | None = None
        try:
            # The peak starts from what is held now.
            (self._proc / "clear_refs").write_text("5")
            self._begin = self._cpu(), self._status("VmRSS")
        except (OSError, ValueError):
            pass

    def read(self) -> dict[str, Any]:
        """Seconds of CPU time, and bytes: the peak, and by how much it is above the beginning."""
        if self._begin is None:
            return {}
        seconds, held = self._begin
        peak = self._status("VmHWM")
        return {"cpu": self._cpu() - seconds, "peak": peak, "growth": max(peak - held, 0)}

    def _cpu(self) -> float:
        # In nanoseconds, where the ticks of `stat` are as long as a burst.
        tasks = (self._proc / "task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def _status(self, name: str) -> int:
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise ValueError(f"{name} is not in {self._proc}/status")
