"""Makes a topic what it has to be, and says what is wrong with one: the transport's half of set-up.

    set_up(address, plan, check=False)                       what was done, what is still wrong
    set_up(letters_of(address), plan, check, kind=LETTERS)   of the topic of dead letters

Idempotent: run again, it finds nothing to do. It never lowers what an operator raised, removes no
setting that is not ours, and never adds partitions unless told how many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loghaul.errors import TransportError, TransportRefused
from loghaul.transports.address import Address
from loghaul.transports.kafka import ADMIN_SECONDS, admin
from loghaul.transports.probe import probe
from loghaul.transports.topic import (
    MESSAGE_BYTES,
    RETENTION_MS,
    WANTED,
    Topic,
    durability,
    problems,
    read,
)

REPLICAS = 3
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Plan:
    """What a topic is made with. None: as it is, or the default where it is new."""

    partitions: int | None = None
    replicas: int | None = None
    retention_days: float | None = None


@dataclass(frozen=True)
class Kind:
    """What a topic is for, and so how it has to be.

    wanted          settings that it is given
    message_bytes   a larger limit is left as it is, and so is a longer retention than the least
    problems        why what is sent there is not safe, with how to mend it
    """

    wanted: Mapping[str, str]
    message_bytes: int
    least_retention_ms: int
    retention_days: float
    partitions: int
    problems: Callable[[Topic, Address], list[str]]


@dataclass
class Outcome:
    """done: changes, as sentences. drift: what differs and was left. wrong: what is unsafe."""

    done: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def letters_of(address: Address) -> Address:
    """Return where the dead letters of a topic are."""
    return replace(address, topic=f"{address.topic}-dead-letters")


def _letter_problems(topic: Topic, address: Address) -> list[str]:
    if not topic.partitions:
        what = f"there is no topic {topic.name!r} for dead letters on {address}"
        return [f"{what}: create it with `loghaul setup`"]
    found = [] if address.unsafe or topic.settings is None else durability(topic, topic.settings)
    return [f"topic {topic.name!r} is not safe: {', and '.join(found)}"] if found else []


LINES = Kind(WANTED, MESSAGE_BYTES, RETENTION_MS, 7, 12, problems)

#: Few, to be kept until a person has looked, and in one order: one partition. A letter holds a
#: record of anybody's with its headers once more; what was looked at is a tombstone, which only
#: compaction of segments that are closed takes away.
LETTERS = Kind(
    {
        "cleanup.policy": "compact,delete",
        "max.message.bytes": str(4 * 2**20),
        "unclean.leader.election.enable": "false",
        "segment.ms": str(DAY_MS),
    },
    4 * 2**20,
    30 * DAY_MS,
    90,
    1,
    _letter_problems,
)


async def set_up(address: Address, plan: Plan, check: bool = False, kind: Kind = LINES) -> Outcome:
    """Make the topic, or only look. Raises TransportError."""
    await probe(address)
    outcome = Outcome()
    async with admin(address) as client:
        topic = await read(client, address.topic)
        if not topic.partitions and not check:
            outcome.done.append(await _create(client, topic, plan, kind))
            topic = await _until(client, topic.name, lambda found: found.partitions > 0)
        elif topic.partitions:
            changes = _changes(topic, plan, kind)
            more = plan.partitions if (plan.partitions or 0) > topic.partitions else None
            if check:
                outcome.drift += [
                    f"{name} is {_now(topic, name)}, wanted is {value}"
                    for name, value in changes.items()
                ]
                if more:
                    outcome.drift.append(f"{topic.partitions} partitions, wanted are {more}")
            else:
                outcome.done += await _alter(client, topic, changes)
                outcome.done += await _grow(client, topic, more) if more else []
                topic = await _until(client, topic.name, lambda found: _shows(found, changes, more))
    if (plan.partitions or 10**9) < topic.partitions:
        outcome.drift.append(f"it has {topic.partitions} partitions: Kafka never takes any away")
    outcome.wrong = kind.problems(topic, address)
    return outcome


def _changes(topic: Topic, plan: Plan, kind: Kind) -> dict[str, str]:
    """Return the settings to change."""
    now: Mapping[str, str] = topic.settings or {}
    wanted = {name: value for name, value in kind.wanted.items() if name != "max.message.bytes"}
    if int(now.get("max.message.bytes", kind.message_bytes)) < kind.message_bytes:
        wanted["max.message.bytes"] = kind.wanted["max.message.bytes"]
    if plan.retention_days is not None:
        wanted["retention.ms"] = str(int(plan.retention_days * DAY_MS))
    elif 0 <= int(now.get("retention.ms", "-1")) < kind.least_retention_ms:
        wanted["retention.ms"] = str(int(kind.retention_days * DAY_MS))
    least = int(now.get("min.insync.replicas", "1"))
    if not _safe(least, topic.replicas):
        wanted["min.insync.replicas"] = str(_least(topic.replicas))
    if topic.settings is None:
        return {}
    return {name: value for name, value in wanted.items() if now.get(name) != value}


def _shows(topic: Topic, changes: Mapping[str, str], partitions: int | None) -> bool:
    now = topic.settings or changes
    return topic.partitions >= (partitions or 1) and all(now.get(n) == changes[n] for n in changes)


def _least(replicas: int) -> int:
    """Two copies of what is acknowledged, where there are two; one broker of three may be down."""
    return min(2, replicas)


def _safe(least: int, replicas: int) -> bool:
    return _least(replicas) <= least <= replicas


def _now(topic: Topic, name: str) -> str:
    return (topic.settings or {}).get(name, "unknown")


async def _create(client: Any, topic: Topic, plan: Plan, kind: Kind) -> str:
    from aiokafka.admin import NewTopic

    partitions = plan.partitions or kind.partitions
    replicas = plan.replicas or min(REPLICAS, topic.brokers)
    days = kind.retention_days if plan.retention_days is None else plan.retention_days
    settings = {
        **kind.wanted,
        "retention.ms": str(int(days * DAY_MS)),
        "min.insync.replicas": str(_least(replicas)),
    }
    new = NewTopic(topic.name, partitions, replicas, topic_configs=settings)
    response = await client.create_topics([new])
    for row in response.topic_errors:
        _raise_for(f"the topic {topic.name!r} cannot be created", row[1], row[2])
    size = f"{partitions} partitions, {replicas} replicas, {days:g} days"
    return f"topic {topic.name!r} created: {size}"


async def _until(client: Any, name: str, true: Callable[[Topic], bool]) -> Topic:
    """Wait until the brokers have learned a change that was just made."""
    for _ in range(int(ADMIN_SECONDS * 10)):
        found = await read(client, name)
        if true(found):
            return found
        await asyncio.sleep(0.1)
    raise TransportError(f"the change of the topic {name!r} was taken and is not to be seen")


async def _alter(client: Any, topic: Topic, changes: Mapping[str, str]) -> list[str]:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    if not changes:
        return []
    # This request replaces all settings of a topic: its other ones have to be in it.
    settings = {**topic.own, **changes}
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=settings)
    for response in await client.alter_configs([resource]):
        for row in response.resources:
            _raise_for(f"the topic {topic.name!r} cannot be changed", row[0], row[1])
    return [f"{name} was {_now(topic, name)}, is {value}" for name, value in changes.items()]


async def _grow(client: Any, topic: Topic, count: int) -> list[str]:
    from aiokafka.admin import NewPartitions

    response = await client.create_partitions({topic.name: NewPartitions(count)})
    for row in response.topic_errors:
        _raise_for(f"the topic {topic.name!r} takes no more partitions", row[1], row[2])
    return [f"it had {topic.partitions} partitions, has {count}; streams that exist do not move"]


def _raise_for(what: str, code: int, message: str | None) -> None:
    from aiokafka import errors

    if code:
        error = errors.for_code(code)
        if error.__name__ == "TopicAlreadyExistsError":
            return
        raise TransportRefused(f"{what}: {message or error.description or error.__name__}")
