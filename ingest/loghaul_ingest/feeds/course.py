"""Which partitions a run is looked for in, and from where. No input, no output, no clock.

A partition that holds a stream of the run, or should, is read. Any other is listened to, so that a
stream nobody knows yet is heard from its first byte; that ends when it costs too much, and what is
in such a partition then is learnt from the store. Reading begins where the workers have committed:
what lies before that is in the store, or will be shown by it in a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from loghaul.chunk import StreamKey, record_key
from loghaul.shipper.route import partition_of
from loghaul_ingest.feeds.connection import Bounds

#: Bytes of other runs in partitions that are only listened to: at once, and per second.
LISTEN_BYTES, LISTEN_BYTES_PER_SECOND = 64 * 2**20, 4 * 2**20
#: Where nobody tells what is stored, this far back is read at most.
RECENT_SECONDS = 600.0


def candidates(stream: StreamKey, count: int) -> list[int]:
    """Return the partitions that a stream may be in, the likeliest first.

    Its writer remembers the count of partitions that there was (`loghaul.shipper.route`), which may
    be less than today's.
    """
    key = record_key(stream)
    return list(dict.fromkeys(partition_of(key, fewer) for fewer in range(count, 0, -1)))


class Course:
    """The partitions of one connection.

    next      offset to read next, of partitions that were read
    homes     where streams of the run were seen
    resting   neither read nor listened to
    """

    def __init__(self, before: Course | None = None) -> None:
        """`before`: that of the connection that failed."""
        self.count = 0
        self.next: dict[int, int] = dict(before.next) if before else {}
        self.homes: dict[StreamKey, int] = dict(before.homes) if before else {}
        self.resting: set[int] = set()
        self._needed: set[int] = set(self.homes.values())
        self._allowance = float(LISTEN_BYTES)
        self._spent_at: float | None = None

    def grow(self, count: int) -> None:
        """Take how many partitions there are."""
        self.count = max(self.count, count)

    def expect(self, streams: Iterable[StreamKey]) -> set[int]:
        """Say which streams are followed; return the partitions that have to be read for them."""
        wanted = {self.homes.get(key, candidates(key, self.count)[0]) for key in streams}
        self._needed |= wanted
        return wanted

    def seen(self, stream: StreamKey, number: int) -> None:
        """Note where a record of the run was."""
        self.homes[stream] = number
        self._needed.add(number)

    def start(
        self, number: int, committed: Mapping[int, int | None] | None, noted: int | None, at: Bounds
    ) -> int:
        """Return where reading of a partition begins.

        committed   of the workers' group; None: that cannot be learnt
        noted       the lowest position that streams of the run there note in the store
        """
        stored = committed.get(number) if committed is not None else None
        if stored is None and number not in self.next:
            if noted is not None and noted < at.end:
                stored = max(noted, at.recent)
            else:
                # Nobody has stored anything of it, or nobody tells.
                stored = at.begin if committed is not None else at.recent
        start = max(stored or 0, self.next.get(number, 0), at.begin)
        # Behind the end: the topic was made anew.
        self.next[number] = start if start <= at.end else at.begin
        return self.next[number]

    def overheard(self, foreign: Mapping[int, int], now: float) -> set[int]:
        """Count bytes of other runs by partition; return partitions to be left off from now on."""
        passed = now - (now if self._spent_at is None else self._spent_at)
        self._spent_at = now
        listening = set(range(self.count)) - self._needed - self.resting
        spent = sum(size for number, size in foreign.items() if number in listening)
        allowed = self._allowance + passed * LISTEN_BYTES_PER_SECOND
        self._allowance = min(float(LISTEN_BYTES), allowed) - spent
        if self._allowance >= 0:
            return set()
        self.resting |= listening
        return listening
