"""What a fork does to the writers of a process.

The child must not write to its parent's segments: there every writer is dead (`forked`), and the
lock's descriptor is closed, so that a child that outlives its parent does not keep it held. The
one exception is asked for by `SpoolWriter.keep_after_fork`: the child then goes on, and the
parent's writer is dead but keeps holding the lock.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Optional, Protocol


class Forkable(Protocol):
    """What a writer does around a fork."""

    directory: Path

    def before_fork(self) -> None:
        """Come to rest: no other thread is in the middle of a record."""

    def after_fork_in_parent(self) -> None:
        """Go on."""

    def after_fork_in_child(self) -> None:
        """Be dead, or go on in the parent's place."""

    def lock_descriptor(self) -> int:
        """Return the descriptor that holds the lock of the directory, -1 without one."""


_writers: weakref.WeakSet[Forkable] = weakref.WeakSet()


def register(writer: Forkable) -> None:
    """Take care of a writer at every later fork."""
    _writers.add(writer)


def inherited_lock(directory: Path) -> Optional[int]:
    """Return a new descriptor of a lock that a writer of this process holds on a directory."""
    for writer in list(_writers):
        if writer.directory == directory and writer.lock_descriptor() >= 0:
            return os.dup(writer.lock_descriptor())
    return None


def _before() -> None:
    for writer in list(_writers):
        writer.before_fork()


def _in_parent() -> None:
    for writer in list(_writers):
        writer.after_fork_in_parent()


def _in_child() -> None:
    for writer in list(_writers):
        writer.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
