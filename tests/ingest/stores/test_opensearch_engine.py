"""The OpenSearch store on real engines: what only they can show. The contract is beside it."""

import asyncio
import json
import re
import threading
import time
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from loghaul.chunk import TEXT, Chunk, End, Gap, Mark, StreamKey
from loghaul_ingest.block import Extent, Facts
from loghaul_ingest.errors import StoreError
from loghaul_ingest.query.proposal import EVERY, Word
from loghaul_ingest.retention import Rules, plan, remove
from loghaul_ingest.seal import seal
from loghaul_ingest.shell import Pace
from loghaul_ingest.sources.memory import MemoryBroker
from loghaul_ingest.stack import stack
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import Batch
from loghaul_ingest.stores.opensearch import buckets as bucket_indices
from loghaul_ingest.stores.opensearch import tombstones
from loghaul_ingest.stores.opensearch.failures import Failed
from loghaul_ingest.words import LONGEST, index_words, words

KEY = StreamKey("run-1", "ab" * 16, "stdout")
NOVEMBER, DECEMBER = 1_763_884_800_000_000, 1_764_600_000_000_000
FACTS = Facts(KEY, TEXT, NOVEMBER, {"run.id": "run-1", "role": "supervisor"})


@pytest.fixture(params=["2.19", "3"])
def dsn(request, opensearch_stores):
    return opensearch_stores(request.param)()


@pytest.fixture
def open_one():
    """A function that opens a writer or a reader; closes them all afterwards."""
    opened = []

    def open_one(kind, dsn):
        opened.append(kind(dsn))
        return opened[-1]

    yield open_one
    for one in opened:
        closing = one.close()
        if closing is not None:
            asyncio.run(closing)


def ask(dsn, method, path, body=None):
    """Plain HTTP to the engine behind a DSN; PREFIX stands for the store's prefix."""
    place, prefix = re.fullmatch(r"opensearch://([^/,]+)[^/]*/([^?]+).*", dsn).groups()
    raw = None if body is None else json.dumps(body).encode()
    address = f"http://{place}{path.replace('PREFIX', prefix)}"
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(address, raw, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


def do(coroutine):
    return asyncio.run(coroutine)


def block(offset, data, facts=FACTS, time_us=1):
    return seal(facts, offset, data, (Mark(len(data), time_us),))


def chain(count, facts=FACTS, start=0):
    blocks, offset = [], 0
    for number in range(count):
        data = b"line number %06d\n" % number
        if number >= start:
            blocks.append(block(offset, data, facts, number))
        offset += len(data)
    return blocks


def stored_bytes(reader, key=KEY):
    data = b""
    for one in reader.load([head.key for head in reader.heads(key)]):
        data += one.data[len(data) - one.head.offset :]
    return data


# Several workers at once


def test_two_workers_that_meet_a_new_stream_at_once_choose_one_bucket(dsn, open_one):
    writers = [open_one(open_writer, dsn) for _ in range(2)]
    started = [FACTS, replace(FACTS, started=DECEMBER)]
    blocks = chain(120)
    told = [[], []]

    def work(number):
        # Each believes in another start, and cuts the same bytes the same way.
        for at in range(0, len(blocks), 10):
            batch = Batch(blocks[at : at + 10], (started[number],))
            told[number] += do(writers[number].write(batch))

    together(work, 2)

    assert sorted(told[0] + told[1]) == [one.head.key for one in blocks]
    ask(dsn, "POST", "/PREFIX-blocks*/_refresh")
    indices = ask(dsn, "GET", "/_cat/indices/PREFIX-blocks*?format=json&h=index,docs.count")
    assert sorted(int(one["docs.count"]) for one in indices)[-1] == 120
    assert stored_bytes(open_one(open_reader, dsn)) == b"".join(one.data for one in blocks)
    assert do(writers[0].extents({KEY: 1})) == {KEY: Extent(blocks[-1].head.end)}


def test_facts_told_by_several_at_once_are_joined(dsn, open_one):
    writers = [open_one(open_writer, dsn) for _ in range(3)]

    def work(number):
        for offset in range(10):
            gap = (number * 1000 + offset * 10, 5, "lost")
            facts = replace(FACTS, gaps=(Gap(*gap),))
            do(writers[number].write(Batch((), (facts,))))

    together(work, 3)

    (row,) = open_one(open_reader, dsn).streams("run-1")
    assert len(row.facts.gaps) == 30


def test_two_compactions_at_once_lose_nothing_and_write_nothing_twice(dsn, open_one):
    writers = [open_one(open_writer, dsn) for _ in range(2)]
    blocks = chain(700)
    do(writers[0].write(Batch(blocks, (FACTS,))))
    reader = open_one(open_reader, dsn)

    together(lambda number: do(writers[number].compact(KEY)), 2)
    do(writers[0].compact(KEY))

    assert stored_bytes(reader) == b"".join(one.data for one in blocks)
    (row,) = reader.streams("run-1")
    assert (row.lines, row.holes) == (700, ())
    assert len(list(reader.heads(KEY))) < 10


def together(work, count):
    failures = []

    def run(number):
        try:
            work(number)
        except Exception as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Deleting

#: Makes every tombstone one that was not swept.
AGAIN = {"script": "ctx._source.swept = ctx._source.run.startsWith('~')"}


def test_what_a_zombie_writes_behind_a_tombstone_is_never_shown_and_goes(
    dsn, open_one, monkeypatch
):
    writer, zombie = open_one(open_writer, dsn), open_one(open_writer, dsn)
    do(zombie.write(Batch([block(0, b"one\n")], (FACTS,))))
    monkeypatch.setattr(zombie._tombstones, "among", lambda runs: {})  # it looked before
    reader = open_one(open_reader, dsn)

    assert do(writer.delete_run("run-1"))
    do(zombie.write(Batch([block(4, b"two\n")])))

    assert list(reader.candidates(EVERY)) == [] and list(reader.heads(KEY)) == []
    assert reader.runs() == [] and reader.tally(None, None, None, 10**6) == {}
    monkeypatch.setattr(tombstones, "SWEEP_AFTER_SECONDS", -1)
    open_one(open_writer, dsn)
    assert ask(dsn, "GET", "/PREFIX-blocks*/_count")["count"] == 0
    assert list(reader.candidates(EVERY)) == []
    assert do(writer.extents({KEY: 1})) == {KEY: None}


def other_run(run, started=NOVEMBER, writer="cd" * 16):
    return Facts(StreamKey(run, writer, "stdout"), TEXT, started, {"run.id": run})


def buckets(dsn):
    """The buckets that have an index."""
    return sorted(index[-7:] for index in ask(dsn, "GET", "/PREFIX-blocks-*/_alias"))


def test_a_run_that_spans_buckets_goes_from_all_and_an_empty_bucket_is_dropped(dsn, open_one):
    writer = open_one(open_writer, dsn)
    resumed, neighbour = other_run("run-1", DECEMBER), other_run("run-2", DECEMBER)
    for facts in (FACTS, resumed, neighbour):
        do(writer.write(Batch([block(0, b"one\n", facts)], (facts,))))
    reader = open_one(open_reader, dsn)
    assert buckets(dsn) == ["2025.11", "2025.12"]

    assert do(writer.delete_run("run-1"))

    # Another run lives in December; in November nobody does.
    assert buckets(dsn) == ["2025.12"]
    assert [row.run for row in reader.runs()] == ["run-2"]
    assert stored_bytes(reader, neighbour.stream) == b"one\n"
    late = [block(4, b"late\n"), block(4, b"late\n", resumed)]
    assert len(do(writer.write(Batch(late, (FACTS, resumed))))) == 2
    assert [row.run for row in reader.runs()] == ["run-2"]
    assert do(writer.delete_run("run-2"))
    assert buckets(dsn) == [] and reader.runs() == [] and reader.sizes() == {}


def test_a_late_backlog_of_a_run_that_retention_removed_does_not_bring_it_back(
    dsn, open_one, tmp_path
):
    """Both of a topic: what is left of an old run, and a run that began in the dropped month."""
    writer, reader = open_one(open_writer, dsn), open_one(open_reader, dsn)
    ended = replace(FACTS, end=End(400, NOVEMBER + 1, "exit", None, {"exit_code": 0}))
    do(writer.write(Batch(chain(10), (ended,))))
    rules = Rules(older_than_us=86_400_000_000)
    removals = plan(reader.runs(), reader.sizes(), rules, DECEMBER)
    assert [(one.row.run, one.reason) for one in removals] == [("run-1", "age")]
    assert removals[0].bytes > 0

    assert do(remove(dsn, removals)).removals == removals

    assert buckets(dsn) == []
    broker, young = MemoryBroker(["p"]), other_run("run-2", NOVEMBER)
    for key in (KEY, young.stream):
        marks, told = (Mark(5, NOVEMBER),), {"run.id": key.run}
        broker.send("p", Chunk(key, TEXT, 0, b"late\n", marks, NOVEMBER, told))
    worker = stack(broker.join(), writer, reader, tmp_path, pace=Pace(commit_seconds=0.0))

    async def drain():
        while broker.committed["p"] < 1:
            await worker.step(0.05)
            worker.core.flush()

    asyncio.run(asyncio.wait_for(drain(), 60))

    assert [row.run for row in reader.runs()] == ["run-2"]
    assert stored_bytes(reader, young.stream) == b"late\n"
    assert (buckets(dsn), worker.retries) == (["2025.11"], 0)
    assert worker.core.counts.dropped_bytes == 5


def test_a_bucket_that_is_dropped_under_a_writer_is_made_again_for_the_next_run(dsn, open_one):
    writer, other = open_one(open_writer, dsn), open_one(open_writer, dsn)
    do(writer.write(Batch([block(0, b"one\n")], (FACTS,))))

    assert do(other.delete_run("run-1"))
    assert buckets(dsn) == []
    new = other_run("run-2")
    blocks = chain(60, new)

    assert do(writer.write(Batch(blocks, (new,)))) == []
    assert stored_bytes(open_one(open_reader, dsn), new.stream) == b"".join(b.data for b in blocks)


def test_a_walk_goes_on_when_a_bucket_is_dropped_under_it(dsn, open_one):
    writer, reader = open_one(open_writer, dsn), open_one(open_reader, dsn)
    old, living = other_run("old", NOVEMBER), other_run("living", DECEMBER)
    for facts in (old, living):
        do(writer.write(Batch(chain(200, facts), (facts,))))
    walk = reader.candidates(EVERY)
    given = [next(walk) for _ in range(10)]

    assert do(writer.delete_run("old"))

    assert buckets(dsn) == ["2025.12"]
    given += walk
    kept = [head.offset for head in given if head.stream == living.stream]
    assert len(kept) == len(set(kept)) == 200


def test_a_bucket_in_which_a_run_begins_while_it_is_being_dropped_is_kept(
    dsn, open_one, monkeypatch
):
    writer, other = open_one(open_writer, dsn), open_one(open_writer, dsn)
    do(writer.write(Batch([block(0, b"one\n")], (FACTS,))))
    new = other_run("run-2")
    really, refused = other._indices._drop_taken, []

    def drop(bucket):
        # It was found empty; before the last look a worker writes a block.
        do(writer.write(Batch([block(0, b"kept\n", new)], (new,))))
        call = other._indices._client.call

        def blocked(method, path, *rest, **more):
            reply = call(method, path, *rest, **more)
            if path.endswith("/_block/write"):
                with pytest.raises(StoreError) as failure:
                    do(writer.write(Batch([block(5, b"refused\n", new)])))
                refused.append(failure.value.permanent)
            return reply

        monkeypatch.setattr(other._indices._client, "call", blocked)
        return really(bucket)

    monkeypatch.setattr(other._indices, "_drop_taken", drop)

    assert do(other.delete_run("run-1"))

    assert (buckets(dsn), refused) == (["2025.11"], [False])
    assert do(writer.write(Batch([block(5, b"refused\n", new)]))) == []
    assert stored_bytes(open_one(open_reader, dsn), new.stream) == b"kept\nrefused\n"


def test_blocks_whose_streams_were_lost_are_never_dropped(dsn, open_one):
    """An operator's mistake with one index must not cost what lies in the others."""
    writer = open_one(open_writer, dsn)
    do(writer.write(Batch([block(0, b"one\n")], (FACTS,))))
    ask(dsn, "DELETE", "/PREFIX-streams-v1")

    open_one(open_writer, dsn)

    assert ask(dsn, "GET", "/PREFIX-blocks-v1-2025.11/_count")["count"] == 1


def test_a_bucket_that_may_not_be_dropped_goes_on(dsn, open_one, monkeypatch):
    writer, other = open_one(open_writer, dsn), open_one(open_writer, dsn)
    do(writer.write(Batch([block(0, b"one\n")], (FACTS,))))
    call = other._indices._client.call

    def without_rights(method, path, *rest, **more):
        if method == "DELETE" and path.endswith("-blocks-v1-2025.11"):
            raise Failed("no permissions for indices:admin/delete", 403, "security_exception")
        return call(method, path, *rest, **more)

    monkeypatch.setattr(other._indices._client, "call", without_rights)

    assert do(other.delete_run("run-1"))

    new = other_run("run-2")
    assert do(writer.write(Batch([block(0, b"one\n", new)], (new,)))) == []
    assert [row.run for row in open_one(open_reader, dsn).runs()] == ["run-2"]


def test_what_a_dropper_left_blocked_when_it_died_takes_writes_after_the_next_sweep(
    dsn, open_one, monkeypatch
):
    writer = open_one(open_writer, dsn)
    do(writer.write(Batch([block(0, b"one\n")], (FACTS,))))
    assert writer._indices._take("2025.11")
    ask(dsn, "PUT", "/PREFIX-blocks-v1-2025.11/_block/write")
    open_one(open_writer, dsn)  # somebody else may be about to drop it
    with pytest.raises(StoreError):
        do(writer.write(Batch([block(4, b"two\n")])))

    monkeypatch.setattr(bucket_indices, "LEASE_SECONDS", -1)
    open_one(open_writer, dsn)

    assert do(writer.write(Batch([block(4, b"two\n")]))) == []
    assert stored_bytes(open_one(open_reader, dsn)) == b"one\ntwo\n"
    assert writer._indices._take("2025.11")  # the lock was given back


def test_a_worker_that_a_dead_dropper_left_refused_lets_itself_in(dsn, open_one, monkeypatch):
    """Else it would wait for the next sweep, for up to an hour."""
    writer = open_one(open_writer, dsn)
    do(writer.write(Batch([block(0, b"one\n")], (FACTS,))))
    assert writer._indices._take("2025.11")
    ask(dsn, "PUT", "/PREFIX-blocks-v1-2025.11/_block/write")
    monkeypatch.setattr(bucket_indices, "LEASE_SECONDS", -1)

    with pytest.raises(StoreError):
        do(writer.write(Batch([block(4, b"two\n")])))

    assert do(writer.write(Batch([block(4, b"two\n")]))) == []
    assert stored_bytes(open_one(open_reader, dsn)) == b"one\ntwo\n"


def test_an_index_that_an_operator_closed_to_writes_stays_closed(dsn, open_one, monkeypatch):
    monkeypatch.setattr(bucket_indices, "LEASE_SECONDS", -1)
    writer = open_one(open_writer, dsn)
    do(writer.write(Batch([block(0, b"one\n")], (FACTS,))))
    ask(dsn, "PUT", "/PREFIX-blocks-v1-2025.11/_block/write")

    for _ in range(2):
        with pytest.raises(StoreError) as failure:
            do(writer.write(Batch([block(4, b"two\n")])))

    assert not failure.value.permanent


def test_the_bucket_of_this_month_stays_though_it_is_empty(dsn, open_one):
    writer = open_one(open_writer, dsn)
    new = other_run("run-2", int(time.time() * 1e6))
    do(writer.write(Batch([block(0, b"one\n", new)], (new,))))

    assert do(writer.delete_run("run-2"))
    open_one(open_writer, dsn)

    assert buckets(dsn) == [f"{datetime.now(UTC):%Y.%m}"]


def test_runs_that_begin_and_end_in_a_bucket_that_is_dropped_all_the_time_lose_nothing(
    dsn, open_one
):
    """Two workers begin runs; two delete others, each of which leaves the bucket empty, or not."""
    writers = [open_one(open_writer, dsn) for _ in range(4)]
    kept, doomed, over = [], [], threading.Event()

    def begin(number):
        for count in range(12):
            facts = other_run(f"run-{number}-{count}", writer=f"{number}{count:031}")
            for one in chain(3, facts):
                insist(
                    lambda one=one, facts=facts: do(writers[number].write(Batch([one], (facts,))))
                )
            if count == 11:
                kept.append(facts)
            else:
                doomed.append(facts)

    def delete(number):
        while not over.is_set() or doomed:
            try:
                run = doomed.pop().stream.run
            except IndexError:
                time.sleep(0.01)
                continue
            insist(lambda run=run: do(writers[number].delete_run(run)))

    def work(number):
        if number < 2:
            begin(number)
            if len(kept) == 2:
                over.set()
        else:
            delete(number)

    together(work, 4)

    reader = open_one(open_reader, dsn)
    assert sorted(row.run for row in reader.runs()) == ["run-0-11", "run-1-11"]
    for facts in kept:
        whole = b"".join(one.data for one in chain(3, facts))
        assert stored_bytes(reader, facts.stream) == whole
    assert buckets(dsn) == ["2025.11"]


@pytest.mark.parametrize(
    "version", ["2.19", pytest.param("3", marks=pytest.mark.slow)], ids=lambda one: one
)
def test_a_sweep_gives_back_the_bytes_of_a_run_in_a_bucket_that_another_lives_in(
    version, opensearch_stores, open_one, monkeypatch
):
    """Takes half a minute: so long documents are kept for replicas that are away."""
    dsn = opensearch_stores(version)()
    writer, living = open_one(open_writer, dsn), other_run("living")
    do(writer.write(Batch(chain(5, living), (living,))))
    do(writer.write(Batch(chain(200), (FACTS,))))
    reader = open_one(open_reader, dsn)
    before = reader.sizes()

    assert do(writer.delete_run("run-1"))
    assert sum(reader.sizes().values()) < sum(before.values()) / 2
    monkeypatch.setattr(tombstones, "SWEEP_AFTER_SECONDS", -1)

    def deleted():
        (found,) = ask(dsn, "GET", "/_cat/indices/PREFIX-blocks-*?format=json&h=docs.deleted")
        return int(found["docs.deleted"])

    assert deleted() >= 200
    until = time.monotonic() + 90
    while deleted() and time.monotonic() < until:
        ask(dsn, "POST", "/PREFIX-runs-v1/_update_by_query?refresh=true&conflicts=proceed", AGAIN)
        do(open_writer(dsn).close())
        time.sleep(1)
    assert deleted() == 0
    assert stored_bytes(reader, living.stream) == b"".join(one.data for one in chain(5, living))


def test_a_sweep_leaves_what_was_begun_after_the_deletion(dsn, open_one, monkeypatch):
    writer, zombie = open_one(open_writer, dsn), open_one(open_writer, dsn)
    do(zombie.write(Batch([block(0, b"one\n")], (FACTS,))))
    monkeypatch.setattr(zombie._tombstones, "among", lambda runs: {})
    assert do(writer.delete_run("run-1"))
    do(zombie.write(Batch([block(4, b"two\n")])))
    new = replace(FACTS, stream=KEY._replace(writer="f" * 32), started=1 << 53)
    said = seal(new, 0, b"new\n", (Mark(4, 7),))
    assert do(writer.write(Batch([said], (new,)))) == []
    monkeypatch.setattr(tombstones, "SWEEP_AFTER_SECONDS", -1)
    monkeypatch.setattr(tombstones, "_PAGE", 1)

    open_one(open_writer, dsn)

    assert ask(dsn, "GET", "/PREFIX-blocks*/_count")["count"] == 1
    reader = open_one(open_reader, dsn)
    assert [row.facts for row in reader.streams("run-1")] == [new]
    assert [one.data for one in reader.load([said.head.key])] == [b"new\n"]
    assert do(writer.extents({KEY: 1, new.stream: new.started})) == {
        KEY: None,
        new.stream: Extent(4),
    }


# Words


TEXTS = [
    b"a_b-c.d/e 0x1F \xc3\xa9\xe2\x80\xa8 caf\xc3\xa9 \x1b[31mred\x1b[0m tab\there\r50%\r",
    b"x" * 127 + b" " + b"y" * 128 + b" " + b"z" * 129 + b" " + b"w" * 1000,
    bytes(range(256)) * 4,
]


@pytest.mark.parametrize("text", TEXTS, ids=["mixed", "long", "every byte"])
def test_the_tokenizer_gives_the_words_that_our_function_gives(dsn, open_one, text):
    do(open_one(open_writer, dsn).write(Batch([block(0, text)], (FACTS,))))
    found = index_words(words(text, TEXT))
    body = {"analyzer": "words", "text": found.decode("ascii")}

    reply = ask(dsn, "POST", "/PREFIX-blocks-v1-2025.11/_analyze", body)

    assert [one["token"].encode() for one in reply["tokens"]] == found.split()
    assert max(map(len, found.split())) <= LONGEST


# Set-up


def test_a_store_is_set_up_once_and_refuses_what_is_unsafe(dsn, open_one):
    writer = open_one(open_writer, dsn)
    do(writer.write(Batch([block(0, b"one\n")], (FACTS,))))
    before = ask(dsn, "GET", "/_cluster/state/metadata?filter_path=metadata.templates,version")

    open_one(open_writer, dsn)
    after = ask(dsn, "GET", "/_cluster/state/metadata?filter_path=metadata.templates,version")
    assert before == after

    loose = {"index.translog.durability": "async"}
    ask(dsn, "PUT", "/PREFIX-blocks-v1-2025.11/_settings", loose)
    with pytest.raises(StoreError, match="before they are on disk") as failure:
        open_writer(dsn)
    assert failure.value.permanent
    ask(dsn, "PUT", "/PREFIX-blocks-v1-2025.11/_settings", {"index.translog.durability": "request"})
    open_one(open_writer, dsn)

    found = ask(dsn, "GET", "/_index_template/PREFIX-blocks-v1")["index_templates"][0]
    template = found["index_template"]
    template["template"]["mappings"]["dynamic"] = "true"
    ask(dsn, "PUT", "/_index_template/PREFIX-blocks-v1", template)
    with pytest.raises(StoreError, match=r"was changed \(mappings\)"):
        open_writer(dsn)


def test_a_template_that_comes_before_ours_is_refused_and_named(dsn, open_one):
    open_one(open_writer, dsn)
    prefix = dsn.split("/")[3].partition("?")[0]
    over = {
        "index_patterns": [f"{prefix}-blocks-*"],
        "priority": 501,
        "template": {"settings": {"index.translog.durability": "async"}},
    }
    ask(dsn, "PUT", "/_index_template/PREFIX-over", over)
    try:
        with pytest.raises(StoreError, match=f"mappings, settings.*{prefix}-over.*500") as failure:
            open_writer(dsn)
        assert failure.value.permanent
        over["priority"] = 499
        ask(dsn, "PUT", "/_index_template/PREFIX-over", over)
        open_one(open_writer, dsn)
    finally:
        ask(dsn, "DELETE", "/_index_template/PREFIX-over")


@pytest.mark.parametrize(("off", "said"), [(-7200, "2:00:00 behind"), (86400, "1 day, .* ahead")])
def test_a_clock_that_is_far_off_is_refused(dsn, open_one, monkeypatch, off, said):
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + off)
    with pytest.raises(StoreError, match=f"clock of this machine is {said}.*NTP") as failure:
        open_writer(dsn)
    assert failure.value.permanent
    monkeypatch.setattr(time, "time", lambda: true() + 30)
    open_one(open_writer, dsn)


# Faults that the engine itself answers with


def test_an_index_that_takes_no_writes_is_waited_for(dsn, open_one):
    writer = open_one(open_writer, dsn)
    do(writer.write(Batch([block(0, b"one\n")], (FACTS,))))
    settings = "/PREFIX-blocks-v1-2025.11/_settings"
    for setting in ("index.blocks.write", "index.blocks.read_only_allow_delete"):
        ask(dsn, "PUT", settings, {setting: True})
        with pytest.raises(StoreError, match="cluster_block_exception") as failure:
            do(writer.write(Batch([block(4, b"two\n")])))
        assert not failure.value.permanent
        ask(dsn, "PUT", settings, {setting: None})

    assert do(writer.write(Batch([block(4, b"two\n")]))) == []


def test_an_index_that_was_dropped_under_a_worker_is_made_again(dsn, open_one):
    writer = open_one(open_writer, dsn)
    do(writer.write(Batch([block(0, b"one\n")], (FACTS,))))
    ask(dsn, "DELETE", "/PREFIX-blocks-v1-2025.11")

    assert do(writer.write(Batch([block(4, b"two\n")]))) == []
    assert do(writer.extents({KEY: 1})) == {KEY: Extent(8, ((0, 4),))}


# Deaths


@pytest.mark.parametrize(
    "version", ["2.19", pytest.param("3", marks=pytest.mark.slow)], ids=lambda one: one
)
@pytest.mark.timeout(400)
def test_what_was_written_survives_kill_minus_nine(version, opensearch_cluster, open_one):
    cluster = opensearch_cluster(version)
    writer = open_one(open_writer, cluster.dsn + "?fresh_seconds=0&timeout_seconds=5")
    reader = open_one(open_reader, cluster.dsn + "?fresh_seconds=0")
    blocks = chain(400)
    durable = 0

    for _ in range(3):
        stop_at = time.monotonic() + 1.0
        killing = threading.Timer(0.5, cluster.kill)
        killing.start()
        try:
            while time.monotonic() < stop_at and durable < len(blocks):
                do(writer.write(Batch(blocks[durable : durable + 5], (FACTS,))))
                durable += 5
        except StoreError as error:
            assert not error.permanent
        killing.join()
        cluster.start()
        extent = do(writer.extents({KEY: 1}))[KEY]
        assert extent.holes == ()
        assert extent.end >= (blocks[durable - 1].head.end if durable else 0)
        durable = sum(1 for one in blocks if one.head.end <= extent.end)

    do(writer.write(Batch(blocks[durable:], (FACTS,))))
    assert stored_bytes(reader) == b"".join(one.data for one in blocks)
    for number in (0, 200, 399):
        assert len(list(reader.candidates(Word(b"%06d" % number)))) == 1


@pytest.mark.parametrize(
    "version", ["2.19", pytest.param("3", marks=pytest.mark.slow)], ids=lambda one: one
)
@pytest.mark.timeout(400)
def test_a_replica_that_was_away_has_every_word_and_byte(version, opensearch_cluster, open_one):
    """The trap of fields left out of `_source`: a replica that catches up from operations."""
    cluster = opensearch_cluster(version, nodes=2)
    cluster.kill("n2")  # so that the primaries are on the node that will stay
    writer = open_one(open_writer, cluster.dsn + "?fresh_seconds=0&replicas=1")
    blocks = chain(300)
    insist(lambda: do(writer.write(Batch(blocks[:100], (FACTS,)))))
    # It is to come back to the same shard and catch up, not to be copied anew.
    patient = {"index.unassigned.node_left.delayed_timeout": "5m"}
    ask(cluster.dsn, "PUT", "/PREFIX-*/_settings", patient)
    cluster.start()
    cluster.wait("green")

    cluster.kill("n2")
    insist(lambda: do(writer.write(Batch(blocks[100:]))))
    cluster.start()
    cluster.wait("green")

    recovered = ask(cluster.dsn, "GET", "/PREFIX-blocks*/_recovery")["loghaul-blocks-v1-2025.11"]
    (replica,) = [one for one in recovered["shards"] if not one["primary"]]
    assert replica["translog"]["recovered"] >= 200 and not replica["index"]["files"]["recovered"]
    for copy in ("_primary", "_replica"):
        found = ask(
            cluster.dsn,
            "POST",
            f"/PREFIX-blocks-v1-*/_search?preference={copy}&routing=run-1",
            {
                "size": 300,
                "query": {"bool": {"filter": [{"term": {"words": "line"}}]}},
                "stored_fields": ["content"],
                "docvalue_fields": ["head"],
            },
        )
        hits = found["hits"]["hits"]
        assert len(hits) == 300, copy
        assert all(set(hit["fields"]) == {"content", "head"} for hit in hits), copy


def insist(write):
    """As a worker does: what may pass is tried again."""
    for _ in range(20):
        try:
            return write()
        except StoreError as error:
            assert not error.permanent
            time.sleep(0.5)
    raise AssertionError("it did not pass")


def test_a_run_that_ended_is_summed_up(dsn, open_one):
    writer, reader = open_one(open_writer, dsn), open_one(open_reader, dsn)
    data = b"ERROR: one\nunfinished"
    do(writer.write(Batch([block(0, data)], (FACTS,))))
    end = End(len(data), 9, "exit", None, {"exit_code": 3, "status": "failed"})
    do(writer.write(Batch((), (replace(FACTS, end=end),))))

    (run,) = reader.runs()

    assert (run.status, run.lines, run.errors) == ("failed", 2, 1)
