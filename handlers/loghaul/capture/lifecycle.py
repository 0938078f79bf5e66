"""The launcher's own files of a run: execution log, process_info.json, process_status.json.

The execution log is text, one line per fact, `<RFC 3339 time> <LEVEL> <text>`. The two others are
newline-delimited JSON as users of Azure ML know them: a line per process with its node, pid and
log; a line per change of its status (Started, Completed, Failed, Terminated), and one for process
`*` when the run's part on this node is over.
"""

from __future__ import annotations

import json
import socket
import time
from datetime import UTC, datetime
from typing import Any, Callable

#: What a status of a run is called in process_status.json.
STATUS_WORDS = {
    "completed": "Completed",
    "failed": "Failed",
    "canceled": "Terminated",
    "lost": "Terminated",
}
Append = Callable[[int, bytes, int], None]


class Lifecycle:
    """Writes the three files. `append(row, bytes, time_us)` takes what they are made of."""

    def __init__(self, node: str, rows: tuple[int, int, int], append: Append) -> None:
        self._node = node
        self._log, self._info, self._status = rows
        self._append = append

    def say(self, level: str, text: str, time_us: int = 0) -> None:
        """Write a line of the execution log."""
        at = time_us or time.time_ns() // 1000
        one_line = text.replace("\n", "\\n").replace("\r", "\\r")
        line = f"{timestamp(at)} {level.upper()} {one_line}\n"
        self._append(self._log, line.encode("utf-8", "backslashreplace"), at)

    def process(self, name: str, pid: int, log: str, time_us: int) -> None:
        """Tell of a process: where it runs, where its output is; and that it has started."""
        record = {
            "process_name": name,
            "node_id": self._node,
            "pid_in_container": pid,
            "private_ip": private_ip(),
            "log": log,
        }
        self._append(self._info, _line(record), time_us)
        self.status(name, "Started", time_us)

    def status(self, name: str, status: str, time_us: int) -> None:
        """Tell that the status of a process has changed."""
        record = {"process_name": name, "timestamp": timestamp(time_us), "status": status}
        self._append(self._status, _line(record), time_us)


def timestamp(time_us: int) -> str:
    """Return RFC 3339 in UTC with microseconds."""
    at = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{time_us % 1_000_000:06d}Z"


def private_ip() -> str:
    """Return the address that this node reaches others from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
