"""What this machine says by itself: folders, host name, settings files, launcher's variables.

Nothing here is created and nothing raises: a missing or unreadable thing is simply not there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Iterator, Optional

#: File systems on which mapped files or locks of several machines are not to be trusted.
NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.lustre", "fuse.s3fs",
    "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "pvfs2",
    "smb3", "smbfs", "virtiofs", "wekafs",
})  # fmt: skip

#: setting -> variables of the usual launchers, the most specific first.
_LAUNCHERS = {
    "rank": ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"),
    "local_rank": (
        "LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "MPI_LOCALRANKID",
        "SLURM_LOCALID",
    ),
}
_RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")


def data_folder() -> Path:
    """Return the platform's folder for a user's data of this program."""
    if os.environ.get("XDG_DATA_HOME"):
        return Path(os.path.abspath(os.environ["XDG_DATA_HOME"]), "loghaul")
    home = os.path.expanduser("~")
    if sys.platform == "darwin":
        return Path(home, "Library", "Application Support", "loghaul")
    return Path(home, ".local", "share", "loghaul")


def spool_folder(home: Path) -> Path:
    """Return where the spool lies by default: below `home`, unless that is on a network."""
    if not on_network(home):
        return home / "spool"
    import tempfile

    return Path(tempfile.gettempdir(), f"loghaul-{os.getuid()}", "spool")


def on_network(path: Path, mounts: str = "/proc/mounts") -> bool:
    """Return whether `path` (existing or not) lies on a network file system; False if unknown."""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split() for line in file]
    except OSError:
        return False
    real = os.path.realpath(path)
    best, kind = "", ""
    for row in rows:
        point = row[1].replace("\\040", " ") if len(row) > 2 else ""
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # The last mount on a point hides the earlier ones, hence >=.
        if point and inside and len(point) >= len(best):
            best, kind = point, row[2]
    return kind in NETWORK_FILE_SYSTEMS


def host_name() -> str:
    """Return this machine's name."""
    return os.uname().nodename or "localhost"


def launcher() -> dict[str, Any]:
    """Return rank, local_rank and attempt as torchrun, Open MPI, MPICH or Slurm tell them."""
    found: dict[str, Any] = {}
    for name, variables in _LAUNCHERS.items():
        for variable in variables:
            value = os.environ.get(variable, "")
            if value.isdigit() and (not variable.startswith("SLURM_") or _several_tasks()):
                found[name] = value
                break
    for variable in _RESTARTS:
        count = os.environ.get(variable, "")
        # torchrun sets 0 in every first attempt, also in a run that was resumed as a whole.
        if count.isdigit() and int(count) > 0:
            found["attempt"] = int(count) + 1
            break
    return found


def _several_tasks() -> bool:
    """Slurm numbers its batch script 0 too; only a step of several tasks has ranks."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS") or "1"
    return tasks.isdigit() and int(tasks) > 1


def tables(problems: list[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield (file, its settings) of the nearest project file, then the user's own.

    Needs tomllib (Python 3.11); below it there are no settings files, `loghaul run` hands the
    settings over as environment.
    """
    found = [file for file in (_nearest(), _users()) if file]
    if not found:
        return  # and a training process does without the parser
    try:
        import tomllib
    except ImportError:
        return
    for file in found:
        table = _table(file, tomllib, problems)
        if table:
            yield file, table


def _nearest() -> Optional[Path]:
    """Return the first loghaul.toml, or pyproject.toml with our section, from here upwards."""
    try:
        here = Path.cwd()
    except OSError:
        return None
    for folder in (here, *here.parents):
        if os.path.isfile(folder / "loghaul.toml"):
            return folder / "loghaul.toml"
        if _has_section(folder / "pyproject.toml"):
            return folder / "pyproject.toml"
    return None


def _has_section(file: Path) -> bool:
    try:
        return b"[tool.loghaul" in file.read_bytes()
    except OSError:
        return False


def _users() -> Optional[Path]:
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    file = Path(folder, "loghaul", "loghaul.toml")
    return file if file.is_file() else None


def _table(file: Path, tomllib: Any, problems: list[str]) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            content = tomllib.load(stream)
    except (OSError, ValueError) as error:
        problems.append(f"{file} cannot be read and is left out: {error}")
        return {}
    if file.name == "pyproject.toml":
        content = content.get("tool", {}).get("loghaul", {})
    return content if isinstance(content, dict) else {}
