"""Questions to a store, asked at once or beside what goes on.

A store across a network takes its time; who shows live lines meanwhile asks in a thread. Such a
thread holds up nobody's end: it is a daemon, and what it learns too late is for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeAlias, TypeVar

Answer = TypeVar("Answer")

#: Takes a question, gives its answer; the future has the error where there was one.
Ask: TypeAlias = Callable[[Callable[[], Any]], "Future[Any]"]


def at_once(question: Callable[[], Answer]) -> Future[Answer]:
    """Ask now: the answer is there when this returns."""
    future: Future[Answer] = Future()
    _settle(future, question)
    return future


def beside(question: Callable[[], Answer]) -> Future[Answer]:
    """Ask in a thread of its own."""
    future: Future[Answer] = Future()
    thread = threading.Thread(
        target=_settle, args=(future, question), daemon=True, name="loghaul-ask"
    )
    thread.start()
    return future


def _settle(future: Future[Answer], question: Callable[[], Answer]) -> None:
    try:
        found = question()
    except Exception as error:  # noqa: BLE001 - it is raised where the answer is asked for
        future.set_exception(error)
    else:
        future.set_result(found)


class Inquiry(Generic[Answer]):
    """One question that is asked again and again, one at a time.

    asked      how often it was asked
    answered   up to which of these there is an answer
    """

    def __init__(self, ask: Ask, question: Callable[[], Answer]) -> None:
        self._ask, self._question = ask, question
        self._pending: Future[Answer] | None = None
        self._again = False
        self.asked = self.answered = 0

    def put(self) -> None:
        """Ask; where an answer is still out, after that."""
        self._again = self._pending is not None
        if not self._again:
            self.asked += 1
            self._pending = self._ask(self._question)

    def answer(self) -> Answer | None:
        """Return what was answered since the last call; None: nothing. Raises its error."""
        if self._pending is None or not self._pending.done():
            return None
        pending, self._pending = self._pending, None
        self.answered = self.asked
        if self._again:
            self.put()
        return pending.result()
