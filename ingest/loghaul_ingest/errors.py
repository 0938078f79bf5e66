"""Every error that the server side raises on purpose.

    IngestError             base; `permanent` decides between retry and dead letter
    ├── StoreError          a store cannot answer or write
    │   ├── StoreAway       it does not answer just now, or is not ready yet
    │   ├── StoreHungUp     it ended the connection: it starts, ends, or is something else
    │   └── StoreDamaged    it answers, but what it holds is broken
    ├── SourceError         chunks cannot be fetched
    ├── NotFound            no such run, file, line                  (exit code 3)
    └── UsageError          the request makes no sense               (exit code 2)

Messages say what failed and what happens next or what to do.
"""

from __future__ import annotations


class IngestError(Exception):
    """Base of all. `permanent`: trying again cannot help."""

    permanent = False


class StoreError(IngestError):
    """A store cannot answer or write."""


class StoreAway(StoreError):
    """A store does not answer just now, or is not ready yet: a server waits for it."""


class StoreHungUp(StoreError):
    """It ended the connection: one that starts or ends does so, and a server of another kind."""


class StoreDamaged(StoreError):
    """A store holds something broken; the message names what and how to go on."""

    permanent = True


class SourceError(IngestError):
    """Chunks cannot be fetched."""


class NotFound(IngestError):
    """There is no such run, file or line."""

    permanent = True


class UsageError(IngestError):
    """The request makes no sense; the message says what would."""

    permanent = True
