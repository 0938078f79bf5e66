"""Log files followed into a run: through rotation, and on from where it was after a restart."""

from __future__ import annotations

from loghaul_ingest.tailing.forms import FORMATS
from loghaul_ingest.tailing.session import Session

__all__ = ["FORMATS", "Session"]
