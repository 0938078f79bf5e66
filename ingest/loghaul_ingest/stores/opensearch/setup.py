"""Templates and indices: made when absent, and never written to when they are not what they must.

    make(client, ...)     create what is absent; idempotent
    check(client, ...)    what is wrong, as sentences that say how to mend it

A writer is refused when a template is newer, was changed or is overruled by another one, when an
index acknowledges what is not on disk, and when the clocks differ. Sizes (shards, replicas, refresh
interval, allocation) are the operator's to change.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from loghaul_ingest.errors import StoreError
from loghaul_ingest.stores.opensearch.client import Client
from loghaul_ingest.stores.opensearch.failures import Failed
from loghaul_ingest.stores.opensearch.mapping import VERSION, Template, templates
from loghaul_ingest.stores.opensearch.names import Names

#: Settings that make a store what it is; all others may be changed.
_OURS = ("index.translog.durability", "index.analysis.")
#: Start, deletion and age of runs are compared across machines: clocks may differ by so much.
CLOCK_SECONDS = 300.0
_EXISTS = "resource_already_exists_exception"


class Finding(NamedTuple):
    """Something about a cluster. `fatal`: a writer must not start."""

    fatal: bool
    text: str


class Unsafe(StoreError):
    """The cluster is set up so that a promise would break; the message says how to mend it."""

    permanent = True


def ready(client: Client, names: Names) -> list[str]:
    """Make what is absent; return warnings. Raises Unsafe."""
    make(client, names)
    found = check(client, names)
    for finding in found:
        if finding.fatal:
            raise Unsafe(finding.text)
    return [finding.text for finding in found]


def make(client: Client, names: Names) -> list[str]:
    """Create the templates and indices that are absent; return what was, each by kind and name."""
    made = []
    for name, template in wanted(client, names).items():
        if _template(client, name) is None:
            client.call("PUT", f"/_index_template/{name}", template)
            made.append(f"template {name}")
    for index in (names.streams, names.runs):
        if create_index(client, index):
            made.append(f"index {index}")
    return made


def create_index(client: Client, index: str) -> bool:
    """Create an index from its template; False when it is there already."""
    if client.call("HEAD", f"/{index}"):  # the driver makes False of a 404
        return False
    try:
        client.call("PUT", f"/{index}")
    except Failed as error:
        if error.kind == _EXISTS:
            return False
        raise
    return True


def check(client: Client, names: Names) -> list[Finding]:
    """Return what is to be said about the cluster; nothing is changed."""
    found: list[Finding] = []
    for name, template in wanted(client, names).items():
        found += _compared(name, template, _template(client, name)) or _overruled(
            client, name, template
        )
    return [*found, *_of_indices(client, names), *_of_clock(client)]


def wanted(client: Client, names: Names) -> dict[str, Template]:
    """Return the templates as this version makes them."""
    options = client.address.options
    return templates(names, int(options.get("shards", 1)), options.get("replicas"))


def _template(client: Client, name: str) -> Template | None:
    try:
        reply = client.call("GET", f"/_index_template/{name}", flat_settings=True)
    except Failed as error:
        if error.status == 404:
            return None
        raise
    found: Template = reply["index_templates"][0]["index_template"]
    return found


def _compared(name: str, ours: Template, theirs: Template | None) -> list[Finding]:
    if theirs is None:
        return [Finding(True, f"the index template {name} is absent: run `loghaul setup`")]
    version = theirs.get("version")
    if isinstance(version, int) and version > VERSION:
        text = (
            f"the index template {name} has version {version}, this loghaul knows {VERSION}: "
            "install the newer loghaul here too"
        )
        return [Finding(True, text)]
    drifted = _differing(theirs.get("template", {}), ours)
    if theirs.get("index_patterns") != ours["index_patterns"]:
        drifted.append("patterns")
    if drifted or version != VERSION:
        text = (
            f"the index template {name} was changed ({', '.join(drifted) or 'version'}): restore "
            f"it by deleting it (DELETE /_index_template/{name}) and starting again, which makes "
            "it anew"
        )
        return [Finding(True, text)]
    return []


def _overruled(client: Client, name: str, ours: Template) -> list[Finding]:
    """What another template of higher priority makes of an index that is created now."""
    index = ours["index_patterns"][0].replace("*", "2000.01")
    try:
        reply = client.call("POST", f"/_index_template/_simulate_index/{index}")
    except Failed as error:
        if error.status in (400, 403, 404, 405):
            return []  # not for this user, or not there: nothing is known
        raise
    differing = _differing(reply["template"], ours) if "template" in reply else []
    if not differing:
        return []
    every = client.call("GET", "/_index_template")["index_templates"]
    above = [
        one["name"]
        for one in every
        if one["index_template"].get("priority", 0) > ours["priority"]
        and any(fnmatchcase(index, pattern) for pattern in one["index_template"]["index_patterns"])
    ]
    text = (
        f"the index template {name} is overruled ({', '.join(differing)}) by {', '.join(above)}: "
        f"give that a priority below {ours['priority']}, or leave {ours['index_patterns'][0]} out "
        "of its patterns"
    )
    return [Finding(True, text)]


def _differing(template: Mapping[str, Any], ours: Template) -> list[str]:
    """Return which of what makes a store what it is differs from ours."""
    found = []
    if template.get("mappings") != ours["template"]["mappings"]:
        found.append("mappings")
    if _guarded(template) != _guarded(ours["template"]):
        found.append("settings")
    return found


def _guarded(template: Mapping[str, Any]) -> dict[str, str]:
    flat = dict(_flat("", template.get("settings", {})))
    return {name: value for name, value in flat.items() if name.startswith(_OURS)}


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}" if path else str(name), inner)
    else:
        yield path, str(value)


def _of_indices(client: Client, names: Names) -> Iterator[Finding]:
    reply = client.call(
        "GET",
        f"/{names.blocks()},{names.streams},{names.runs}/_settings",
        flat_settings=True,
        ignore_unavailable=True,
        allow_no_indices=True,
    )
    nodes = None
    for index, found in sorted(reply.items()):
        settings = found.get("settings", {})
        if settings.get("index.translog.durability", "request") != "request":
            yield Finding(
                True,
                f"the index {index} acknowledges writes before they are on disk: PUT "
                f'/{index}/_settings {{"index.translog.durability": "request"}}',
            )
        if settings.get("index.number_of_replicas") == "0":
            nodes = nodes or _data_nodes(client)
            if nodes > 1:
                yield Finding(
                    False,
                    f"the index {index} has no replica although there are {nodes} data nodes: a "
                    "lost disk loses its blocks",
                )


def _data_nodes(client: Client) -> int:
    return int(client.call("GET", "/_cluster/health")["number_of_data_nodes"])


def _of_clock(client: Client) -> list[Finding]:
    """What is to be said of the clocks; a reply of OpenSearch has no date, its statistics have."""
    begun = time.time()
    try:
        reply = client.call("GET", "/_nodes/_local/stats/os", filter_path="nodes.*.timestamp")
    except Failed as error:
        if error.status in (400, 403, 404, 405):
            return []  # not for this user: nothing is known
        raise
    theirs = [node["timestamp"] / 1000 for node in reply.get("nodes", {}).values()]
    if not theirs or begun - CLOCK_SECONDS <= theirs[0] <= time.time() + CLOCK_SECONDS:
        return []
    off = timedelta(seconds=round(abs(begun - theirs[0])))
    which = "behind" if begun < theirs[0] else "ahead of"
    text = (
        f"the clock of this machine is {off} {which} that of OpenSearch at {client.address}: set "
        "both by NTP; runs are ordered and deleted by it"
    )
    return [Finding(True, text)]
