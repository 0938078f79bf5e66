"""The reading end of the spool: follows a writer, live or dead, and calls every hole by name.

A reader never writes to a segment and needs no lock, so any number may read at once; only the
one that releases moves the position on disk. Nothing that lies in a segment makes it raise:
damage costs the damaged record, and is an entry of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional
from zlib import crc32

from loghaul.chunk import EVENTS, Mark
from loghaul.spool.account import Account
from loghaul.spool.declared import Declared
from loghaul.spool.entry import DROPPED, LOST, Entry
from loghaul.spool.facts import read_facts
from loghaul.spool.format import (
    CLOSE,
    DATA,
    DECLARE,
    HEADER,
    HEADER_BYTES,
    LOG,
    SEGMENT_HEADER_BYTES,
    START,
    Position,
    aligned,
)
from loghaul.spool.lines import TOGETHER_BYTES, TOGETHER_US, read_run
from loghaul.spool.recovery import is_valid, killed_read, lost_record, mended_length, next_record
from loghaul.spool.released import drop_before, remove, save_position, saved_position
from loghaul.spool.segment import segment_numbers
from loghaul.spool.segment_file import SegmentFile

#: Bytes taken from a segment at once; larger than the largest record.
WINDOW_BYTES = 512 * 1024
FOREVER_US = 1 << 63


class SpoolReader:
    """Follows one writer's directory, from a position on.

    id        of the writer
    started   of the writer, microseconds since the epoch
    facts     of the writer: flat ECS fields
    streams   that were declared as far as was read, by name
    ended     True when everything was read and nothing will follow
    """

    def __init__(self, directory: Path, position: Optional[Position] = None) -> None:
        """Open at a position, else where the last release left off, else at the beginning.

        Raises SpoolError when the directory is not (or no longer) a writer's, SpoolFormatError
        when a newer loghaul wrote it.
        """
        self.directory = Path(directory)
        self.id, self.started, self.facts = read_facts(self.directory)
        self.streams: dict[str, Declared] = {}
        self.ended = False
        self._segment: Optional[SegmentFile] = None
        self._suspect = -1
        self._account = Account()
        self._left = 0
        self._concluding = False
        saved = saved_position(self.directory)
        begin = position if position is not None else saved or START
        self._number, self._at = begin.segment, begin.offset
        self._account.ends = dict(enumerate(begin.ends))
        self._released = saved.segment if saved else 0
        if begin.segment:
            self._resume(begin)

    @property
    def position(self) -> Position:
        """Everything before this was returned by `read`."""
        ends = self._account.ends
        return Position(
            self._number, self._at, tuple(ends.get(n, -1) for n in range(max(ends, default=-1) + 1))
        )

    def read(self, max_bytes: int = 1024 * 1024) -> list[Entry]:
        """Return what follows, about `max_bytes` of it; empty when there is nothing (yet).

        Raises SpoolFormatError for a segment of a newer loghaul, nothing else.
        """
        entries: list[Entry] = []
        self._left = max_bytes
        while self._left > 0 and not self.ended:
            if self._segment is None and not self._open_next():
                break
            assert self._segment is not None
            window = self._segment.window(self._at, WINDOW_BYTES)
            used = self._parse(window, entries)
            self._at += used
            if not used and not self._pass(self._segment, window, entries):
                break
        return entries

    def conclude(self) -> None:
        """Take the last segment as final, too: whoever calls this holds the writer's lock."""
        self._concluding = True

    def ends_with_refusals(self) -> dict[int, int]:
        """Return the ends by stream number, counting what was refused behind the last record."""
        return self._account.with_refusals()

    def is_refused(self, number: int) -> bool:
        """Tell whether the last thing known of a stream is that bytes of it were refused."""
        return self._account.is_refused(number)

    def close(self) -> None:
        """Give up the descriptor; the position stays readable."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    # -- segments

    def _open_next(self) -> bool:
        """Go over to the next segment that exists."""
        while True:
            following = [n for n in segment_numbers(self.directory) if n > self._number]
            if not following:
                if not self.directory.exists():
                    self.ended = True
                return False
            if self._open(following[0]):
                self._note_missing(self._number + 1, following[0])
                self._number, self._at = following[0], SEGMENT_HEADER_BYTES
                return True

    def _note_missing(self, expected: int, found: int) -> None:
        """Segments in between are gone: released to somebody else, or dropped for space."""
        if found == expected:
            return
        saved = saved_position(self.directory)
        if saved is not None and saved.segment >= found:
            self._account.ends, self._account.unseen = {}, -1
        else:
            self._account.hole = DROPPED

    def _open(self, number: int) -> bool:
        try:
            self._segment = SegmentFile(self.directory, number)
        except OSError:
            return False
        self._account.sites, self._suspect = {}, -1
        return True

    # -- records

    def _parse(self, window: bytes, entries: list[Entry]) -> int:
        """Turn whole records into entries; return the bytes they took."""
        unpack, at, size = HEADER.unpack_from, 0, len(window)
        while at + HEADER_BYTES <= size and self._left > 0 and not self.ended:
            length, crc, _time, tag, _number, _offset = unpack(window, at)
            end, kind = at + length, tag >> 16 & 0xFF
            known = self._account.streams.get(tag & 0xFFFF)
            if known is not None and kind == LOG:
                after = self._lines(window, at, entries, known)
            elif kind or known is None:
                if not is_valid(window, at):
                    break
                self._take(window[at:end], entries)
                after = (end + 7) & -8
            elif length < HEADER_BYTES or end > size or crc32(window[at + 8 : end]) != crc:
                break
            else:
                after = self._together(window, at, entries, known)
            if after == at:
                break
            self._left -= after - at
            at = after
        return at

    def _lines(self, window: bytes, at: int, entries: list[Entry], known: Declared) -> int:
        """Take the log lines that directly follow each other as one entry."""
        run = read_run(window, at, self._account.sites)
        if run.data:
            marks = (Mark(len(run.data), run.time_us),)
            self._account.data(known, run.offset, marks, run.data, entries)
            self._left -= max(0, len(run.data) - (run.after - at))
            return run.after
        if not is_valid(window, at):
            return at
        # Its site was declared where the damage is: what follows tells how much is missing.
        self._account.hole = LOST
        return at + aligned(HEADER.unpack_from(window, at)[0])

    def _together(self, window: bytes, at: int, entries: list[Entry], known: Declared) -> int:
        """Take the valid record at `at` and those that directly follow it as one entry."""
        unpack, crc_of, until = HEADER.unpack_from, crc32, len(window)
        length, _, first_us, first_tag, _, first = unpack(window, at)
        end = at + length
        parts, times = [window[at + 32 : end]], [first_us]
        expected = first + length - 32
        last_us = first_us + TOGETHER_US if known.kind == EVENTS else FOREVER_US
        stop = min(until - 32, at + TOGETHER_BYTES)
        at = (end + 7) & -8
        while at <= stop:
            length, crc, time_us, tag, _, offset = unpack(window, at)
            end = at + length
            if tag != first_tag or offset != expected or time_us > last_us or length < 32:
                break
            covered = window[at + 8 : end]
            if end > until or crc_of(covered) != crc:
                break
            parts.append(covered[24:])
            times.append(time_us)
            expected += length - 32
            at = (end + 7) & -8
        data = b"".join(parts)
        if known.kind == EVENTS or len(parts) == 1:
            marks: tuple[Mark, ...] = (Mark(len(data), first_us),)
        else:
            marks = tuple(map(Mark, map(len, parts), times))
        self._account.data(known, first, marks, data, entries)
        return at

    def _take(self, record: bytes, entries: list[Entry]) -> None:
        """Take a single record that is whole, whatever its kind."""
        _, _, time_us, tag, number, offset = HEADER.unpack_from(record)
        kind, stream, payload = tag >> 16 & 0xFF, tag & 0xFFFF, record[HEADER_BYTES:]
        if kind == DECLARE:
            declared = Declared.decode(stream, payload)
            self._account.streams[stream] = self.streams[declared.name] = declared
        if kind == CLOSE:
            self.ended = True
        known = self._account.streams.get(stream)
        if known is None:
            self._account.hole = LOST
        elif kind == DATA:
            self._account.data(known, offset, (Mark(len(payload), time_us),), payload, entries)
        elif kind == LOG:
            run = read_run(record, 0, self._account.sites)
            if run.data:
                marks = (Mark(len(run.data), run.time_us),)
                self._account.data(known, offset, marks, run.data, entries)
        else:
            self._account.bridge(known, offset, time_us, entries)
            self._account.note(known, kind, number, offset, time_us, payload, entries)

    # -- places without a record

    def _pass(self, segment: SegmentFile, window: bytes, entries: list[Entry]) -> bool:
        """Get over the place where no record begins; False: nothing is to be done (yet).

        window   what was seen from there on
        """
        if self.ended:
            return False
        if not segment.final:
            later = any(n > self._number for n in segment_numbers(self.directory))
            if later or self._concluding:
                # The writer went on: what it wrote here before that must be read once more.
                segment.final = True
                return True
            return self._pass_live(segment, window, entries)
        rest = segment.window(self._at, segment.size)
        read = killed_read(rest, 0)
        if read is not None and read.stream in self._account.streams:
            known = self._account.streams[read.stream]
            marks = (Mark(len(read.data), read.time_us),)
            self._account.data(known, read.offset, marks, read.data, entries)
            self._at += read.after
            return True
        after = next_record(rest, min(8, len(rest)), self._account.streams)
        self._lose(rest, after, segment.size - self._at, entries)
        if after < 0:
            self.close()
        else:
            self._at += after
        return True

    def _pass_live(self, segment: SegmentFile, rest: bytes, entries: list[Entry]) -> bool:
        """A place is damaged in a live segment when twice a valid record lay behind it."""
        after = next_record(rest, min(8, len(rest)), self._account.streams)
        if after < 0:
            if not self.directory.exists():
                self.ended = True
            return False
        if self._suspect != self._at:
            self._suspect = self._at
            return False
        self._lose(rest, after, segment.size - self._at, entries)
        self._at += after
        return True

    def _lose(self, rest: bytes, after: int, size: int, entries: list[Entry]) -> None:
        """Note what the damage at the current place has cost, as far as it can be told.

        size    bytes from here to the end of the segment, of which `rest` may lack some
        """
        if after < 0 and not rest.strip(b"\0"):
            return
        self._account.hole = LOST
        length = mended_length(rest, 0, after)
        if length:
            if HEADER.unpack_from(rest)[3] & 0xFFFF in self._account.streams:
                self._take(length.to_bytes(4, "little") + rest[4:length], entries)
            return
        lost = lost_record(rest, 0, after, size)
        if lost is None:
            return
        site = self._account.sites.get(lost.number)
        if lost.kind == LOG and site is None:
            return
        length = lost.length + (site.length if lost.kind == LOG and site is not None else 0)
        known = self._account.streams.get(lost.stream)
        if known is not None and self._account.end_of(lost.stream) == lost.offset:
            self._account.gap(known, lost.offset, length, LOST, self.started, entries)

    def _resume(self, begin: Position) -> None:
        """Learn again what the segment declared before a position."""
        if not self._open(begin.segment):
            self._account.hole = DROPPED
            return
        number, self._at = begin.segment, SEGMENT_HEADER_BYTES
        ends, self._account.ends, self._account.unseen = self._account.ends, {}, -1
        scratch: list[Entry] = []
        while self._at < begin.offset and self._segment is not None:
            window = self._segment.window(self._at, min(WINDOW_BYTES, begin.offset - self._at))
            self._left = FOREVER_US
            used = self._parse(window, scratch)
            if not used:
                used = next_record(window, 8, self._account.streams)
                if used < 0:
                    break
            self._at += used
            scratch.clear()
        self._number, self._at = number, begin.offset
        self._account.ends, self._account.unseen = ends, 0
        self.ended = False

    # -- release

    def release(self, position: Position) -> None:
        """Note that everything before a position is safe elsewhere, and free its segments.

        Removes the directory when the writer has ended and all of it was released. Only one
        reader of a directory may release. Raises OSError when the position cannot be written.
        """
        if self.ended and position >= self.position:
            self.close()
            remove(self.directory)
            return
        if save_position(self.directory, position):
            drop_before(self.directory, position.segment)
