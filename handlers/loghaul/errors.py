"""Every error that loghaul's client raises on purpose.

    LoghaulError                base; `permanent` decides between retry and giving up
    ├── SettingsError           a setting has a value that cannot be used
    ├── ChunkError              a record on the way is not a chunk, or was altered
    ├── SpoolError              the spool cannot be opened or created
    │   └── SpoolFormatError    it was written by a newer loghaul
    └── TransportError          records cannot be sent for the time being
        └── TransportRefused    they never will: settings, rights or the topic have to change

None of them reaches a training script: `Handler`, the processor and the hook count and report
them through `loghaul.health`.
"""

from __future__ import annotations


class LoghaulError(Exception):
    """Base of all. `permanent`: trying again cannot help."""

    permanent = True


class SettingsError(LoghaulError):
    """A setting has a value that cannot be used; the message names it and what is valid."""


class ChunkError(LoghaulError):
    """A record on the way is not a chunk, or its bytes were altered."""


class SpoolError(LoghaulError):
    """The spool cannot be opened or created; may get better (permissions, space)."""

    permanent = False


class SpoolFormatError(SpoolError):
    """A spool directory was written by a newer loghaul."""

    permanent = True


class TransportError(LoghaulError):
    """Records cannot be sent for the time being; what was not acknowledged is sent again."""

    permanent = False


class TransportRefused(TransportError):
    """Trying again cannot help: settings, rights or the topic have to change."""

    permanent = True
