"""Watching a worker: what it tells is what happened, and readiness is the truth."""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import tracemalloc

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clock import Clock
from loghaul.chunk import Chunk, End, Gap, Mark, StreamKey
from loghaul.config import load
from loghaul.spool import SpoolWriter
from loghaul_ingest.backlog import Backlog
from loghaul_ingest.endpoint import Answers, Endpoint, address
from loghaul_ingest.errors import IngestError, SourceError, StoreError, UsageError
from loghaul_ingest.metrics import METRICS
from loghaul_ingest.retention import Retention
from loghaul_ingest.shell import Pace
from loghaul_ingest.shipwatch import ShipWatch
from loghaul_ingest.sources.memory import MemoryBroker
from loghaul_ingest.stack import stack
from loghaul_ingest.stores.memory import MemoryStore
from loghaul_ingest.watch import Watch, watching

KEY = StreamKey("run", "0" * 32, "stdout")


class Overloaded(StoreError):
    kind, status = "overloaded", 429


class Failing:
    """A writer that fails while it is told to."""

    def __init__(self, writer):
        self.writer, self.error = writer, None

    async def extents(self, streams):
        return await self.writer.extents(streams)

    async def write(self, batch):
        if self.error is not None:
            raise self.error
        return await self.writer.write(batch)

    async def compact(self, stream):
        return await self.writer.compact(stream)


class Stalling:
    """A source that says how much waits and gives nothing, or does not come back at all."""

    def __init__(self, source):
        self.source, self.error = source, None
        self.stalled = self.stuck = False
        self.joined = True

    async def fetch(self, max_bytes, timeout_seconds):
        if self.error is not None:
            raise self.error
        if self.stuck:
            await asyncio.Event().wait()
        return () if self.stalled else await self.source.fetch(max_bytes, timeout_seconds)

    async def commit(self, positions):
        await self.source.commit(positions)

    async def close(self):
        await self.source.close()

    def lag(self):
        return {"p": 7 if self.stalled else 0}


class Bench:
    """A watched worker over a broker and a store in memory, with a clock set by hand."""

    def __init__(self, tmp_path):
        self.clock, self.broker = Clock(), MemoryBroker(["p"])
        store = MemoryStore()
        self.source, self.writer = Stalling(self.broker.join()), Failing(store.writer())
        self.watch = Watch(clock=self.clock, now=lambda: 1_000.0)
        self.worker = stack(
            self.source,
            self.writer,
            store.reader(),
            tmp_path,
            pace=Pace(commit_seconds=0.0),
            watch=self.watch,
        )

    async def steps(self, count=3):
        for _ in range(count):
            await self.worker.step(0)

    async def drain(self):
        await self.steps()
        await self.worker.drain()
        await self.steps(1)

    def metrics(self):
        kind, body = self.watch.answers().metrics()
        assert kind.startswith("text/plain")
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def chunk(offset, data, time_us=900_000_000, gaps=(), end=None):
    marks = (Mark(len(data), time_us),) if data else ()
    facts = {"run.id": "run", "role": "process"}
    return Chunk(KEY, "text", offset, data, marks, 5, facts, end, gaps)


def test_counts_are_those_of_the_core_and_of_what_was_stored(bench):
    bench.broker.send("p", chunk(0, b"one\ntwo\n"))
    bench.broker.send("p", chunk(4, b"two\nthree\n"))
    bench.broker.send("p", chunk(34, b"x\n", gaps=(Gap(14, 20, "spool full"),)))
    bench.broker.send("p", chunk(36, b"", end=End(36, 9, "exit", None, {})))
    asyncio.run(bench.drain())

    found = bench.metrics()

    assert found["loghaul_worker_chunks_total",] == 4
    assert found["loghaul_worker_fetched_bytes_total",] == 20
    assert found["loghaul_worker_repeated_bytes_total",] == 4
    assert found["loghaul_worker_stored_bytes_total",] == 16
    assert found["loghaul_worker_events_total",] == 4
    assert found["loghaul_worker_gaps_total",] == 1
    assert found["loghaul_lost_bytes_total", "spool full"] == 20
    assert found["loghaul_worker_partitions",] == 1
    assert found["loghaul_worker_open_blocks",] == 0
    assert found["loghaul_worker_write_seconds_count", "stored"] >= 1
    assert found["process_resident_memory_bytes",] > 1e6
    assert (found["loghaul_alive",], found["loghaul_ready",]) == (1, 1)


def test_what_retention_removed_and_left_is_shown_once_it_has_looked(bench, tmp_path):
    assert ("loghaul_store_bytes",) not in bench.metrics()
    bench.watch.retention = Retention(load(home=tmp_path), lambda event, **fields: None)
    assert ("loghaul_store_bytes",) not in bench.metrics()
    bench.watch.retention.removed["age"] += 3
    bench.watch.retention.store_bytes = 70

    found = bench.metrics()

    assert found["loghaul_worker_removed_runs_total", "age"] == 3
    assert found["loghaul_worker_removed_runs_total", "size"] == 0
    assert found["loghaul_store_bytes",] == 70


def test_every_metric_of_the_table_is_shown(bench, tmp_path):
    watch = Watch(Backlog(tmp_path, 1000))
    watch.attach(bench.worker)
    watch.writes.labels("stored").observe(0.1)
    ship = ShipWatch(Backlog(tmp_path, 1000))
    shown = b"".join(one.answers().metrics()[1] for one in (watch, ship)).decode()

    assert [name for name in METRICS if f"# HELP {name}" not in shown] == []


def test_a_store_that_fails_makes_it_unready_until_it_works_again(bench):
    async def scene():
        bench.broker.send("p", chunk(0, b"zero\n"))
        await bench.drain()
        bench.broker.send("p", chunk(5, b"one\n"))
        await bench.steps()
        bench.writer.error = Overloaded("429 of the store")
        bench.worker.core.flush()
        await bench.steps()
        young = bench.watch.ready()
        bench.clock.now += 31
        await bench.steps()
        old = bench.watch.ready(), bench.watch.vitals.alive()
        counted = bench.metrics()
        bench.writer.error = None
        await bench.drain()
        return young, old, counted

    young, old, counted = asyncio.run(scene())

    assert young == ""
    assert old == ("write has failed for 31 s: 429 of the store", "")
    assert counted["loghaul_worker_retries_total", "write", "overloaded"] >= 1
    assert counted["loghaul_worker_write_seconds_count", "failed"] >= 1
    assert counted["loghaul_worker_notes_total", "store failed, trying again"] >= 1
    assert (counted["loghaul_ready",], counted["loghaul_alive",]) == (0, 1)
    assert bench.watch.ready() == ""


def test_a_store_that_never_worked_makes_it_unready_at_once(bench):
    async def scene():
        bench.writer.error = Overloaded("no such host")
        bench.broker.send("p", chunk(0, b"one\n"))
        await bench.steps(5)
        return bench.watch.ready()

    assert asyncio.run(scene()) == "write has failed for 0 s: no such host"


def test_a_source_that_gives_nothing_while_records_wait_makes_it_unready(bench):
    async def scene():
        await bench.steps()
        bench.clock.now += 3600
        await bench.steps()
        idle = bench.watch.ready()
        bench.source.stalled = True
        bench.clock.now += 2
        await bench.steps()
        fresh = bench.watch.ready()
        bench.clock.now += 31
        await bench.steps()
        return idle, fresh, bench.watch.ready(), bench.metrics()

    idle, fresh, stalled, found = asyncio.run(scene())

    assert (idle, fresh) == ("", "")
    assert stalled == "there is work, and none of it was done for 31 s"
    assert found["loghaul_lag_records", "p"] == 7


def test_a_fetch_that_does_not_return_ends_in_a_restart(bench):
    async def scene():
        await bench.steps()
        bench.source.stuck = True
        stuck = asyncio.create_task(bench.worker.step(0))
        await asyncio.sleep(0)
        bench.clock.now += 31
        bench.watch.vitals.pulse()
        first = bench.watch.vitals.alive(), bench.watch.ready()
        bench.clock.now += 100
        bench.watch.vitals.pulse()
        second = bench.watch.vitals.alive()
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)
        return first, second

    first, second = asyncio.run(scene())

    assert first == ("", "a round of work has not ended for 31 s")
    assert second == "a round of work has not ended for 131 s"


def test_an_event_loop_that_stands_still_is_not_alive(bench):
    asyncio.run(bench.steps())
    bench.clock.now += 31

    assert bench.watch.vitals.alive() == "the event loop has stood still for 31 s"


def test_a_worker_that_has_no_share_of_the_source_is_not_ready(bench):
    bench.source.joined = False
    asyncio.run(bench.steps())

    assert "assigned" in bench.watch.ready()


def test_a_source_that_fails_is_counted_and_told(bench):
    async def scene():
        bench.source.error = SourceError("no broker answers")
        step = asyncio.create_task(bench.worker.step(0))
        while not bench.watch.retries:
            await asyncio.sleep(0)
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        bench.clock.now += 31
        bench.watch.vitals.pulse()

    asyncio.run(scene())

    assert bench.watch.ready() == "fetch has failed for 31 s: no broker answers"
    assert bench.metrics()["loghaul_worker_retries_total", "fetch", "SourceError"] == 1


def test_how_far_it_is_behind_is_told_in_seconds_while_more_waits(bench):
    async def scene():
        bench.broker.send("p", chunk(0, b"one\n", time_us=900_000_000))
        await bench.drain()
        behind = bench.watch.behind_seconds()
        bench.source.stalled = True
        bench.clock.now += 2
        await bench.steps()
        return behind, bench.watch.behind_seconds()

    assert asyncio.run(scene()) == (0.0, 100.0)


def test_a_line_costs_the_watch_nothing(bench):
    """Ten thousand lines or one: the watch allocates and calls the same."""
    watch = bench.watch

    def calls(data):
        seen = []
        sys.setprofile(lambda frame, event, _: seen.append(frame.f_code.co_name))
        try:
            watch.tap(chunk(0, data))
        finally:
            sys.setprofile(None)
        return len(seen)

    few, many = b"x\n", b"x\n" * 10_000
    calls(few)
    assert calls(few) == calls(many)
    tracemalloc.start()
    try:
        watch.tap(chunk(0, many))
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


def test_the_backlog_of_a_spool_is_measured_from_its_files(tmp_path):
    clock, now = Clock(), Clock()
    backlog = Backlog(tmp_path / "spool", clock=clock, now=now)
    assert backlog.look() == (0, 0, 0.0)
    writer = SpoolWriter(tmp_path / "spool", {"run.id": "r"})
    stream = writer.stream("stdout", "text", "a.txt")
    writer.append(stream, b"line\n", time_us=int((now.now - 42) * 1e6))
    clock.now += 5

    found = backlog.look()
    writer.close()

    assert (found.writers, found.oldest_seconds) == (1, 42.0)
    assert found.bytes >= 4096


SHIPPED = {
    **dict.fromkeys(("chunks", "records", "bytes", "dropped_bytes", "retries"), 0),
    **{"connected": True, "failing": "", "refused": False},
}


def test_a_shipper_tells_what_it_ships_and_why_it_does_not(tmp_path):
    clock, now = Clock(), Clock()
    watch = ShipWatch(Backlog(tmp_path, clock=clock, now=now), clock=clock)
    before = watch.vitals.alive(), watch.ready()
    watch.tell(**{**SHIPPED, "chunks": 2, "records": 3, "bytes": 40, "dropped_bytes": 7})
    well = watch.ready()
    failing = {**SHIPPED, "records": 3, "retries": 1, "failing": "no broker answers"}
    watch.tell(**failing)
    clock.now += 31
    watch.tell(**{**failing, "retries": 2})
    shown = watch.answers().metrics()[1].decode()

    assert before == ("", "not connected to its source yet")
    assert well == ""
    assert watch.ready() == "shipping has failed for 31 s: no broker answers"
    assert 'loghaul_shipper_retries_total{reason="failed"} 2.0' in shown
    assert "loghaul_shipper_records_total 3.0" in shown
    watch.tell(**{**SHIPPED, "records": 4, "retries": 2})
    assert watch.ready() == ""


def test_a_shipper_that_moves_nothing_of_what_waits_is_not_ready(tmp_path):
    clock, now = Clock(), Clock()
    writer = SpoolWriter(tmp_path, {"run.id": "r"})
    writer.append(writer.stream("stdout", "text", "a"), b"x\n", time_us=int(now.now * 1e6))
    watch = ShipWatch(Backlog(tmp_path, clock=clock, now=now), clock=clock)
    watch.tell(**SHIPPED)
    fresh = watch.ready()
    clock.now, now.now = clock.now + 31, now.now + 31
    watch.tell(**SHIPPED)
    writer.close()

    assert fresh == ""
    assert "has waited for 31 s" in watch.ready()


def test_a_worker_that_waits_for_its_brokers_is_alive_but_not_ready(bench):
    bench.clock.now += 3600

    assert bench.watch.vitals.alive() == ""
    assert bench.watch.ready() == "not connected to its source yet"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("0.0.0.0", 9464)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses_to_listen_at(text, expected):
    assert address(text) == expected


@pytest.mark.parametrize("text", ["", "localhost", "localhost:http", "1:70000"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match="HOST:PORT"):
        address(text)


def ask(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_the_endpoint_answers_probes_with_the_reason():
    reasons = {"alive": "", "ready": "the store fails"}
    answers = Answers(
        lambda: ("text/plain", b"metrics"), lambda: reasons["alive"], lambda: reasons["ready"]
    )
    with Endpoint("127.0.0.1:0", answers) as endpoint:
        assert ask(endpoint.port, "/healthz") == (200, b"ok\n")
        assert ask(endpoint.port, "/readyz?verbose") == (503, b"the store fails\n")
        assert ask(endpoint.port, "/metrics") == (200, b"metrics")
        assert ask(endpoint.port, "/healthz", "HEAD") == (200, b"")
        assert ask(endpoint.port, "/")[0] == 404
        assert ask(endpoint.port, "/healthz", "POST")[0] == 501


def test_a_client_that_says_nothing_keeps_nobody_waiting():
    answers = Answers(lambda: ("", b""), lambda: "", lambda: "")
    with Endpoint("127.0.0.1:0", answers) as endpoint:
        silent = socket.create_connection(("127.0.0.1", endpoint.port))
        try:
            assert ask(endpoint.port, "/healthz")[0] == 200
        finally:
            silent.close()


def test_a_port_that_is_taken_is_said_in_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(IngestError, match="cannot listen at"), watching(place):
            pass


def test_without_prometheus_client_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match=r"install 'loghaul\[metrics\]'"), watching("9464"):
        pass


def test_without_listening_nothing_of_it_is_imported():
    code = "import sys, loghaul_ingest.worker; print('prometheus_client' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


@pytest.mark.parametrize("command", ["ingest", "ship"])
def test_listening_is_for_those_that_serve(command):
    done = subprocess.run(
        [sys.executable, "-m", "loghaul_ingest", command, "--once", "--listen", "9464"],
        capture_output=True,
        text=True,
    )

    assert (done.returncode, "leave out --once" in done.stderr) == (2, True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_a_shipper_without_a_broker_is_alive_and_says_why_it_is_not_ready(tmp_path):
    port, nobody = free_port(), free_port()
    environment = {
        **os.environ,
        "LOGHAUL_HOME": str(tmp_path),
        "LOGHAUL_TRANSPORT": f"kafka://127.0.0.1:{nobody}/loghaul",
    }
    command = [sys.executable, "-m", "loghaul_ingest", "ship", "--listen", f"127.0.0.1:{port}"]
    shipper = subprocess.Popen(command, env=environment)
    try:
        said, until = (0, b""), time.monotonic() + 20
        while b"shipping has failed" not in said[1] and time.monotonic() < until:
            try:
                said = ask(port, "/readyz")
            except OSError:
                time.sleep(0.05)
        assert said[0] == 503
        assert b"shipping has failed for" in said[1]
        assert ask(port, "/healthz") == (200, b"ok\n")
        assert b"loghaul_shipper_retries_total" in ask(port, "/metrics")[1]
    finally:
        shipper.send_signal(signal.SIGTERM)
        code = shipper.wait(20)
    assert code == 0


def test_the_worker_of_a_home_serves_it_and_ends_in_order(tmp_path):
    port = free_port()
    environment = {**os.environ, "LOGHAUL_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "loghaul_ingest"]
    subprocess.run([*command, "run", "-q", "--", "echo", "line"], env=environment, check=True)
    worker = subprocess.Popen(
        [*command, "ingest", "--listen", f"127.0.0.1:{port}"], env=environment
    )
    try:
        until = time.monotonic() + 20
        stored = False
        while not stored and time.monotonic() < until:
            try:
                stored = b"loghaul_worker_events_total 0.0" not in ask(port, "/metrics")[1]
            except OSError:
                time.sleep(0.05)
        assert stored
        assert ask(port, "/readyz") == (200, b"ok\n")
        assert ask(port, "/healthz") == (200, b"ok\n")
    finally:
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(20)
    assert code == 0
