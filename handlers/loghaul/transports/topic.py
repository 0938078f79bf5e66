"""What a topic has to be like, so that an acknowledged line is a kept line.

`read` asks a cluster, `problems` judges; `loghaul setup` makes topics that have none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional

from loghaul.errors import TransportError, TransportRefused
from loghaul.transports.address import Address
from loghaul.transports.base import RECORD_BYTES

#: What a topic has to take: a record that does not compress, with what Kafka puts around it.
MESSAGE_BYTES = RECORD_BYTES + 16 * 1024
#: Less than this, and lines are gone before a worker that was down for a night has read them.
RETENTION_MS = 3600_000

#: Settings that `loghaul setup` gives a topic; those that are `EXACT` are also held to.
WANTED = {
    "cleanup.policy": "delete",
    "max.message.bytes": "2097152",
    # The brokers' clock: by that of a node which is far behind records would expire on arrival, and
    # one that is ahead could send nothing.
    "message.timestamp.type": "LogAppendTime",
    "unclean.leader.election.enable": "false",
}


@dataclass(frozen=True)
class Topic:
    """What a cluster says of a topic.

    partitions   how many; 0: there is no such topic
    replicas     the least that a partition has
    settings     effective ones by name; None: we may not read them
    own          those set on the topic itself
    """

    cluster: str
    name: str
    brokers: int
    partitions: int = 0
    replicas: int = 0
    settings: Optional[Mapping[str, str]] = None
    own: Mapping[str, str] = field(default_factory=dict)


async def read(admin: Any, name: str) -> Topic:
    """Return what a started aiokafka admin client finds. Raises TransportError."""
    from aiokafka import errors

    try:
        cluster = await admin.describe_cluster()
        found = next(iter(await admin.describe_topics([name])), None) or {"error_code": 3}
        if found["error_code"] and not found.get("partitions"):
            error = errors.for_code(found["error_code"])
            if error is errors.TopicAuthorizationFailedError:
                raise TransportRefused(f"this user may not use the topic {name!r}")
            if error is errors.InvalidTopicError:
                raise TransportRefused(f"{name!r} is no valid name of a topic")
            return Topic(cluster["cluster_id"] or "", name, len(cluster["brokers"]))
        settings, own = await _settings(admin, name)
    except errors.KafkaError as error:
        raise TransportError(f"the cluster does not describe {name!r}: {error!r}") from error
    return Topic(
        cluster["cluster_id"] or "",
        name,
        len(cluster["brokers"]),
        len(found["partitions"]),
        min(len(partition["replicas"]) for partition in found["partitions"]),
        settings,
        own,
    )


async def _settings(admin: Any, name: str) -> tuple[Optional[dict[str, str]], dict[str, str]]:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    resource = ConfigResource(ConfigResourceType.TOPIC, name)
    for response in await admin.describe_configs([resource]):
        for code, _, _, _, entries in response.resources:
            if code:
                return None, {}
            # name, value, read only, source (1: the topic itself), ...
            every = {entry[0]: entry[1] for entry in entries}
            return every, {entry[0]: entry[1] for entry in entries if entry[3] == 1}
    return None, {}


def problems(topic: Topic, address: Address) -> list[str]:
    """Return why what is sent to a topic is not safe there, with how to mend it; [] if it is."""
    name = topic.name
    if not topic.partitions:
        return [f"there is no topic {name!r} on {address}: create it with `loghaul setup`"]
    if topic.settings is None:
        # Only the settings tell, and this user may not read them; whoever set it up did check.
        return []
    found = []
    if "compact" in topic.settings.get("cleanup.policy", "delete"):
        found.append(
            "cleanup.policy=compact keeps the last record of a stream only: set it to delete"
        )
    if int(topic.settings.get("max.message.bytes", MESSAGE_BYTES)) < MESSAGE_BYTES:
        found.append(f"max.message.bytes is below {MESSAGE_BYTES}, the largest record: raise it")
    retention = int(topic.settings.get("retention.ms", "-1"))
    if 0 <= retention < RETENTION_MS:
        found.append(
            f"retention.ms={retention} deletes lines before a worker that was restarted has read "
            f"them: set at least {RETENTION_MS}"
        )
    if not address.unsafe:
        found += durability(topic, topic.settings)
    if not found:
        return []
    return [
        f"topic {name!r} is not safe: {', and '.join(found)} (`loghaul setup` does what it can)"
    ]


def durability(topic: Topic, settings: Mapping[str, str]) -> list[str]:
    """Return why an acknowledged record may be lost, with how to mend it."""
    found = []
    least = int(settings.get("min.insync.replicas", "1"))
    if least > topic.replicas:
        found.append(
            f"min.insync.replicas={least} with {topic.replicas} replicas takes no record: lower it"
        )
    if topic.replicas > 1 and least < 2:
        found.append(
            "min.insync.replicas=1 acknowledges lines that are on one broker only: set it to 2"
        )
    if topic.replicas == 1 and topic.brokers > 2:
        found.append(
            "a single replica is lost with its broker: create it with 3, or accept that with "
            "?unsafe=yes"
        )
    if settings.get("unclean.leader.election.enable") == "true":
        found.append(
            "unclean.leader.election.enable=true forgets acknowledged lines: set it to false"
        )
    return found
