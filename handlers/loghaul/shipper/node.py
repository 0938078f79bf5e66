"""The shipper process of a node: one at a time, by the lock in SPOOL/shipper.

    serve(settings, background)   ship until stopped; in the background until nobody captures
    once(settings)                ship what is there, end
    serves(settings)              whether one lives

A connection is tried for ever, with backoff, because a spool outlives days without a broker. What
only a person can mend (a wrong password, an unsafe topic) ends a shipper in the foreground with one
sentence; in the background it is tried again as long as somebody captures, and said in the status.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from dataclasses import asdict
from typing import Any, Callable, Optional

from loghaul.config import Secret, Settings
from loghaul.errors import TransportError
from loghaul.journal import Journal
from loghaul.shipper.desk import Busy, Desk, fingerprint, is_locked
from loghaul.shipper.room import make_room
from loghaul.shipper.session import Counts, Session
from loghaul.spool import abandoned, writers
from loghaul.spool.directories import has_ended
from loghaul.spool.rota import Rota
from loghaul.transports import Transport, connector

#: Directories open at the same time: each may hold back a chunk per stream.
MAX_OPEN = 24
#: In the background: nobody captures and nothing is left for so long.
IDLE_SECONDS = 30.0
#: Between looks at room, status and who wants what.
UPKEEP_SECONDS = 1.0
SHORTEST_SECONDS, LONGEST_SECONDS = 0.2, 30.0
#: How long a shipper that is told to end goes on with what is there.
STOP_SECONDS = 10.0
#: How long one in the background waits for its forerunner to give way.
GIVE_WAY_SECONDS = 20.0
#: A spool nobody added to for so long is looked at half as often.
QUIET_SECONDS = 5.0


def quiet(**status: Any) -> None:
    """Tell nobody."""


def _silent(event: str = "", **fields: Any) -> None:
    """Say nothing."""


def serve(
    settings: Settings, *, background: bool = False, tell: Callable[..., None] = quiet
) -> None:
    """Ship until SIGTERM or SIGINT; with `background` until nobody captures any more.

    `tell` hears once per second, as keywords, what stands in the status.

    Raises Busy when another shipper serves this spool, TransportRefused for a transport that cannot
    be used, OSError when the spool cannot be written.
    """
    shipper = Shipper(settings, connector(settings.transport), background=background, tell=tell)
    shipper.main(GIVE_WAY_SECONDS if background else 0.0)


def once(settings: Settings) -> Counts:
    """Ship what is in the spool now, with the ends of abandoned writers; return what was.

    Raises as `serve`, and TransportError when the transport cannot be reached.
    """
    shipper = Shipper(settings, connector(settings.transport), once=True)
    shipper.main(0.0)
    return shipper.counts


def serves(settings: Settings) -> bool:
    """Return whether a shipper serves this spool."""
    return Desk(settings.spool).taken


class Shipper:
    """The loop around sessions. `connect` makes a new transport for each."""

    def __init__(
        self,
        settings: Settings,
        connect: Callable[[], Transport],
        *,
        background: bool = False,
        once: bool = False,
        idle_seconds: float = IDLE_SECONDS,
        tell: Callable[..., None] = quiet,
    ) -> None:
        self._tell = tell
        self.counts = Counts()
        self.stopping = False
        self._settings, self._connect = settings, connect
        self._background, self._once, self._idle_seconds = background, once, idle_seconds
        self._tell = tell
        self._desk = Desk(settings.spool)
        self._note: Callable[..., None] = _silent
        self._connected = False
        self._failing = ""
        self._refused = False
        self._upkept_at = 0.0
        self._alive_at = time.monotonic()
        self._given_way = False

    def main(self, patience_seconds: float) -> None:
        """Take the lock, waiting for it so long, and ship."""
        until = time.monotonic() + patience_seconds
        if patience_seconds and self._desk.taken:
            self._desk.want(self._settings.transport)
        while True:
            try:
                with self._desk.hold():
                    return self._main()
            except Busy:
                if time.monotonic() > until or not self._another_leaves():
                    raise
            time.sleep(0.1)

    def stop(self, *_: Any) -> None:
        """End soon: to be called from a signal handler; a second time, at once."""
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True

    # -- the loop

    def _another_leaves(self) -> bool:
        """Whether the shipper that serves is of another transport, and so gives way."""
        mark = self._desk.heard().get("transport_id")
        return mark is not None and mark != fingerprint(self._settings.transport)

    def _main(self) -> None:
        self._note = Journal(self._desk.log)
        self._desk.want(self._settings.transport)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        self._note("shipper started", to=self._shown)
        pause = SHORTEST_SECONDS
        while is_locked(self._settings.home / "worker" / "lock") and not self._over():
            # From a time without a transport; only one may release what lies in a spool.
            self._failing = "an ingest worker still reads this spool; it ends soon after its runs"
            self._note("waiting for an ingest worker to end")
            self._pause(UPKEEP_SECONDS)
        while not self._over():
            before = self.counts.records
            try:
                asyncio.run(self._session())
                return
            except TransportError as error:
                self._failed(error)
            if self.counts.records > before:
                pause = SHORTEST_SECONDS
            self._pause(pause * random.uniform(0.7, 1.3))
            pause = min(pause * 2, LONGEST_SECONDS)

    def _failed(self, error: TransportError) -> None:
        """Note a failure; raise it where nobody is served by another try."""
        self._failing, self._refused = str(error), error.permanent
        self.counts.retries += 1
        self._note("shipping failed, trying again", error=str(error))
        self._upkeep(force=True)
        if self._once or (error.permanent and not self._background and not self._connected):
            raise error

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._over():
            self._upkeep()
            time.sleep(0.05)

    def _over(self) -> bool:
        """Whether to end while nothing can be sent."""
        if self.stopping or self._given_way or not self._desk.ours:
            return True
        if not self._background or (self._failing and not self._refused):
            return False
        return self._idle(len(writers(self._settings.spool)) == 0 or self._abandoned())

    def _abandoned(self) -> bool:
        """Whether nobody who captures lives."""
        abandoned(self._settings.spool)
        return all(has_ended(path) for path in writers(self._settings.spool))

    def _idle(self, nothing: bool) -> bool:
        now = time.monotonic()
        if not nothing:
            self._alive_at = now
        return now - self._alive_at >= self._idle_seconds

    # -- one connection

    async def _session(self) -> None:
        transport = self._connect()
        rota = Rota(self._settings.spool, max_open=MAX_OPEN, note=self._note)
        session: Optional[Session] = None
        try:
            await transport.open()
            self._connected, self._failing, self._refused = True, "", False
            session = Session(transport, rota, self.counts, note=self._note)
            await self._ship(session, rota)
        finally:
            if session is not None:
                await session.close()
            rota.close()
            await transport.close()
            self._upkeep(force=True)

    async def _ship(self, session: Session, rota: Rota) -> None:
        busy_at = time.monotonic()
        while not (self.stopping or self._given_way or self._once):
            quiet = time.monotonic() - busy_at > QUIET_SECONDS
            if await session.step(0.1 if quiet else 0.05) or not session.resting:
                busy_at = time.monotonic()
            self._upkeep()
            if not self._desk.ours:
                return
            if self._background and self._idle(rota.live == 0 and session.resting):
                return
        await self._drain(session, rota)

    async def _drain(self, session: Session, rota: Rota) -> None:
        """Ship what is there at this moment; bounded, where somebody waits for our end."""
        moment = time.monotonic()
        while not (rota.dry_since(moment) and session.resting):
            if not self._once and time.monotonic() - moment > STOP_SECONDS:
                return
            await session.step(0.02, flush=True)
            self._upkeep()

    # -- beside it

    @property
    def _shown(self) -> str:
        return Secret(self._settings.transport).masked

    def _upkeep(self, force: bool = False) -> None:
        now = time.monotonic()
        if now - self._upkept_at < UPKEEP_SECONDS and not force:
            return
        self._upkept_at = now
        self.counts.dropped_bytes += make_room(self._settings, self._note)
        self._given_way = self._desk.wants_another(self._settings.transport)
        doing = {
            "connected": self._connected,
            "failing": self._failing,
            "refused": self._refused,
            **asdict(self.counts),
        }
        self._tell(**doing)
        self._desk.say(
            pid=os.getpid(),
            time=time.time(),
            transport=self._shown,
            transport_id=fingerprint(self._settings.transport),
            **doing,
        )


__all__ = ["Busy", "Shipper", "once", "serve", "serves"]
