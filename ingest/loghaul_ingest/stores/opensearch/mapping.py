"""The index templates: what OpenSearch knows of a block, a stream, a run.

Words, heads and bytes are left out of `_source`, for they are read from fields of their own. The
recovery source, which OpenSearch keeps beside such a source until no copy of the shard needs it
any more, stays on: without it a replica that catches up silently loses the left-out fields
(reproduced: half of the blocks had no words, health green). Merges remove it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from loghaul_ingest.levels import SEVERITY
from loghaul_ingest.stores.opensearch.names import SCHEMA, Names
from loghaul_ingest.words import LONGEST

#: Version of the templates: raised with every change to them.
VERSION = 1

#: Levels that are counted in fields of their own; a block with any other is marked as odd.
LEVELS = tuple(SEVERITY)

#: Fields of a block that are left out of its `_source`.
UNSOURCED = ("words", "words_high", "head", "content")

Template = dict[str, Any]


def templates(names: Names, shards: int, replicas: int | None) -> dict[str, Template]:
    """Return the templates by name."""
    settings: dict[str, Any] = {
        "number_of_shards": shards,
        "refresh_interval": "1s",
        "translog.durability": "request",
    }
    if replicas is None:
        # One copy more wherever there is a second node; a single node is not yellow for ever.
        settings["auto_expand_replicas"] = "0-1"
    else:
        settings["number_of_replicas"] = replicas
    small = {**settings, "number_of_shards": 1}
    blocks = names.blocks()
    return {
        blocks.removesuffix("-*"): _template(blocks, {**settings, **_ANALYSIS}, BLOCKS),
        names.streams: _template(names.streams, small, STREAMS),
        names.runs: _template(names.runs, small, RUNS),
    }


def _template(pattern: str, settings: Mapping[str, Any], mappings: Mapping[str, Any]) -> Template:
    return {
        "index_patterns": [pattern],
        "priority": 500,
        "version": VERSION,
        "_meta": {"loghaul": {"schema": SCHEMA, "version": VERSION, "mappings": digest(mappings)}},
        "template": {"settings": {"index": dict(settings)}, "mappings": dict(mappings)},
    }


def digest(mappings: Mapping[str, Any]) -> str:
    """Return a short digest of mappings."""
    raw = orjson.dumps(mappings, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


# Words are words already, and none is longer: the tokenizer must not split what our function gives.
_ANALYSIS = {
    "analysis": {
        "tokenizer": {"words": {"type": "whitespace", "max_token_length": LONGEST}},
        "analyzer": {"words": {"type": "custom", "tokenizer": "words"}},
    }
}

_KEYWORD = {"type": "keyword"}
_LONG = {"type": "long"}
_COUNT = {"type": "integer", "index": False}
_WORDS = {"type": "match_only_text", "analyzer": "words"}

#: run, stream         what `names` calls them
#: end                 offset + length
#: link                see `chains`
#: levels, odd         events per level; whether there are levels not among LEVELS
#: fields              "key=value" that can be asked for
#: head, content       see `content`
BLOCKS: Mapping[str, Any] = {
    "dynamic": "strict",
    "_routing": {"required": True},
    "_source": {"excludes": list(UNSOURCED)},
    "properties": {
        "run": _KEYWORD,
        "stream": _KEYWORD,
        "kind": _KEYWORD,
        "offset": _LONG,
        "end": _LONG,
        "length": {"type": "long", "index": False},
        "link": {"type": "long", "index": False},
        "time_min": _LONG,
        "time_max": _LONG,
        "lines": {"type": "integer"},
        "progress": _COUNT,
        "levels": {"properties": dict.fromkeys(LEVELS, _COUNT)},
        "odd": {"type": "boolean"},
        "fields": {"type": "keyword", "doc_values": False},
        "words": _WORDS,
        "words_high": _WORDS,
        "head": {"type": "binary", "doc_values": True},
        "content": {"type": "binary", "store": True},
    },
}

#: bucket     that all its blocks lie in, decided when the stream is first met
#: facts      packed
STREAMS: Mapping[str, Any] = {
    "dynamic": "strict",
    "_routing": {"required": True},
    "properties": {
        "run": _KEYWORD,
        "stream": _KEYWORD,
        "bucket": _KEYWORD,
        "facts": {"type": "binary"},
    },
}

#: deleted    when, milliseconds; swept: what came late was removed too
RUNS: Mapping[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "run": _KEYWORD,
        "deleted": {"type": "date", "format": "epoch_millis"},
        "swept": {"type": "boolean"},
    },
}
