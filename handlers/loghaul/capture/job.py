"""The job: everything that guard and pump both know about what is run."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from loghaul.config import Settings

#: Longest time after CMD's end in which what its descendants print belongs to the run.
DRAIN_SECONDS = 60.0
#: After CMD's end, with its output still held by somebody: silent so long, and the guard returns.
QUIET_SECONDS = 1.0
#: Deaths of the pump after which the guard copies to the terminal alone.
MAX_DEATHS = 3

STDOUT, STDERR, LOG, INFO, STATUS, FIRST_RANK = range(6)
RANKS_VARIABLE = "LOGHAUL_RANKS"


@dataclass(frozen=True)
class Job:
    """A command, and the run it is.

    settings    with run_id filled in
    writer      id of the supervisor's writer
    parent      writer of an outer `loghaul run` of the same run, or None
    started_us  microseconds since the epoch
    pty         True, False, or None: where the user's own stream is a terminal
    """

    settings: Settings
    command: Sequence[str]
    writer: str
    parent: Optional[str]
    started_us: int
    guard_pid: int
    pty: Optional[bool] = None
    quiet: bool = False
    drain_seconds: float = DRAIN_SECONDS

    @property
    def driver_log(self) -> str:
        """Path of the file that stdout and stderr are shown in."""
        rank = self.settings.rank
        return driver_log(rank)

    @property
    def execution_log(self) -> str:
        """Path of the launcher's own log."""
        return f"azureml-logs/55_azureml-execution-{self.settings.node}.txt"

    @property
    def process_name(self) -> str:
        """Name of CMD in process_info.json."""
        return "main" if self.settings.rank is None else f"rank_{self.settings.rank}"

    def facts(self) -> dict[str, Any]:
        """Return the ECS fields that are the same for all streams of this writer."""
        settings = self.settings
        facts: dict[str, Any] = {
            "run.id": settings.run_id,
            "run.name": settings.run_name,
            "run.attempt": settings.attempt,
            "run.node": settings.node,
            "run.rank": settings.rank,
            "run.local_rank": settings.local_rank,
            "experiment.name": settings.experiment,
            "host.name": os.uname().nodename,
            "process.pid": self.guard_pid,
            "labels": dict(settings.tags) or None,
            "role": "process" if self.parent else "supervisor",
            "parent": self.parent,
            "started": self.started_us,
            "command": list(self.command),
        }
        return {name: value for name, value in facts.items() if value is not None}

    def environment(self, inherited: Mapping[str, str], ranks_address: str) -> dict[str, str]:
        """Return CMD's environment: the settings, the hook first on PYTHONPATH, the ranks' door."""
        found = {**inherited, **self.settings.environment(), "LOGHAUL_PARENT": self.writer}
        if ranks_address and self.settings.rank is None:
            found[RANKS_VARIABLE] = ranks_address
        else:
            found.pop(RANKS_VARIABLE, None)
        folder = hook_folder()
        if self.settings.hook and folder:
            others = [part for part in inherited.get("PYTHONPATH", "").split(os.pathsep)]
            kept = [part for part in others if part != folder]
            # A user's empty entry means the working directory; an empty variable means nothing.
            found["PYTHONPATH"] = os.pathsep.join([folder, *kept] if any(others) else [folder])
        return found


def driver_log(rank: Optional[int]) -> str:
    """Return the path of the file with a process's stdout and stderr."""
    return f"azureml-logs/70_driver_log{'' if rank is None else f'_{rank}'}.txt"


def hook_folder() -> Optional[str]:
    """Return the folder that makes Python processes load the hook."""
    folder = Path(__file__).parent.parent / "_hook"
    return str(folder) if (folder / "sitecustomize.py").is_file() else None


def new_run_id(experiment: str) -> str:
    """Return `<experiment>_<unix time>_<8 hex>`."""
    return f"{experiment}_{int(time.time())}_{uuid.uuid4().hex[:8]}"


def job_of(
    settings: Settings,
    command: Sequence[str],
    *,
    pty: Optional[bool] = None,
    quiet: bool = False,
    outer: Mapping[str, str] = os.environ,
) -> Job:
    """Return the job of a command. Inside a `loghaul run` of the same run it joins that one."""
    if settings.run_id is None:
        settings = replace(settings, run_id=new_run_id(settings.experiment))
    nested = outer.get("LOGHAUL_PARENT") and outer.get("LOGHAUL_RUN_ID") == settings.run_id
    parent = outer["LOGHAUL_PARENT"] if nested else None
    now_us = time.time_ns() // 1000
    writer, pid = uuid.uuid4().hex, os.getpid()
    return Job(settings, tuple(command), writer, parent, now_us, pid, pty, quiet)
