"""The command: found like a shell finds it, started with nothing of ours but its two outputs."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

NOT_EXECUTABLE, NOT_FOUND = 126, 127


class CommandError(Exception):
    """CMD cannot be started; `exit_code` is what a shell would give."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def find(name: str, path: str) -> str:
    """Return the file that `name` means, searching the folders of `path` as a shell does.

    Raises CommandError: not found (127), or found and not to be executed (126).
    """
    folders = [""] if "/" in name else path.split(os.pathsep)
    refused = ""
    for folder in folders:
        file = os.path.join(folder or ("" if "/" in name else "."), name)
        if os.path.isfile(file) and os.access(file, os.X_OK):
            return file
        if os.path.exists(file) and not refused:
            refused = file
    if refused:
        kind = "a directory" if os.path.isdir(refused) else "not executable"
        raise CommandError(f"{name!r} cannot be run: {refused} is {kind}", NOT_EXECUTABLE)
    where = "no such file" if "/" in name else "not found on PATH"
    raise CommandError(f"{name!r} cannot be run: {where}", NOT_FOUND)


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    outputs: Mapping[int, int],
    closed: Sequence[int],
    mask: set[signal.Signals],
) -> int:
    """Start CMD with `outputs` {its descriptor: ours} and return its pid.

    It gets the signal mask that the user's shell gave us, and the dispositions that Python changed
    set back; descriptors that the user handed down stay open. `closed` ones the user had closed.
    A script without `#!` is given to /bin/sh, as shells do. Raises CommandError.
    """
    file = find(command[0], environment.get("PATH", os.defpath))
    actions: list[tuple[int, int, int] | tuple[int, int]] = [
        (os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in outputs.items()
    ]
    actions += [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in closed]
    for argv in ([file, *command[1:]], ["/bin/sh", file, *command[1:]]):
        try:
            return os.posix_spawn(
                argv[0],
                [command[0], *argv[1:]] if argv[0] == file else argv,
                environment,
                file_actions=actions,
                setsigmask=mask,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except OSError as error:
            if error.errno != 8:  # ENOEXEC
                code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
                message = f"{command[0]!r} cannot be run: {error.strerror}"
                raise CommandError(message, code) from error
    raise CommandError(f"{command[0]!r} cannot be run: unknown format", NOT_EXECUTABLE)
