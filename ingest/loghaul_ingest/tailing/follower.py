"""One file on its way into the spool: read, put into its streams, noted, in this order and exactly.

The order is: note "under way", append, note how far. What dies in between finds out from the spool
how much of it was appended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from loghaul.chunk import TEXT
from loghaul.spool import SpoolWriter
from loghaul_ingest.tailing import file as files
from loghaul_ingest.tailing.file import HEAD_BYTES, SETTLE_SECONDS, Mark, Open
from loghaul_ingest.tailing.forms import FORMS, LONGEST_LINE_BYTES, Part, recognise
from loghaul_ingest.tailing.state import At, State

READ_BYTES = 128 * 1024
#: Captured output is refused last.
SEVERITY = 40

Ends = Callable[[str, str, tuple[str, ...]], tuple[int, ...] | None]
Say = Callable[[str], None]


class Follower:
    """Follows one file. `step` by hand; `lost` counts the times when bytes could not be found."""

    def __init__(
        self, state: State, writer: SpoolWriter, shown: str, form: str, ends: Ends, say: Say
    ) -> None:
        """shown: the path of the file in the run; ends: of streams of an earlier writer."""
        self.path = Path(state.identity.path)
        self.lost = 0
        self._state, self._writer, self._shown, self._say = state, writer, shown, say
        self._wanted = form
        self._open: Open | None = None
        self._numbers: list[int] = []
        self._ends = [0, 0]
        self._skip = [0, 0]
        self._mark = Mark(0, 0, "", 0)
        self._resume(ends)

    # -- where it was

    def _resume(self, ends: Ends) -> None:
        """Find the place where an earlier process left off, and the file that it was in."""
        identity, at = self._state.identity, self._state.at()
        if not identity.generation:
            return
        known = ends(identity.spool, identity.writer, identity.streams) if at.under_way else None
        # Below 0 stand bytes that are still to be skipped: of them none was appended here.
        appended = (*known, 0)[:2] if known else [max(0, offset) for offset in at.offsets]
        self._skip = [end - offset for end, offset in zip(appended, at.offsets, strict=True)]
        mark = Mark(identity.device, identity.inode, identity.head, identity.head_bytes)
        found = files.find(self.path, mark, at.position)
        if found is None:
            found = files.copy_of(self.path, mark, at.position)
            if found is None and at.position:
                self._forget(at.position)
                return
        self._mark = mark
        self._begin(found, identity.form)

    def _forget(self, position: int) -> None:
        self.lost += 1
        self._skip = [0, 0]
        self._say(
            f"{self.path} was rotated while nobody followed it, and what it was is gone: bytes "
            f"behind {position:,} of it may be missing; it is followed from its beginning"
        )

    def _begin(self, found: Open | None, form: str) -> None:
        """Note a file and its streams before the first byte of it is appended."""
        self._open = found
        if found is None:
            return
        if form and not self._numbers:
            self._declare(form)
        self._note(found, form)

    def _note(self, found: Open, form: str) -> None:
        self._mark = found.mark()
        names = ("", "") if not form else self._names(form)
        offsets = (self._ends[0] - self._skip[0], self._ends[1] - self._skip[1])
        self._state.begin(
            replace(
                self._state.identity,
                device=self._mark.device,
                inode=self._mark.inode,
                head=self._mark.head,
                head_bytes=self._mark.head_bytes,
                writer=self._writer.id,
                spool=str(self._writer.directory),
                streams=tuple(name for name in names if name),
                position=found.position,
                offsets=offsets,
                form=form,
            )
        )

    def _declare(self, form: str) -> None:
        for number, name in enumerate(self._names(form)):
            iostream = None if form == "plain" else ("stdout", "stderr")[number]
            stream = self._writer.stream(name, TEXT, self._shown, iostream, digest=True)
            self._numbers.append(stream)

    def _names(self, form: str) -> tuple[str, ...]:
        if form == "plain":
            return (self._shown,)
        return (f"{self._shown}:stdout", f"{self._shown}:stderr")

    # -- a step

    @property
    def found(self) -> bool:
        """Whether there is a file just now."""
        return self._open is not None

    def step(self, last: bool = False) -> int:
        """Take what is there, 128 KiB at most; return how many bytes of the file that was.

        last   no more will follow: an unfinished line is taken as it stands
        """
        if self._open is None:
            self._begin(files.open_at(self.path), self._form_known())
            if self._open is None:
                return 0
        taken = self._take(self._open, last)
        if taken:
            return taken
        if self._anew(self._open):
            self._restart(self._open)
            return 1
        return self._turn(self._open)

    def _form_known(self) -> str:
        return self._state.identity.form or ("" if self._wanted == "auto" else self._wanted)

    def _take(self, found: Open, last: bool) -> int:
        data = found.read(READ_BYTES)
        if not data or self._anew(found):
            return 0
        form = self._state.identity.form or self._recognised(found, data, last)
        if not form:
            return 0
        parts, taken = FORMS[form](data, last)
        while not taken and len(data) < min(found.size - found.position, LONGEST_LINE_BYTES):
            # A line that is longer than what was read.
            data = found.read(min(len(data) * 2, LONGEST_LINE_BYTES))
            parts, taken = FORMS[form](data, last)
        if not taken or not self._known(found, data[:taken]):
            return 0
        self._append(found, parts, taken)
        return taken

    def _known(self, found: Open, data: bytes) -> bool:
        """Note the beginning of the file before bytes of it are taken that are in it.

        False when the file was begun anew since these bytes were read.
        """
        if self._mark.head_bytes >= min(HEAD_BYTES, found.position + len(data)):
            return True
        self._note(found, self._state.identity.form)
        return found.read(len(data)) == data

    def _anew(self, found: Open) -> bool:
        """Whether a file was begun anew in place: what we knew of it is not there any more."""
        if found.truncated():
            return True
        return found.position < HEAD_BYTES and not found.begins_as(self._mark)

    def _recognised(self, found: Open, data: bytes, last: bool) -> str:
        form = recognise(data, last) if self._wanted == "auto" else self._wanted
        if form:
            self._declare(form)
            self._note(found, form)
        return form or ""

    def _append(self, found: Open, parts: list[Part], taken: int) -> None:
        offsets = (self._ends[0] - self._skip[0], self._ends[1] - self._skip[1])
        self._state.put(At(found.position, offsets, True))
        now = time.time_ns() // 1000
        for stream, data, time_us in parts:
            skipped = min(self._skip[stream], len(data))
            self._skip[stream] -= skipped
            if data := data[skipped:]:
                self._writer.append(self._numbers[stream], data, time_us or now, SEVERITY)
                self._ends[stream] += len(data)
        found.advance(taken)
        offsets = (self._ends[0] - self._skip[0], self._ends[1] - self._skip[1])
        self._state.put(At(found.position, offsets))

    # -- rotation

    def _restart(self, found: Open) -> None:
        """The file was begun anew in place: the rest of it may stand in a copy."""
        copy = files.copy_of(self.path, self._mark, found.position, found.window)
        found.close()
        again = files.open_at(self.path)
        if copy is not None and again is not None:
            # When it is read, what follows is looked for: it may be begun anew once more by then.
            again.close()
        self._begin(again if copy is None else copy, self._state.identity.form)

    def _turn(self, found: Open) -> int:
        """Go to the next file when this one is finished and there is something in the next."""
        if files.is_at(self.path, found):
            return 0
        if time.monotonic() - found.quiet_since < SETTLE_SECONDS:
            return 0
        follower = self._successor(found)
        if follower is None:
            return 0
        if found.read(1):
            # An unfinished line of a form of lines: it stays as it stands.
            follower.close()
            return self._take(found, True)
        found.close()
        self._begin(follower, self._state.identity.form)
        return 1

    def _successor(self, found: Open) -> Open | None:
        new = files.open_at(self.path)
        if new is None:
            return None
        first, *others = [*files.between(self.path, found, new), new]
        for other in others:
            other.close()
        if not first.size:
            # Whoever writes has not come to it yet, and may still write to the old one.
            first.close()
            return None
        return first

    def close(self) -> None:
        """Give it up; the next one goes on from here."""
        if self._open is not None:
            self._open.close()
        self._open = None
        self._state.close()
