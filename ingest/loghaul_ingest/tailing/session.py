"""Following files into a run: one writer of the spool, one follower per file.

A restart is a new writer: its files stand beside those of the one before, and together they are
what was written, each byte once. Where the spool is full nothing is read until there is room: the
files keep what is not read yet.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from loghaul import outlet
from loghaul.config import Settings
from loghaul.errors import SpoolError
from loghaul.spool import BLOCK, Limits, SpoolWriter
from loghaul.spool.survey import survey
from loghaul_ingest.errors import IngestError
from loghaul_ingest.tailing.follower import Follower, Say
from loghaul_ingest.tailing.state import State

#: Between looks at files of which nothing came.
POLL_SECONDS = 0.1
#: Bytes of one file before the others have their turn: 4 MiB.
TURN = 32


class Session:
    """Follows files until it is stopped. Raises SpoolError, Followed, OSError when it begins."""

    def __init__(self, settings: Settings, paths: Sequence[Path], form: str, say: Say) -> None:
        """`settings.run_id` is given. form: one of FORMATS."""
        assert settings.run_id
        self._settings, self._say = settings, say
        self._stopping = threading.Event()
        self._said: set[str] = set()
        folder, run = settings.home / "tail", settings.run_id
        whole = [Path(os.path.abspath(path)) for path in paths]
        states: list[State] = []
        try:
            for path in dict.fromkeys(whole):
                states.append(State(folder, run, str(path)))
            limits = Limits(settings.spool_max_bytes, settings.spool_reserve_bytes, BLOCK)
            facts = {**outlet.facts(settings), "role": "collected"}
            self._writer = SpoolWriter(settings.spool, facts, limits=limits)
        except BaseException:
            for state in states:
                state.close()
            raise
        shown = _shown(whole)
        self._followers = [
            Follower(state, self._writer, shown[Path(state.identity.path)], form, self._ends, say)
            for state in states
        ]

    def stop(self) -> None:
        """End soon: to be called from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Follow until `stop`."""
        while not self._stopping.is_set():
            if not self.step():
                self._stopping.wait(POLL_SECONDS)
        self.close()

    def once(self) -> list[Path]:
        """Take what is there to the ends of the files, unfinished lines as well, and end.

        Returns the files that are not there, or could not be read.
        """
        for follower in self._followers:
            while not self._stopping.is_set() and self._step(follower, False):
                pass
            while not self._stopping.is_set() and self._step(follower, True):
                pass
        missing = [follower.path for follower in self._followers if not follower.found]
        self.close()
        return missing

    def step(self) -> int:
        """Take what is there of each file, in turn; return how many bytes that was."""
        taken = 0
        for follower in self._followers:
            for _ in range(TURN):
                count = self._step(follower, False)
                taken += count
                if not count or self._stopping.is_set():
                    break
        return taken

    def close(self) -> None:
        """End the writer; the next session goes on behind what was taken."""
        self._writer.end("closed", {"status": "completed"})
        self._writer.close()
        for follower in self._followers:
            follower.close()

    def _step(self, follower: Follower, last: bool) -> int:
        try:
            return follower.step(last)
        except OSError as error:
            text = f"cannot follow {follower.path}: {error.strerror or error}; trying again"
            if text not in self._said:
                self._said.add(text)
                self._say(text)
            return 0

    def _ends(self, spool: str, writer: str, streams: tuple[str, ...]) -> tuple[int, ...] | None:
        """Return how much of the streams of an earlier writer there was; None: not known."""
        return _spooled(Path(spool), streams) or self._stored(writer, streams)

    def _stored(self, writer: str, streams: tuple[str, ...]) -> tuple[int, ...] | None:
        from loghaul_ingest.stores import open_reader

        try:
            reader = open_reader(self._settings.store)
            try:
                rows = reader.streams(str(self._settings.run_id))
            finally:
                reader.close()
        except IngestError as error:
            self._say(f"the store cannot tell what was followed before: {error}")
            return None
        ends = {
            row.facts.stream.stream: row.facts.end.length
            for row in rows
            if row.facts.stream.writer == writer and row.facts.end is not None
        }
        return tuple(ends.get(name, 0) for name in streams) if ends else None


def _spooled(directory: Path, streams: tuple[str, ...]) -> tuple[int, ...] | None:
    if not directory.is_dir():
        return None
    try:
        found = survey(directory)
    except (SpoolError, OSError):
        return None
    ends = {declared.name: end for declared, end in zip(found.streams, found.ends, strict=True)}
    return tuple(ends.get(name, 0) for name in streams)


def _shown(paths: Sequence[Path]) -> dict[Path, str]:
    """Return where files stand in the run: `logs/<name>`, with their folders where names clash."""
    names = [path.name for path in dict.fromkeys(paths)]
    return {
        path: f"logs/{path.name}" if names.count(path.name) == 1 else f"logs{path}"
        for path in paths
    }
