"""The shipper: moves chunks from the spool into a transport, and marks them as done.

What it promises: a segment is freed only when every byte of it is durable on the other end.
Whatever fails, what was not acknowledged is sent again, from the last position that was released
on, over a new connection, for ever; the worker recognises repeats by arithmetic. Nothing grows with
the backlog, and no writer keeps the others waiting.
"""

from __future__ import annotations

from loghaul.shipper.node import Busy, once, serve, serves

__all__ = ["Busy", "once", "serve", "serves"]
