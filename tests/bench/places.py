"""Where a benchmark works: in folders, or in a topic and under a prefix of its own on engines."""

from __future__ import annotations

import os
import uuid

from bench_kafka import topic

from loghaul import config


def prepare(fresh_seconds: float | None = None) -> config.Settings:
    """Return the settings that the environment makes; of engines, names that nobody used before.

    They are put into the environment, for commands that are started.
    """
    transport, store = os.environ.get("LOGHAUL_TRANSPORT"), os.environ.get("LOGHAUL_STORE")
    if transport:
        servers = transport.partition("://")[2].partition("/")[0]
        os.environ["LOGHAUL_TRANSPORT"] = f"kafka://{servers}/{topic(servers)}"
    if store and "://" in store and not store.startswith("sqlite"):
        query = "" if fresh_seconds is None else f"?fresh_seconds={fresh_seconds:g}"
        os.environ["LOGHAUL_STORE"] = f"{store.rpartition('/')[0]}/bench-{uuid.uuid4().hex[:6]}"
        os.environ["LOGHAUL_STORE"] += query
    return config.load()
