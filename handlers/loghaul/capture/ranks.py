"""Gives a rank below `loghaul run` an output of its own, so that there is one log file per rank.

Called by the hook in every Python process, so it costs nothing where there is nothing to do, and
whatever fails leaves the outputs as they were. Standard library only, Python >= 3.9.
"""

from __future__ import annotations

import json
import os
from typing import Any, Mapping, Optional

#: `<name of the door> 1=<device>:<inode> 2=<device>:<inode>`, set by the guard.
VARIABLE = "LOGHAUL_RANKS"
_PATIENCE_SECONDS = 5.0
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")
_LOCAL = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_STREAMS = {1: "stdout", 2: "stderr"}


def redirect(environment: Mapping[str, str] = os.environ) -> bool:
    """Ask for this rank's own outputs and put them in place of 1 and 2; True when that was done.

    Done where the environment says that this is one of several ranks, for those of 1 and 2 that
    still are the very outputs of `loghaul run`. Never raises.
    """
    try:
        rank = _number(environment, _RANKS)
        several = (_number(environment, _SIZES) or 0) > 1
        if rank is None or not several or VARIABLE not in environment:
            return False
        name, *places = environment[VARIABLE].split(" ")
        ours = [number for number in (1, 2) if _place(number) in places]
        return bool(ours) and _replace(name, ours, rank, _number(environment, _LOCAL))
    except Exception:  # noqa: BLE001 - a script must never fail because of its logs
        return False


def place_of(number: int, descriptor: int) -> str:
    """Return how the output `number` is told in VARIABLE."""
    status = os.fstat(descriptor)
    return f"{number}={status.st_dev}:{status.st_ino}"


def _place(number: int) -> str:
    try:
        return place_of(number, number)
    except OSError:
        return ""


def _number(environment: Mapping[str, str], names: tuple[str, ...]) -> Optional[int]:
    for name in names:
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return None


def _replace(name: str, numbers: list[int], rank: int, local_rank: Optional[int]) -> bool:
    import array
    import socket

    request: dict[str, Any] = {"rank": rank, "local_rank": local_rank, "pid": os.getpid()}
    request["streams"] = [_STREAMS[number] for number in numbers]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.settimeout(_PATIENCE_SECONDS)
        door.connect("\0" + name)
        door.send(json.dumps(request).encode())
        room = socket.CMSG_SPACE(2 * array.array("i").itemsize)
        _, ancillary, _, _ = door.recvmsg(1024, room)
    outputs = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            outputs.frombytes(data[: len(data) - len(data) % outputs.itemsize])
    try:
        if len(outputs) != len(numbers):
            return False
        for index, number in enumerate(numbers):
            os.dup2(outputs[index], number)
    finally:
        for output in outputs:
            os.close(output)
    return True
