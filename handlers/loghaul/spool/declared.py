"""A stream as its writer declared it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Optional


class Declared(NamedTuple):
    """A stream of a writer.

    number     within the writer, from 0 in order of declaration
    name       identity within the writer, as in StreamKey
    kind       "text", "events" or "blob"
    path       of the file it belongs to, in the tree of its node
    iostream   "stdout", "stderr" or None
    digest     its writer hashes every byte
    facts      further ECS fields that are the same for the whole stream
    """

    number: int
    name: str
    kind: str
    path: str
    iostream: Optional[str]
    facts: dict[str, Any]
    digest: bool = False

    def encode(self) -> bytes:
        """Return the payload of a DECLARE record."""
        body = self._asdict()
        del body["number"]
        return json.dumps(body, separators=(",", ":"), default=str).encode()

    @classmethod
    def decode(cls, number: int, payload: bytes) -> Declared:
        """Return the stream of a DECLARE record; unknown keys of a newer writer are ignored."""
        body = json.loads(payload)
        return cls(
            number,
            body["name"],
            body["kind"],
            body["path"],
            body["iostream"],
            body["facts"],
            body["digest"],
        )

    def common(self) -> dict[str, Any]:
        """Return the ECS fields that the declaration adds to those of the writer."""
        fields = {"log.file.path": self.path, **self.facts}
        if self.iostream is not None:
            fields["log.iostream"] = self.iostream
        return fields
