"""Who listens in on what a worker ingests: live tail, alerts.

A tap sees every chunk as it was decoded, before it is known whether its bytes are new: after a
restart some come again. It runs on the worker's thread and must be short; what it raises is
reported and goes no further.
"""

from __future__ import annotations

from collections.abc import Callable

from loghaul.chunk import Chunk

Tap = Callable[[Chunk], None]
