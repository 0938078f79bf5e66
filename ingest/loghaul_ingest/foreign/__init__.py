"""Records of others, on the topic or in a file: Fluent Bit, Vector, OTLP, docker, CRI, plain lines.

`adapt` is a pure function from a record to what it says; `Foreign` gives that a place in streams,
so that a repeated record is recognised by its position.
"""

from __future__ import annotations

from loghaul_ingest.foreign.detect import FORMATS, adapt
from loghaul_ingest.foreign.entry import Entry, ForeignError, Producer
from loghaul_ingest.foreign.stage import Foreign, is_foreign

__all__ = ["FORMATS", "Entry", "Foreign", "ForeignError", "Producer", "adapt", "is_foreign"]
