"""What the execution log tells of a launch: enough to see later what was run, where and how."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence

from loghaul.capture.job import Job
from loghaul.capture.source import Plumbing

#: Variables that say where in a job this process is. Never all: others hold secrets.
_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "CUDA_VISIBLE_DEVICES",
    "SLURM_JOB_ID",
    "SLURM_PROCID",
    "SLURM_NODEID",
    "SLURM_RESTART_COUNT",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMP_NUM_THREADS",
    "VIRTUAL_ENV",
    "CONDA_DEFAULT_ENV",
    "KUBERNETES_SERVICE_HOST",
)


def launch_facts(job: Job, plumbing: Sequence[Plumbing]) -> Iterator[tuple[str, str]]:
    """Yield (level, text) of the first lines."""
    settings = job.settings
    yield "info", f"run {settings.run_id} of experiment {settings.experiment}"
    yield "info", f"writer {job.writer}" + (f" below {job.parent}" if job.parent else "")
    yield "info", f"node {settings.node}, host {os.uname().nodename}, guard {os.getpid()}"
    yield "info", f"command: {shlex.join(job.command)}"
    yield "info", f"working directory: {_working_directory()}"
    for one in plumbing:
        kind = "terminal" if os.isatty(one.read_end) else "pipe"
        yield "info", f"{one.name} is a {kind} -> {one.path}"
    for name in _VARIABLES:
        if name in os.environ:
            yield "info", f"environment: {name}={os.environ[name]}"
    yield "debug", f"python {sys.version.split()[0]}, {os.uname().sysname} {os.uname().release}"
    yield "debug", f"spool {settings.spool}, store {settings.store}"
    for problem in settings.problems:
        yield "warning", problem


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "(removed)"
