"""Whether a process of the pipeline is alive, and whether it does its work: told by its own loop.

    alive()   "" or why not: its event loop turns, and its rounds come to an end
    ready()   "" or why not: alive, has its share of the source, the store takes what it is given,
              and what waits becomes less

A failure that lasts no longer than the patience is no news, where it worked before: brokers and
stores restart. The loop calls `pulse`, `beat` and `failed`; another thread asks. Every answer is
computed when it is asked for, so that a loop that stands still is found out although it says
nothing any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: How long a failure, or work without progress, is borne before `ready` says no.
PATIENCE_SECONDS = 30.0
#: How long the event loop may be busy with one thing.
PULSE_SECONDS = 30.0
#: How long one round of the loop may take while nothing is being tried again.
ROUND_SECONDS = 120.0


class Vitals:
    """Signs of life of one loop. Times are seconds of a clock that only goes forward."""

    def __init__(
        self,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        pulse_seconds: float = PULSE_SECONDS,
    ) -> None:
        self.assigned = True
        self._begun = False
        self._patience, self._clock, self._pulse = patience_seconds, clock, pulse_seconds
        self._pulse_at = self._beat_at = self._moved_at = clock()
        self._failing: dict[str, tuple[float, str]] = {}
        self._proved: set[str] = set()
        self._waiting_since: float | None = None
        self._progress = 0

    # -- the loop

    def pulse(self) -> None:
        """The event loop turns."""
        self._begun = True
        self._pulse_at = self._clock()

    def beat(self, progress: int, waiting: bool) -> None:
        """A round is over. `progress`: any number that changes when something was done."""
        self.pulse()
        now = self._beat_at = self._pulse_at
        if progress != self._progress:
            self._progress, self._moved_at = progress, now
        if not waiting:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now

    def failed(self, what: str, reason: str) -> None:
        """Something failed and is tried again."""
        since, _ = self._failing.get(what, (self._clock(), ""))
        self._failing[what] = since, reason

    def worked(self, what: str) -> None:
        """It did not fail this time."""
        self._proved.add(what)
        if self._failing:
            self._failing.pop(what, None)

    # -- who asks

    @property
    def waiting(self) -> bool:
        """Whether there was work when the last round was over."""
        return self._waiting_since is not None

    def still_seconds(self) -> float:
        """Return for how long nothing was done, be there work or not."""
        return self._clock() - self._moved_at

    def alive(self) -> str:
        """Return why this process should be restarted; "" when it should not.

        Before the first round there is nothing to be judged by: connecting takes as long as the
        other end is away.
        """
        if not self._begun:
            return ""
        now = self._clock()
        if now - self._pulse_at > self._pulse:
            return f"the event loop has stood still for {now - self._pulse_at:.0f} s"
        if now - self._beat_at > ROUND_SECONDS and not self._failing:
            return f"a round of work has not ended for {now - self._beat_at:.0f} s"
        return ""

    def ready(self) -> str:
        """Return why nothing is being moved; "" when it is, or when there is nothing to move."""
        now = self._clock()
        if not self._begun:
            return "not connected to its source yet"
        if reason := self.alive():
            return reason
        if not self.assigned:
            return "nothing of the source is assigned to this process yet"
        for what, (since, reason) in list(self._failing.items()):
            if now - since > self._patience or what not in self._proved:
                return f"{what} has failed for {now - since:.0f} s: {reason}"
        if now - self._beat_at > self._patience:
            return f"a round of work has not ended for {now - self._beat_at:.0f} s"
        if self._waiting_since is not None:
            still = now - max(self._waiting_since, self._moved_at)
            if still > self._patience:
                return f"there is work, and none of it was done for {still:.0f} s"
        return ""
