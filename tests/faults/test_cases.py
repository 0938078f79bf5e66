"""The fault cases of log pipelines, F1 to F26: what goes wrong elsewhere is done here on purpose.

On the real engines; what they cannot be brought to do is done by a server between (`between`).
Cases that are held by tests elsewhere are named here, and that those exist is a test too:

    F3  tests/ingest/stores/test_opensearch.py::test_a_request_that_is_too_large_is_halved
    F4  tests/handlers/shipper/test_fitting.py::test_facts_that_are_larger_than_a_record_are_cut_and_say_so
    F4  tests/handlers/spool/test_writer.py::test_an_append_longer_than_a_segment_is_kept_whole
    F4  tests/ingest/test_growing.py::test_a_line_without_an_end_is_cut_by_size_and_its_beginning_goes_along
    F9  tests/ingest/stores/test_opensearch_engine.py::test_what_was_written_survives_kill_minus_nine
    F9  tests/faults/test_engines_killed.py::test_the_ledger_balances_after_twenty_kills_of_everything
    F11 tests/faults/test_kafka_killed.py::test_a_shipper_and_a_worker_that_are_killed_at_any_moment_lose_nothing
    F12 tests/ingest/test_worker.py::test_a_worker_that_lost_a_partition_commits_nothing_of_it
    F12 tests/ingest/test_assemble_simulation.py::test_every_byte_is_stored_exactly_once_whatever_happens_in_between
    F12 tests/faults/test_kafka_killed.py::test_workers_that_come_and_go_hand_their_partitions_over
    F13 tests/ingest/test_worker.py::test_nothing_more_is_fetched_while_the_store_is_slow
    F14 tests/e2e/test_kafka.py::test_what_expired_before_it_was_read_is_a_gap
    F16 tests/ingest/test_kafka_source.py::test_records_that_wait_and_do_not_come_end_the_worker
    F16 tests/ingest/test_metrics.py::test_a_fetch_that_does_not_return_ends_in_a_restart
    F17 tests/faults/test_brokers_killed.py::test_a_broker_that_is_not_there_at_the_start_is_waited_for
    F17 tests/e2e/test_kafka.py::test_a_run_without_a_broker_ends_as_ever_and_says_what_is_left
    F17 tests/handlers/shipper/test_node.py::test_a_full_spool_makes_room_for_new_lines_by_dropping_the_oldest
    F17 tests/handlers/shipper/test_node.py::test_a_user_who_chose_to_wait_loses_nothing
    F17 tests/handlers/spool/test_budget.py::test_debug_is_refused_first_then_info_then_everything
    F18 tests/handlers/shipper/test_session.py::test_an_acknowledgement_that_gets_lost_costs_a_repeat_and_nothing_else
    F18 tests/faults/test_kafka_killed.py::test_a_shipper_and_a_worker_that_are_killed_at_any_moment_lose_nothing
    F19 tests/handlers/spool/test_damage.py::test_a_tail_torn_at_any_byte_costs_only_what_is_gone
    F19 tests/handlers/spool/test_damage.py::test_a_tail_of_zeros_from_any_byte_costs_only_what_is_gone
    F19 tests/handlers/spool/test_damage.py::test_a_flipped_bit_costs_one_record_which_becomes_a_gap
    F20 tests/handlers/spool/test_budget.py::test_a_full_disk_is_a_gap_with_that_reason_and_is_got_over
    F20 tests/handlers/spool/test_budget.py::test_a_disk_that_is_really_full_kills_nobody
    F20 tests/handlers/spool/test_budget.py::test_a_read_only_disk_is_named_too
    F20 tests/e2e/test_bad_input.py::test_a_full_disk_leaves_the_output_alone_and_the_loss_is_a_gap
    F21 tests/handlers/shipper/test_session.py::test_a_backlog_of_any_size_is_on_its_way_in_bounded_pieces
    F21 tests/ingest/test_spool_source.py::test_many_writers_are_read_with_few_files_open
    F24 tests/handlers/shipper/test_session.py::test_new_lines_do_not_stand_behind_an_old_backlog
    F25 tests/contract/test_store.py::test_hostile_names_are_names_like_any_other
    F26 tests/contract/test_store.py::test_candidates_under_way_cover_what_is_compacted_meanwhile
"""  # noqa: E501 - a table

import asyncio
import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from between import Between, answer, break_off, bulk_of, documents
from engines import OpenSearch, services
from ledger import Ledger
from loghaul import config
from loghaul.chunk import EVENTS, TEXT, Chunk, Mark, StreamKey, encode
from loghaul_ingest import group
from loghaul_ingest.dead_letters import DirectoryLetters
from loghaul_ingest.pieces import pieces
from loghaul_ingest.query import parse
from loghaul_ingest.query.proposal import EVERY
from loghaul_ingest.search import Request, count, search
from loghaul_ingest.shell import Pace
from loghaul_ingest.sources.base import Fetched
from loghaul_ingest.sources.kafka import KafkaSource
from loghaul_ingest.sources.memory import MemoryBroker
from loghaul_ingest.sources.watchdog import Stalled
from loghaul_ingest.stack import stack
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.opensearch.names import stream_id
from loghaul_ingest.writing import RETRYING

ROOT = Path(__file__).parents[2]
NOVEMBER = 1_763_884_800_000_000
REFUSED = {"type": "rejected_execution_exception", "reason": "rejected: coordinating operation"}
BLOCKS = "/PREFIX-blocks-v1-2025.11"


def key(name="stdout", run="run-1", writer="ab" * 16):
    return StreamKey(run, writer, name)


def chunk(stream, offset, data, *, kind=TEXT, marks=None, started=NOVEMBER, **common):
    marks = marks or ((Mark(len(data), started),) if data else ())
    common = {"run.id": stream.run, "role": "process", **common}
    return Chunk(stream, kind, offset, data, marks, started, common)


def lines(count, start=0):
    return b"".join(b"line number %06d\n" % number for number in range(start, start + count))


def ask(dsn, method, path, body=None):
    """Plain HTTP to the engine behind a DSN; PREFIX stands for the store's prefix."""
    place, prefix = re.fullmatch(r"opensearch://([^/,]+)[^/]*/([^?]+).*", dsn).groups()
    raw = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    address = f"http://{place}{path.replace('PREFIX', prefix)}"
    request = urllib.request.Request(address, raw, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


class Bench:
    """A worker between a topic in memory and a real OpenSearch, stepped by hand."""

    def __init__(self, store, folder, through=None):
        self.store, self.letters = store, DirectoryLetters(folder)
        self.broker, self.sent, self.notes = MemoryBroker(["p"]), {}, []
        self._runner = asyncio.Runner()
        self.writer, self.reader = open_writer(through or store), open_reader(store)
        self.source = self.broker.join()
        self.worker = self._worker()

    def _worker(self):
        return stack(
            self.source,
            self.writer,
            self.reader,
            self.letters,
            pace=Pace(commit_seconds=0.0),
            note=lambda event, **fields: self.notes.append((event, fields)),
        )

    def send(self, *chunks):
        for one in chunks:
            self.broker.send("p", one)
            self.sent[one.key] = self.sent.get(one.key, b"") + one.data

    def replace_worker(self):
        """The worker is dead: another one gets its partitions."""
        self._runner.run(self.source.close())
        self.source = self.broker.join()
        self.worker = self._worker()

    def kept(self):
        """The dead letters there are."""
        return asyncio.run(self.letters.letters())

    @property
    def committed(self):
        """How many records are committed."""
        return self.broker.committed["p"] + 1

    @property
    def done(self):
        """Whether all that was sent is committed."""
        return self.committed == len(self.broker.records["p"])

    @property
    def retries(self):
        """What was said each time that something was tried again."""
        return [fields["error"] for event, fields in self.notes if event == RETRYING]

    def work(self, until=lambda: False, seconds=30):
        """Step until all is committed, or until something else is true."""
        self._runner.run(self._work(until, seconds))

    async def _work(self, until, seconds):
        end = time.monotonic() + seconds
        while not (until() or self.done):
            assert time.monotonic() < end, self.notes[-3:]
            self.worker.core.flush()
            await self.worker.step(0.02)

    def check(self, but=()):
        """Everything that was sent is there, once."""
        for stream, data in self.sent.items():
            (row,) = [r for r in self.reader.streams(stream.run) if r.facts.stream == stream]
            if stream not in but:
                assert b"".join(item.data for item in pieces(self.reader, row.facts)) == data
                assert row.stored == len(data), "a byte is stored twice"

    def close(self):
        self._runner.run(self.worker.finish())
        self._runner.run(self.writer.close())
        self._runner.close()
        self.reader.close()


@pytest.fixture
def bench(tmp_path):
    made = []

    def make(store, through=None):
        made.append(Bench(store, tmp_path / f"letters-{len(made)}", through))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def store(opensearch_stores):
    return opensearch_stores("2.19")()


@pytest.fixture
def between(store):
    with Between(store.split("/")[2]) as between:
        yield between


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node of these tests alone: for settings of the cluster, and to be stopped and killed."""
    home = tmp_path_factory.mktemp("node")
    yield OpenSearch(home, "2.19", 1)
    services("stop", "--home", home, "--forget")


def test_every_case_is_here_or_where_the_table_says():
    table = re.findall(r"^ +F(\d+) +(\S+)::(\w+)$", __doc__, re.MULTILINE)
    for _, file, name in table:
        assert f"def {name}(" in (ROOT / file).read_text(), (file, name)
    here = re.findall(r"^def test_f(\d\d)_", Path(__file__).read_text(), re.MULTILINE)
    assert {int(one) for one in [*here, *(number for number, _, _ in table)]} == set(range(1, 27))


# OpenSearch refuses


def test_f01_items_of_a_bulk_that_are_refused_for_load_are_sent_again(store, between, bench):
    one = bench(store, between.dsn(store))
    refused = []

    def every_other(send, body):
        pairs = documents(body)
        _, raw = send(bulk_of(pairs[::2]))
        found = json.loads(raw)["items"]
        items = [{"create": {"status": 429, "error": REFUSED}} for _ in pairs]
        items[::2] = found
        refused.append([action["create"]["_id"] for action, _ in pairs[1::2]])
        assert one.committed == 0
        return 200, json.dumps({"took": 1, "errors": True, "items": items}).encode()

    between.faults = [every_other, every_other]
    one.send(*(chunk(key(f"rank-{number}"), 0, lines(20)) for number in range(8)))
    one.work()

    assert between.bulks[1:] == refused, "only what was refused is sent again"
    assert [len(bulk) for bulk in between.bulks] == [8, 4, 2]
    assert all("rejected_execution_exception" in said for said in one.retries)
    assert one.worker.core.counts.repeated_bytes == 0
    one.check()


def swallowed(send, body):
    """A fault: applied, and the reply is lost."""
    send()


def late(send, body):
    """A fault: applied, and the reply comes when nobody waits for it any more."""
    found = send()
    time.sleep(1.6)
    return found


NO_RIGHTS = {"error": {"type": "security_exception", "reason": "no permissions"}, "status": 403}
FAULTS = {
    "f02_all_is_refused_for_load": answer(429, json.dumps({"error": REFUSED}).encode()),
    "f02_a_proxy_is_overloaded": answer(503, b"<html>Service Unavailable</html>"),
    "f02_the_connection_is_reset": break_off,
    "f10_the_reply_is_lost": swallowed,
    "f10_the_reply_is_late": late,
    "f22_the_password_has_changed": answer(401, b"Unauthorized"),
    "f22_the_rights_are_gone": answer(403, json.dumps(NO_RIGHTS).encode()),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_f02_f10_f22_a_bulk_that_fails_is_sent_again_until_it_is_there(
    store, between, bench, fault
):
    one = bench(store, between.dsn(store, timeout_seconds=1))
    committed = []
    between.faults = [lambda *asked: (committed.append(one.committed), fault(*asked))[1]] * 3
    one.send(*(chunk(key(f"rank-{number}"), 0, lines(20)) for number in range(4)))
    one.work()

    assert committed == [0, 0, 0] and len(one.retries) == 3
    assert one.worker.failing is None and not one.kept()
    one.check()


def test_f10_what_was_applied_and_not_answered_is_counted_as_there(store, between, bench):
    one = bench(store, between.dsn(store))
    between.faults = [swallowed]
    one.send(chunk(key(), 0, lines(300)))
    one.work()
    one.send(chunk(key(), len(lines(300)), lines(300, 300)))
    one.work()

    one.check()
    assert count(one.reader, parse("number"), ["run-1"]).total == 600


def test_f22_what_one_may_not_write_is_said_and_never_a_dead_letter(store, between, bench):
    one = bench(store, between.dsn(store))
    between.always = answer(401, b"Unauthorized")
    one.send(chunk(key(), 0, lines(20)))
    one.work(until=lambda: len(one.retries) >= 3)

    assert "put the right ones into the DSN" in one.worker.failing
    assert one.committed == 0 and not one.kept()
    between.always = None
    one.work()
    one.check()


def test_f03_a_body_that_is_too_large_is_halved_down_to_one_block(store, between, bench):
    one = bench(store, between.dsn(store))
    most = 6000

    def small(send, body):
        return (413, b"") if len(body) > most else send()

    between.always = small
    check_halves(one, os.urandom(20_000).hex().encode() + b"\n")


def check_halves(one, noise, lines_each=100):
    """Everything gets through a limit but one block, which becomes a dead letter and a gap."""
    one.send(*(chunk(key(f"rank-{number}"), 0, lines(lines_each)) for number in range(7)))
    one.send(chunk(key("noise"), 0, noise), chunk(key("behind"), 0, lines(10)))
    one.work(seconds=60)

    one.check(but=[key("noise")])
    (letter,) = one.kept()
    assert one.letters.path(letter).read_bytes() == noise
    assert "larger than OpenSearch takes" in letter.about["reason"]
    (row,) = [r for r in one.reader.streams("run-1") if r.facts.stream.stream == "noise"]
    assert [(gap.offset, gap.length) for gap in row.facts.gaps] == [(0, len(noise))]


@pytest.mark.parametrize("field", [{"step": "a"}, {"offset": "a"}, {"time_min": "yesterday"}])
def test_f05_a_document_that_the_mapping_refuses_is_a_dead_letter_alone(
    store, between, bench, field
):
    one = bench(store, between.dsn(store))
    poisoned = stream_id(key("poison"))

    def poison(send, body):
        pairs = documents(body)
        for _, document in pairs:
            if document["stream"] == poisoned:
                document.update(field)
        return send(bulk_of(pairs))

    between.always = poison
    one.send(chunk(key("before"), 0, lines(9)), chunk(key("poison"), 0, lines(5)))
    one.send(chunk(key("after"), 0, lines(9)))
    one.work()

    one.check(but=[key("poison")])
    (letter,) = one.kept()
    assert one.letters.path(letter).read_bytes() == lines(5)
    assert "exception" in letter.about["reason"]
    assert letter.about["chunk"]["offset"] == 0


def test_f06_five_thousand_keys_of_extras_add_no_field_to_the_index(store, bench):
    one = bench(store)
    records = [
        json.dumps({"message": f"step {n}", "extra": {f"key_{n}": n}, "event.severity": 20})
        for n in range(5000)
    ]
    data = "".join(f"{record}\n" for record in records).encode()
    one.send(chunk(key("log"), 0, data[:500], kind=EVENTS))
    one.work()
    before = ask(store, "GET", f"{BLOCKS}/_mapping")
    one.send(chunk(key("log"), 500, data[500:], kind=EVENTS))
    one.work()

    one.check()
    assert ask(store, "GET", f"{BLOCKS}/_mapping") == before
    for number in (0, 2500, 4999):
        assert count(one.reader, parse(f"extra.key_{number}:{number}"), ["run-1"]).total == 1
    assert count(one.reader, parse("extra.key_7:8"), ["run-1"]).total == 0


@pytest.mark.parametrize("setting", ["index.blocks.read_only_allow_delete", "index.blocks.write"])
def test_f07_an_index_without_room_is_waited_for_and_nothing_is_lost(store, bench, setting):
    one = bench(store)
    one.send(chunk(key(), 0, lines(50)))
    one.work()
    ask(store, "PUT", f"{BLOCKS}/_settings", {setting: True})
    one.send(chunk(key(), len(lines(50)), lines(50, 50)), chunk(key("stderr"), 0, lines(9)))
    one.work(until=lambda: len(one.retries) >= 3)

    assert one.committed == 1 and "cluster_block_exception" in one.worker.failing
    ask(store, "PUT", f"{BLOCKS}/_settings", {setting: None})
    one.work()
    one.check()
    assert one.worker.failing is None and not one.kept()


@pytest.mark.timeout(240)
def test_f08_a_cluster_that_takes_no_more_shards_is_waited_for(node, bench):
    store = f"{node.dsn}?fresh_seconds=0"
    one = bench(store)
    most = {"cluster.max_shards_per_node": 1}
    ask(store, "PUT", "/_cluster/settings", {"persistent": most})
    try:
        one.send(*(chunk(key(writer=f"{n:032x}"), 0, lines(20)) for n in range(3)))
        one.work(until=lambda: len(one.retries) >= 3, seconds=60)
        assert one.committed == 0 and "maximum" in one.worker.failing
    finally:
        ask(store, "PUT", "/_cluster/settings", {"persistent": dict.fromkeys(most)})
    one.work(seconds=60)
    one.check()
    # However many runs there are, they share the indices of a month.
    one.send(*(chunk(key(run=f"run-{n}"), 0, lines(2)) for n in range(2, 40)))
    one.work(seconds=60)
    indices = ask(store, "GET", "/_cat/indices/PREFIX-*?format=json&h=index")
    assert len(indices) == 3, indices


# Workers and Kafka


def test_f11_a_worker_that_dies_between_reply_and_commit_repeats_nothing(store, bench):
    one = bench(store)
    one.send(*(chunk(key(), len(lines(n)), lines(100, n)) for n in range(0, 500, 100)))
    commit = one.source.commit

    async def died(positions):
        raise OSError("died")

    one.source.commit = died
    with pytest.raises(OSError, match="died"):
        one.work()
    assert one.committed == 0
    one.source.commit = commit
    one.replace_worker()
    one.work()

    one.check()
    assert one.worker.core.counts.repeated_bytes > 0


@pytest.fixture
def ledger(tmp_path, kafka):
    made = []

    def make(store=None, partitions=3):
        home = tmp_path / "home"
        given = {"store": store} if store else {}
        dsn = kafka.dsn(partitions=partitions)
        name = dsn.rpartition("/")[2]  # one of its own: a worker that was killed keeps its place
        settings = config.load(home=home, transport=dsn, group=name, **given)
        settings.spool.mkdir(parents=True)
        made.append(Ledger(settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.timeout(300)
def test_f13_a_store_that_stands_still_costs_no_partition_and_no_line(node, ledger):
    one = ledger(f"{node.dsn}?fresh_seconds=0&timeout_seconds=5")
    scribe = one.scribe()
    one.start("ship")
    one.start("ingest")
    scribe.write(50)
    one.wait_until_stored()
    pids = [int(file.read_text()) for file in node.home.glob("opensearch-*/pid")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        until = time.monotonic() + 15
        while time.monotonic() < until:
            scribe.write(20)
            time.sleep(0.2)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    scribe.end()
    one.wait_until_stored(90)
    one.wait_until_ended()
    one.check()
    log = (one.settings.home / "worker" / "log").read_text()
    assert log.count('"partitions assigned"') == 1
    assert RETRYING in log


def send_to(dsn, records, **options):
    """Send (value, headers) to partition 0 of a topic; in transactions where an id is given."""
    from aiokafka import AIOKafkaProducer

    _, _, place, topic = dsn.split("/")

    async def send():
        async with AIOKafkaProducer(bootstrap_servers=place, **options) as producer:
            for value, headers in records:
                if options:
                    async with producer.transaction():
                        await producer.send(topic, value, b"key", headers=headers, partition=0)
                else:
                    await producer.send_and_wait(topic, value, b"key", headers=headers, partition=0)

    asyncio.run(send())


def lag_of(settings):
    """Return how many offsets of partition 0 lie behind what the group has committed."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    _, _, place, topic = settings.transport.split("/")

    async def look():
        async with AIOKafkaConsumer(bootstrap_servers=place, group_id=settings.group) as consumer:
            partition = TopicPartition(topic, 0)
            ends = await consumer.end_offsets([partition])
            return ends[partition] - (await consumer.committed(partition) or 0)

    return asyncio.run(look())


def stored(settings, run="run-1"):
    """Return the bytes of each stream of a run."""
    reader = open_reader(settings.store)
    try:
        return {
            row.facts.stream: b"".join(item.data for item in pieces(reader, row.facts))
            for row in reader.streams(run)
        }
    finally:
        reader.close()


@pytest.mark.timeout(180)
def test_f14_offsets_that_no_record_has_hold_nothing_up(ledger):
    one = ledger(partitions=1)
    parts = [lines(5, number) for number in range(0, 50, 5)]
    chunks = [encode(chunk(key(), 5 * 19 * n, part)) for n, part in enumerate(parts)]
    records = [(record.value, record.headers) for record in chunks]
    send_to(one.settings.transport, records, transactional_id=f"id-{os.getpid()}")

    group.once(one.settings)
    # The marker of the last transaction has an offset that no consumer is ever given.
    assert lag_of(one.settings) <= 1
    assert stored(one.settings) == {key(): b"".join(parts)}


@pytest.mark.parametrize("before", [0, 1], ids=["read on", "started again"])
@pytest.mark.timeout(180)
def test_f14_offsets_at_the_end_that_no_record_has_are_neither_lag_nor_a_stall(kafka, before):
    from loghaul.transports.address import parse as address_of

    dsn = kafka.dsn(partitions=1)
    record = encode(chunk(key(), 0, b"one\n"))
    ahead = [0.0]
    send_to(dsn, [(record.value, record.headers)] * 3, transactional_id=f"end-{os.getpid()}")

    async def watch():
        source = KafkaSource(address_of(dsn), "cases", clock=lambda: time.monotonic() + ahead[0])
        try:
            events = []
            while not source.joined or sum(isinstance(e, Fetched) for e in events) < 3:
                events += await source.fetch(10**6, 0.1)
            last = [event for event in events if isinstance(event, Fetched)][-1]
            await source.commit({last.partition: last.position})
            if before:
                await source.close()
                while not source.joined:
                    await source.fetch(10**6, 0.1)
            while not await source.reached(await source.ends()):
                await source.fetch(10**6, 0.1)
            for _ in range(15):
                ahead[0] += 100
                await source.fetch(10**6, 0.1)
            return source.lag()
        finally:
            await source.close()

    assert asyncio.run(watch()) in ({"0": 0}, {})


@pytest.mark.timeout(180)
def test_f15_records_that_nobody_can_read_are_passed(ledger):
    one = ledger(partitions=1)
    good = encode(chunk(key(), 0, lines(9)))
    altered = lines(9).replace(b"line", b"lime")
    newer = [*good.headers[1:], ("schema", b"999")]
    poison = [
        (None, None),
        (b"", [("schema", b"1")]),
        (os.urandom(500), [("schema", b"1"), ("run", b"\xff\xfe"), ("offset", b"x")]),
        (os.urandom(500), None),
        (lines(9), newer),
        (altered, good.headers),
    ]
    send_to(
        one.settings.transport, [*((v, h or []) for v, h in poison), (good.value, good.headers)]
    )
    group.once(one.settings)

    assert lag_of(one.settings) == 0
    assert stored(one.settings) == {key(): lines(9)}
    directory = DirectoryLetters(one.settings.home / "dead-letters")
    letters = asyncio.run(directory.letters())
    reasons = " ".join(letter.about["reason"] for letter in letters)
    assert "not a chunk" in reasons and "schema 999" in reasons and "altered" in reasons
    kept = [directory.path(letter).read_bytes() for letter in letters]
    assert altered in kept and lines(9) in kept


@pytest.mark.parametrize("before", [1, 0], ids=["after some records", "from the beginning"])
@pytest.mark.timeout(180)
def test_f16_a_consumer_that_stands_still_while_records_wait_ends_the_worker(
    kafka, monkeypatch, before
):
    from loghaul.transports.address import parse as address_of

    dsn = kafka.dsn(partitions=1)
    record = encode(chunk(key(), 0, b"one\n"))
    ahead = [0.0]

    async def watch():
        source = KafkaSource(address_of(dsn), "cases", clock=lambda: time.monotonic() + ahead[0])
        try:
            events = []
            while not source.joined or sum(isinstance(e, Fetched) for e in events) < before:
                events += await source.fetch(10**6, 0.1)

            async def nothing(**_):
                await asyncio.sleep(0.05)
                return {}

            monkeypatch.setattr(source._consumer, "getmany", nothing)
            for _ in range(5):  # until the one that is under way has returned
                await source.fetch(10**6, 0.1)
            await asyncio.to_thread(send_to, dsn, [(record.value, record.headers)])
            with pytest.raises(Stalled, match="records wait"):
                for _ in range(100):
                    ahead[0] += 100
                    await source.fetch(10**6, 0.1)
        finally:
            await source.close()

    send_to(dsn, [(record.value, record.headers)] * before)
    asyncio.run(watch())


# Odd times, odd bytes


YEAR_1, YEAR_9000 = -62_135_596_800_000_000, 221_845_392_000_000_000


def test_f23_clocks_that_are_wrong_or_step_back_change_neither_order_nor_bytes(store, bench):
    one = bench(store)
    times = [NOVEMBER, YEAR_9000, YEAR_1, NOVEMBER + 5, NOVEMBER - 3_600_000_000, 0, -1]
    data = lines(len(times))
    size = len(data) // len(times)
    marks = tuple(Mark(size, moment) for moment in times)
    streams = {"now": NOVEMBER, "future": YEAR_9000, "past": YEAR_1}
    for name, started in streams.items():
        one.send(chunk(key(name), 0, data, marks=marks, started=started))
    one.work()

    one.check()
    asked = Request(parse("number"), ["run-1"], order="file")
    found = search(one.reader, asked).hits
    offsets = [hit.offset for hit in found if hit.stream.stream == "future"]
    assert offsets == [size * number for number in range(len(times))]
    newest = search(one.reader, Request(parse("number"), ["run-1"])).hits
    moments = [hit.time_us for hit in newest]
    assert moments == sorted(moments, reverse=True) and len(moments) == 21
    assert {moments[0], moments[-1]} == {YEAR_9000, YEAR_1}
    assert count(one.reader, parse("number"), ["run-1"], since=NOVEMBER).total == 9


def test_f24_lines_of_years_ago_beside_those_of_now_are_taken(store, bench):
    one = bench(store)
    old = key("old", writer="cd" * 16)
    for number in range(0, 60, 20):
        part, offset = lines(20, number), len(lines(number))
        one.send(chunk(key("live"), offset, part))
        one.send(chunk(old, offset, part, started=NOVEMBER - 10 * 365 * 86_400_000_000))
        one.work()

    one.check()
    assert count(one.reader, parse("number"), ["run-1"]).total == 120


HOSTILE = [
    b"a token of 40 kB: before40k " + b"t" * 40_960 + b" behind40k\n",
    b"nul \0 in the middle of nulwords\0\n",
    b"invalid \xff\xfe\xc3 utf8words \xed\xa0\x80\n",
    b"\n",
    b"\r\n",
    b"\n\n\n",
    b" 10%\r 20%\r 30%\r100% barwords\n",
    b'{"step": "a", "@timestamp": "never", "_id": 7} jsonwords\n',
    "née ıİß 𝒳 \u202e zzwords\n".encode(),
    bytes(range(256)) * 8 + b" bytewords\n",
    b"e" * 65_535 + b" edgewords\n",
    b"longest " + b"1234567 " * 131_072 + b"lastwords",
]


def test_f25_hostile_bytes_are_found_and_come_back_as_they_were(store, bench):
    one = bench(store)
    data = b"".join(HOSTILE)
    stream = key("out\udcff/\x01 name" + "n" * 600)
    hostile = {"run.node": "\udcff\0", "labels": {"\ud800": "\udfff", "n" * 2000: "v" * 40_000}}
    one.send(chunk(stream, 0, data, **hostile))
    one.work()

    one.check()
    assert not one.kept()
    for word in [
        "before40k",
        "behind40k",
        "nulwords",
        "utf8words",
        "barwords",
        "jsonwords",
        "zzwords",
    ]:
        assert count(one.reader, parse(word), ["run-1"]).total == 1, word
    for word in ["bytewords", "edgewords"]:
        assert count(one.reader, parse(word), ["run-1"]).total >= 1, word
    (row,) = one.reader.streams("run-1")
    assert row.facts.common["labels"] == hostile["labels"]


# Reading while something happens


def test_f26_a_search_whose_point_in_time_is_gone_goes_on_behind_its_last_key(store, bench):
    one = bench(store)
    one.send(*(chunk(key(f"rank-{n}"), 0, lines(1, n)) for n in range(150)))
    one.work()
    found = []
    for head in one.reader.candidates(EVERY, ["run-1"]):
        if len(found) % 40 == 10:
            drop_points(store)
        found.append(head.stream.stream)
    assert sorted(found) == sorted(f"rank-{n}" for n in range(150))


def drop_points(store):
    """What a restart or the time does: no point in time is there any more."""
    try:
        ask(store, "DELETE", "/_search/point_in_time/_all")
    except urllib.error.HTTPError as error:
        assert error.code == 404


@pytest.mark.timeout(300)
def test_f26_reading_goes_on_when_the_node_is_killed_and_started_again(node, bench):
    one = bench(f"{node.dsn}?fresh_seconds=0")
    run = "read-on"
    parts = [lines(250, number) for number in range(0, 20_000, 250)]
    offset = 0
    for part in parts:
        one.send(chunk(key(run=run), offset, part))
        offset += len(part)
    one.work(seconds=90)
    (row,) = one.reader.streams(run)
    reading = pieces(one.reader, row.facts)
    searching = one.reader.candidates(parse("number").proposal(), [run])
    data, heads = next(reading).data, [next(searching)]

    node.kill()
    starting = threading.Thread(target=node.start)
    starting.start()
    try:
        data += b"".join(item.data for item in reading)
        heads += searching
    finally:
        starting.join()

    assert data == b"".join(parts)
    offsets = [head.offset for head in heads]
    assert len(offsets) == len(set(offsets)) == len(list(one.reader.heads(key(run=run))))


@pytest.mark.timeout(300)
def test_f03_a_node_that_takes_small_bodies_alone_gets_such(node, bench):
    """The last one here: the node is not set back."""
    (settings,) = node.home.glob("opensearch-*/config/opensearch.yml")
    settings.write_text(f"{settings.read_text()}http.max_content_length: 24kb\n")
    node.kill()
    node.start()
    one = bench(f"{node.dsn.replace('/loghaul', '/small')}?fresh_seconds=0")

    check_halves(one, os.urandom(30_000).hex().encode() + b"\n", lines_each=900)
