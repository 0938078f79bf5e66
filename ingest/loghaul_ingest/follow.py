"""Live tail: what the store has of a run, then what its writers say, no line twice, none lost.

A feed (the spool of this machine, or the topic) gives chunks sooner than the store shows them.
Between the two stands arithmetic alone: each stream knows the offset up to which it was given.
Bytes below it are dropped, and bytes beyond it wait while the store is asked for what lies
between. What nobody has yet is waited for; it is a gap only when the facts of the stream say so,
or when the run has ended and it did not come.

`Follower.poll` is one step and never sleeps; who follows decides how often to take one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from loghaul.chunk import StreamKey
from loghaul_ingest.asking import Ask, Inquiry, at_once
from loghaul_ingest.errors import StoreError
from loghaul_ingest.feeds.base import Feed
from loghaul_ingest.files import File
from loghaul_ingest.followed import Followed
from loghaul_ingest.knowledge import Knowledge
from loghaul_ingest.pieces import Hole, Item, Piece, holes, pieces
from loghaul_ingest.stores.base import Reader, StreamRow

#: So often the store is asked what it has; and at once, but not more often than that, when bytes
#: lie beyond those that are missing.
STORE_SECONDS, RETRY_SECONDS = 1.0, 0.4
#: How long nothing must come before the feed is asked whether a writer has gone.
SILENCE_SECONDS = 2.0
#: Bytes that may wait for others before them; what is beyond that comes from the store.
MOST_HELD_BYTES = 32 * 2**20

#: What one stream has to give, in its order.
News = tuple[Followed, list[Item]]


class Follower:
    """Follows the files of a run that `choose` picks, new ones included.

    feed         opened before this: what it leaves out the store has by now
    choose       from all streams of the run, as far as they are known, the files to follow
    starts       offset to begin at, for streams that are there already; others begin at 0
    ask          how the store is asked while lines come (`asking`)
    """

    def __init__(
        self,
        reader: Reader,
        feed: Feed,
        run: str,
        choose: Callable[[Sequence[StreamRow]], Sequence[File]],
        starts: Mapping[StreamKey, int] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        ask: Ask = at_once,
    ) -> None:
        self._reader, self._feed, self._run = reader, feed, run
        self._choose, self._starts = choose, starts or {}
        self._clock, self._at_once = clock, ask is at_once
        self._known = Knowledge()
        self._due: dict[Followed, bool] = {}
        self._inquiry = Inquiry(ask, lambda: reader.streams(run))
        self._asked = self._moved = self._heard = clock()
        self._wondered = float("-inf")
        self._beginnings = feed.beginnings
        self.files: list[File] = []
        self.streams: dict[StreamKey, Followed] = {}
        self._learn(reader.streams(run))

    # -- what is known

    @property
    def running(self) -> bool:
        """Whether the run goes on, as far as store and feed tell."""
        return self._known.running(self._feed.expecting)

    @property
    def over(self) -> bool:
        """Whether no more is to be waited for: to be asked when `poll` gave nothing."""
        if self.running:
            return False
        still = self._clock() - self._heard
        if any(not one.done and (one.facts.end or one.held) for one in self.streams.values()):
            return still >= self._feed.patience_seconds
        if self._feed.live and not self._feed.current:
            return self._known.agreed
        return still >= self._feed.settle_seconds or self._known.agreed

    @property
    def waits(self) -> bool:
        """Whether the run goes on and all that is there was given."""
        return self.running and (self._feed.current or bool(self._feed.trouble))

    @property
    def silent(self) -> bool:
        """Whether nothing came for a while, although a writer that is read has gone.

        Then somebody should write its end (`catch_up` does).
        """
        if self._clock() - self._moved < SILENCE_SECONDS:
            return False
        self._moved = self._clock()
        return self._feed.abandoned

    def _learn(self, rows: Sequence[StreamRow]) -> None:
        """Take what the store says of the run, and choose again."""
        self._known.learn(rows)
        self._choose_again()
        for key, stream in self.streams.items():
            row = self._known.stored.get(key)
            behind = row is not None and row.whole_until > stream.given
            if not stream.done and (behind or stream.held or stream.facts.end is not None):
                self._due[stream] = True

    def _choose_again(self) -> None:
        chosen = {(file.writer, file.path) for file in self.files}
        for file in self._choose(self._known.rows()):
            if (file.writer, file.path) not in chosen:
                self.files.append(file)
            for row in file.streams:
                if row.facts.stream not in self.streams:
                    self._begin(row)
        for key, stream in self.streams.items():
            stream.facts = self._known.facts(key) or stream.facts

    def _begin(self, row: StreamRow) -> None:
        key = row.facts.stream
        self.streams[key] = Followed(row.facts, self._starts.get(key, 0))
        ours = row.facts.common.get("role") != "collected"
        if ours and (row.facts.end is None or row.whole_until < row.facts.end.length):
            # Records of others come from the store alone.
            self._feed.follow(key, lambda: self._noted(key))

    def _noted(self, key: StreamKey) -> int | None:
        """Return the transport position that the last block of a stream notes."""
        row = self._known.stored.get(key)
        if row is None or not row.whole_until:
            return None
        heads = list(self._reader.heads(key, row.whole_until - 1, row.whole_until))
        return heads[-1].position if heads else None

    # -- what is there

    def listen(self) -> bool:
        """Take what the feed has without giving it out; True when it is all of what is there.

        Before `history`, which then gives it too.
        """
        self._accept(bounded=False)
        full = self._held >= MOST_HELD_BYTES
        return self._feed.current or bool(self._feed.trouble) or full

    def history(self) -> list[tuple[Followed, Iterator[Item]]]:
        """Return what is there of each stream, to be taken before the first `poll`."""
        return [(stream, self._past(stream)) for stream in self.streams.values()]

    def _past(self, stream: Followed) -> Iterator[Item]:
        yield from self._stored(stream)
        yield from stream.flow()

    def _stored(self, stream: Followed, until: int | None = None) -> Iterator[Item]:
        """Hand out what the store has from where a stream stands, up to what may still come."""
        if until is None:
            row = self._known.stored.get(stream.facts.stream)
            until = row.reach if row is not None else 0
        if until <= stream.given:
            return
        for item in pieces(self._reader, stream.facts, stream.given, until):
            if isinstance(item, Hole) and not item.never:
                return
            yield from stream.feed(item)

    # -- what comes

    def poll(self) -> list[News]:
        """Take one step: return what came since the last one."""
        self._accept()
        began, self._beginnings = self._feed.beginnings != self._beginnings, self._feed.beginnings
        if began or self._clock() - self._asked >= STORE_SECONDS:
            self._asked = self._clock()
            self._inquiry.put()
        self._hear()
        due, self._due = self._due, {}
        news = [(stream, list(self._coming(stream, more))) for stream, more in due.items()]
        news = [(stream, items) for stream, items in news if items]
        if news:
            self._moved = self._heard = self._clock()
        return news

    def wait(self) -> None:
        """Return when the feed has something, or after a moment."""
        self._feed.wait()

    @property
    def trouble(self) -> str:
        """Why lines come from the store alone, as a sentence; "" where that is not so."""
        return self._feed.trouble

    def finish(self) -> list[News]:
        """Return what is left when the run is over; unfinished lines and gaps are named."""
        found: dict[StreamKey, list[Item]] = {}
        while news := self.poll():
            for stream, items in news:
                found.setdefault(stream.facts.stream, []).extend(items)
        self._learn(self._reader.streams(self._run))
        for key, stream in self.streams.items():
            if not stream.done:
                found.setdefault(key, []).extend(self._rest(stream))
        return [(self.streams[key], items) for key, items in found.items() if items]

    # -- inside

    def _accept(self, bounded: bool = True) -> None:
        """Take chunks and what they tell; their bytes wait for their turn."""
        chunks = list(self._feed.take())
        news = [chunk for chunk in chunks if self._known.tell(chunk)]
        if news:
            self._choose_again()
        held = self._held
        for chunk in chunks:
            stream = self.streams.get(chunk.key)
            if stream is None:
                continue
            self._due.setdefault(stream, False)
            if chunk.offset <= stream.expected or held < MOST_HELD_BYTES or not bounded:
                stream.hold(Piece(chunk.offset, chunk.data, chunk.marks))
                held += len(chunk.data)

    @property
    def _held(self) -> int:
        return sum(stream.held for stream in self._due)

    def _coming(self, stream: Followed, more: bool) -> Iterator[Item]:
        """Hand out what has its turn now; `more`: the store may have some of it."""
        yield from stream.flow()
        if more:
            before = stream.given
            yield from self._stored(stream)
            if stream.given > before and self._feed.current:
                self._feed.miss(stream.facts.stream)
            yield from stream.flow()
        while (until := stream.obstacle) is not None:
            if not self._answered(stream):
                self._due.setdefault(stream, False)
                return
            before, stream.asking = stream.given, 0
            yield from self._stored(stream, until)
            yield from stream.flow()
            if stream.given == before:
                # The store does not have it either: a later answer may.
                self._feed.miss(stream.facts.stream)
                stream.asking = self._inquiry.asked + 1
        stream.asking = 0
        if stream.ended and not stream.done:
            yield from stream.finish()

    def _answered(self, stream: Followed) -> bool:
        """Whether the store was asked since bytes of a stream were found missing."""
        if not stream.asking:
            stream.asking = self._inquiry.asked + 1
            if self._clock() - self._wondered >= RETRY_SECONDS:
                self._wondered = self._clock()
                self._inquiry.put()
                self._hear()
        return self._inquiry.answered >= stream.asking

    def _rest(self, stream: Followed) -> Iterator[Item]:
        """Hand out all there is, and name what is missing."""
        yield from self._past(stream)
        while (until := stream.obstacle) is not None:
            yield from self._stored(stream, until)
            for hole in holes(stream.facts, stream.given, until):
                yield from stream.feed(hole)
            yield from stream.flow()
        if stream.facts.end is not None and not stream.ended:
            for item in pieces(self._reader, stream.facts, stream.given):
                yield from stream.feed(item)
        yield from stream.finish()

    def _hear(self) -> None:
        """Take the answer of the store, if there is one."""
        try:
            rows = self._inquiry.answer()
        except StoreError as error:
            # Live lines come on without it.
            if error.permanent or not self._feed.live or self._at_once:
                raise
            return
        if rows is not None:
            self._learn(rows)
