"""Dictionaries of a run: when one is trained, and from what."""

from __future__ import annotations

import sqlite3

import zstandard

from loghaul_ingest.stores.sqlite.codec import Codec

#: Bytes of one dictionary: 8 KiB are worse, 32 KiB no better.
DICTIONARY_BYTES = 16 * 1024

#: A dictionary is trained when a run holds so much: its beginning is not like the rest of it.
THRESHOLDS = (1 << 20, 1 << 24, 1 << 28)

#: Samples are taken from so many pieces of the latest blocks, spread evenly. More of them, and
#: letting zstd search for the lengths of segment and d-mer, save nothing and cost 8 times as much.
_SAMPLE_BYTES = 2048
_MOST_PIECES = 768
_SAMPLED_BYTES = 512 * 1024
_SEGMENT_BYTES, _DMER_BYTES = 1024, 8


def learn(connection: sqlite3.Connection, codec: Codec) -> int:
    """Let a codec learn the dictionaries of a run, the latest last; return how many."""
    rows = connection.execute("SELECT data FROM dictionaries ORDER BY id").fetchall()
    for (data,) in rows:
        if data:
            codec.use(data)
    return len(rows)


def number(connection: sqlite3.Connection) -> int:
    """Return how many dictionaries a run has."""
    return int(connection.execute("SELECT count(*) FROM dictionaries").fetchone()[0])


def due(connection: sqlite3.Connection, known: int) -> bool:
    """Return whether a run has grown so much that another dictionary should be trained."""
    (raw,) = connection.execute("SELECT value FROM meta WHERE name = 'raw_bytes'").fetchone()
    return known < len(THRESHOLDS) and raw >= THRESHOLDS[known]


def train(connection: sqlite3.Connection, codec: Codec, known: int) -> int:
    """Train a dictionary on the latest blocks and learn it; return how many there are now.

    Needs no exclusiveness: of two workers that train at once one is kept.
    """
    rows = connection.execute(
        "SELECT data FROM content JOIN blocks USING (id) JOIN streams ON streams.id = stream "
        "WHERE kind != 'blob' ORDER BY content.id DESC LIMIT ?",
        (_MOST_PIECES,),
    )
    pieces: list[bytes | bytearray | memoryview] = []
    for (packed,) in rows:
        if len(pieces) >= _MOST_PIECES:
            break
        data = codec.unpack(packed)
        pieces += [
            data[start : start + _SAMPLE_BYTES] for start in range(0, len(data), _SAMPLE_BYTES)
        ]
    every = sum(map(len, pieces)) // _SAMPLED_BYTES + 1
    try:
        trained = zstandard.train_dictionary(
            DICTIONARY_BYTES, pieces[::every], k=_SEGMENT_BYTES, d=_DMER_BYTES
        ).as_bytes()
    except zstandard.ZstdError:
        # Nothing in common, or too little of it: an empty place keeps it from being tried again.
        trained = b""
    connection.execute("INSERT OR IGNORE INTO dictionaries VALUES (?, ?)", (known + 1, trained))
    return learn(connection, codec)
