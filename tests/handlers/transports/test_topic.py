"""Which topics keep what they acknowledge, and what is said of those that do not."""

import pytest

from loghaul.transports.address import parse
from loghaul.transports.topic import Topic, problems

ADDRESS = parse("kafka://h/logs")
SAFE = {
    "min.insync.replicas": "2",
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "retention.ms": "604800000",
    "unclean.leader.election.enable": "false",
}


def of(replicas=3, brokers=3, **settings):
    changed = {name.replace("_", "."): value for name, value in settings.items()}
    return Topic("c", "logs", brokers, 12, replicas, {**SAFE, **changed})


def test_a_topic_as_set_up_makes_it_is_safe():
    assert problems(of(), ADDRESS) == []
    assert problems(of(1, 1, min_insync_replicas="1"), ADDRESS) == []
    assert problems(of(2, 2), ADDRESS) == []


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        (Topic("c", "logs", 3), "no topic 'logs'"),
        (of(cleanup_policy="compact,delete"), "cleanup.policy"),
        (of(max_message_bytes="262144"), "max.message.bytes is below"),
        (of(retention_ms="1000"), "retention.ms=1000"),
        (of(min_insync_replicas="1"), "min.insync.replicas=1 acknowledges"),
        (of(2, 3, min_insync_replicas="3"), "takes no record"),
        (of(1, 3, min_insync_replicas="1"), "a single replica"),
        (of(unclean_leader_election_enable="true"), "unclean.leader.election"),
    ],
)
def test_a_topic_that_loses_lines_is_refused_with_how_to_mend_it(topic, said):
    (found,) = problems(topic, ADDRESS)
    assert said in found
    assert "loghaul setup" in found


def test_who_asks_for_it_may_send_where_lines_can_be_lost():
    unsafe = parse("kafka://h/logs?unsafe=yes")
    assert problems(of(1, 3, min_insync_replicas="1"), unsafe) == []
    assert problems(of(cleanup_policy="compact"), unsafe) != []


def test_settings_that_may_not_be_read_are_not_judged():
    assert problems(Topic("c", "logs", 3, 12, 3, None), ADDRESS) == []
