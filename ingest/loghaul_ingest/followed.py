"""A stream that is followed: what of it was handed out, and what waits for its turn.

Arithmetic on offsets alone decides: bytes below `given` are dropped, bytes that lie beyond it
wait until what is between has come, from wherever.
"""

from __future__ import annotations

from collections.abc import Iterator

from loghaul_ingest.block import Facts
from loghaul_ingest.pieces import Hole, Item, LineCutter, Piece, cut


class Followed:
    """One stream.

    given    everything before this offset was handed out, or waits in the cutter for its line's end
    held     bytes that wait for their turn
    asking   number of the answer of the store that tells of what is missing; 0: nothing is
    done     it has ended and all of it was handed out
    """

    def __init__(self, facts: Facts, given: int) -> None:
        self.facts = facts
        self.given = given
        self.held = self.asking = 0
        self.done = False
        self._ahead: list[Piece] = []
        self._next = given
        self._cutter = LineCutter(facts.kind)

    def hold(self, piece: Piece) -> None:
        """Keep bytes until it is their turn."""
        if piece.offset <= self.expected:
            self._next = max(self._next, piece.end)
        self._ahead.append(piece)
        self.held += len(piece.data)

    def flow(self) -> Iterator[Item]:
        """Hand out what was held and whose turn it is."""
        ahead = sorted(self._ahead, key=lambda piece: piece.offset)
        self._ahead = []
        for number, piece in enumerate(ahead):
            if piece.offset > self.given:
                self._ahead = ahead[number:] + self._ahead
                break
            yield from self.feed(piece)
        self.held = sum(len(piece.data) for piece in self._ahead)

    def feed(self, item: Item) -> Iterator[Item]:
        """Hand out what of an item is new and whole."""
        if item.end <= self.given:
            return
        if isinstance(item, Hole):
            start = max(item.offset, self.given)
            item = item._replace(offset=start, length=item.end - start)
        else:
            item = cut(item.offset, item, self.given, None)
        self.given = item.end
        yield from self._cutter.feed(item)

    def finish(self) -> Iterator[Item]:
        """Hand out an unfinished last line: no more bytes come."""
        self.done = True
        yield from self._cutter.finish()

    @property
    def expected(self) -> int:
        """Offset that the next bytes in order have."""
        return max(self._next, self.given)

    @property
    def ended(self) -> bool:
        """Whether nothing is left to come."""
        return self.facts.end is not None and self.given >= self.facts.end.length

    @property
    def obstacle(self) -> int | None:
        """Return up to where something is missing before what is held, or is a gap; None: not."""
        for gap in self.facts.gaps:
            if gap.offset <= self.given < gap.offset + gap.length:
                return gap.offset + gap.length
        return min((piece.offset for piece in self._ahead), default=None)
