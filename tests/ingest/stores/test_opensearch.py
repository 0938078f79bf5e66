"""The OpenSearch store without an engine: names, documents, and a server that replays replies."""

import asyncio
import itertools
import json
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from loghaul.chunk import TEXT, Mark, StreamKey
from loghaul_ingest.block import Facts
from loghaul_ingest.cli import loghaul
from loghaul_ingest.errors import StoreAway, StoreDamaged, StoreError, UsageError
from loghaul_ingest.query.proposal import NOTHING, Both, Either, Times, Word
from loghaul_ingest.seal import seal
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import Batch
from loghaul_ingest.stores.opensearch import content, documents, mapping, queries
from loghaul_ingest.stores.opensearch.address import parse
from loghaul_ingest.stores.opensearch.chains import Sums
from loghaul_ingest.stores.opensearch.names import (
    UNDATED,
    Names,
    bucket_of,
    number_of,
    run_key,
    stream_id,
)

KEY = StreamKey("run-1", "ab" * 16, "stdout")
FACTS = Facts(KEY, TEXT, 1_763_884_800_000_000, {"run.id": "run-1"})


def block(offset=0, data=b"one line\n"):
    return seal(FACTS, offset, data, (Mark(len(data), 1),))


# Addresses and names


def test_an_address_has_hosts_prefix_user_and_options():
    address = parse("us%40er:p%3Aw%2F@one:1,two/team-a?fresh_seconds=0&shards=3")

    assert address.hosts == (("one", 1), ("two", 9200))
    assert (address.user, address.password) == ("us@er", "p:w/")
    assert (address.prefix, address.fresh_seconds, address.options["shards"]) == ("team-a", 0.0, 3)
    assert parse("one").prefix == "loghaul"


def test_a_password_is_never_shown():
    address = parse("me:secret-word@host:9200/x")

    assert "secret-word" not in f"{address} {address!r}"


@pytest.mark.parametrize(
    "rest", ["", ":9200", "host:port", "host:0", "h/UPPER", "h/a,b", "h/x?odd=1", "h/x?shards=two"]
)
def test_an_address_that_makes_no_sense_is_a_usage_error(rest):
    with pytest.raises(UsageError):
        parse(rest)


def test_the_bucket_of_a_writer_is_the_month_of_its_start():
    assert bucket_of(FACTS.started) == "2025.11"
    assert {bucket_of(odd) for odd in (0, -1, 1 << 70, 1 << 62)} == {UNDATED}


def test_what_opensearch_sees_of_hostile_names_is_plain():
    for name in ("a,b", "\ud800", "x" * 999, "", "..", "*", "\0", "~x", "Ünï"):
        assert run_key(name).startswith("~") and run_key(name)[1:].isascii()
    assert run_key("exp_1763884800_0a1b2c3d") == "exp_1763884800_0a1b2c3d"
    ids = {
        stream_id(StreamKey(*parts))
        for parts in (("a", "b", "c"), ("ab", "", "c"), ("a", "bc", ""))
    }
    assert len(ids) == 3 and {len(one) for one in ids} == {16}


@given(st.sets(st.integers(1, 60), max_size=12), st.randoms())
def test_sums_of_links_tell_a_chain_from_holes_and_overlaps(cuts, source):
    edges = [0, *sorted(cuts)]
    blocks = list(itertools.pairwise(edges))
    assert sums(blocks).chained

    if len(blocks) < 2:
        return
    place = source.randrange(len(blocks))
    start, end = blocks[place]
    last = place == len(blocks) - 1
    broken = [*blocks[:place], *([(start, end + 5)] if source.random() < 0.5 and not last else [])]
    broken += blocks[place + 1 :]
    whole = (
        broken
        and broken[0][0] == 0
        and all(one[1] == two[0] for one, two in itertools.pairwise(broken))
    )
    assert sums(broken).chained == bool(whole or not broken)


def test_a_hole_made_up_for_by_an_overlap_is_no_chain():
    assert not sums([(0, 10), (20, 30), (22, 32), (30, 42)]).chained


def sums(blocks):
    values = {
        "end": max((end for _, end in blocks), default=0),
        "length": sum(end - start for start, end in blocks),
        "link": sum(number_of(end) - number_of(start) for start, end in blocks),
    }
    return Sums(len(blocks), {name: {"value": float(value)} for name, value in values.items()})


# Documents


def test_a_block_comes_back_from_its_content():
    stream = StreamKey("ru\ud800n", "w" * 32, 'name "\\\0\n')
    data = bytes(range(256)) * 9
    one = seal(
        replace(FACTS, stream=stream), 7, data, (Mark(9, 1), Mark(len(data) - 9, -5)), position=3
    )

    document = json.loads(documents.document(one))

    stored = content.unpack(document["content"])
    assert (stored.head, stored.data, stored.marks) == (one.head, one.data, one.marks)
    assert content.unpack_head(content.decode(document["head"])) == one.head


def test_an_altered_block_is_damaged_and_says_where():
    raw = bytearray(content.decode(json.loads(documents.document(block(5)))["content"]))
    raw[-6] ^= 1

    with pytest.raises(StoreDamaged, match="stdout at 5"):
        content.unpack(content.b64encode(raw).decode())
    with pytest.raises(StoreDamaged):
        content.unpack("AAAA")


@given(st.binary(max_size=200), st.binary(max_size=50), st.sets(st.text(max_size=20), max_size=3))
def test_no_content_of_a_block_becomes_json(words, high, fields):
    one = replace(block(), words=words, words_high=high, fields=frozenset(fields))

    document = json.loads(documents.document(one))

    assert set(document) <= set(mapping.BLOCKS["properties"])
    assert set(document["words"].encode()) <= set(b"abcdefghijklmnopqrstuvwxyz0123456789_ ")


def test_a_document_has_every_word_once():
    one = replace(block(), words=b"again once\nagain", words_high=b"again")

    document = json.loads(documents.document(one))

    assert sorted(document["words"].split()) == ["again", "once"]
    assert document["words_high"] == "again"


def test_every_field_of_a_document_is_mapped_and_times_fit():
    head = replace(block().head, time_min=-(1 << 70), time_max=1 << 70, levels={"odd one": 2})

    document = json.loads(documents.document(replace(block(), head=head)))

    assert (document["time_min"], document["time_max"]) == (-(1 << 63), (1 << 63) - 1)
    assert document["odd"] is True and document["levels"] == {}


def test_proposals_become_filters():
    asked = Both((Word(b"cuda"), Word(b"mem", prefix=True, high=True), Times(5, None)))

    word, prefix, times = queries.proposed(asked)["bool"]["filter"]

    assert word["bool"]["should"][0] == {"term": {"words": "cuda"}}
    assert prefix["bool"]["should"][0] == {"prefix": {"words_high": "mem"}}
    assert times == {"range": {"time_max": {"gte": 5}}}
    assert queries.proposed(Word(b"not a word")) == queries.EVERY
    assert queries.proposed(Either((NOTHING,))) == queries.NOTHING


def test_many_alternatives_stay_below_the_limit_of_clauses():
    query = queries.either([{"term": {"words": str(number)}} for number in range(5000)])

    assert len(query["bool"]["should"]) <= 500


# A server that replays replies


class Replay:
    """An OpenSearch of templates and bulk requests; `faults` are replies to the next bulks."""

    def __init__(self):
        self.templates, self.bulks, self.faults, self.requests = {}, [], [], []
        self.version = {"version": {"distribution": "opensearch", "number": "2.19.1"}}
        self.denied = False
        self.indices = set()
        replay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self):
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                replay.requests.append((self.command, self.path))
                status, reply = replay.answer(self.command, self.path.partition("?")[0], body)
                if status is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                raw = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                self.send_response(status)
                kind = "text/html" if isinstance(reply, bytes) else "application/json"
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(raw)

            def handle(self):
                with suppress(OSError):  # who waited is gone
                    super().handle()

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def dsn(self, **options):
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"opensearch://127.0.0.1:{self.port}/x?{query}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method, path, body):
        if self.denied:
            return 401, b"Unauthorized"
        if path == "/":
            return (200, self.version) if not isinstance(self.version, tuple) else self.version
        if path == "/_bulk":
            return self.bulk(body)
        if path.startswith("/_index_template/"):
            return self.template(method, path.rpartition("/")[2], body)
        if path.endswith("/_mget"):
            asked = json.loads(body)
            ids = asked.get("ids") or [one["_id"] for one in asked["docs"]]
            return 200, {"docs": [{"_id": one, "found": False} for one in ids]}
        if path.endswith("/_search"):
            return 200, {"hits": {"hits": []}}
        if path.endswith("/_settings"):
            return 200, {}
        if method == "PUT":
            self.indices.add(path[1:])
        return (200, {}) if method != "HEAD" or path[1:] in self.indices else (404, {})

    def template(self, method, name, body):
        if method == "PUT":
            self.templates[name] = json.loads(body)
        if name not in self.templates:
            return 404, {}
        found = {"name": name, "index_template": self.templates[name]}
        return 200, {"index_templates": [found]}

    def bulk(self, body):
        lines = body.split(b"\n")[:-1]
        actions = [json.loads(line) for line in lines[::2]]
        index = actions[0]["create"]["_index"]
        if "-streams-" in index:
            return 200, done(len(actions))
        self.bulks.append([one["create"]["_id"] for one in actions])
        if self.faults:
            fault = self.faults.pop(0)
            return fault(actions) if callable(fault) else fault
        return 200, done(len(actions))


def done(count):
    return {"took": 1, "errors": False, "items": [{"create": {"status": 201}}] * count}


def items(*errors):
    """A reply in which each item has (status, error type) or is well (None)."""
    found = []
    for error in errors:
        if error is None:
            found.append({"create": {"status": 201}})
        else:
            status, kind = error
            found.append({"create": {"status": status, "error": {"type": kind, "reason": "why"}}})
    return 200, {"took": 1, "errors": True, "items": found}


@pytest.fixture
def replay():
    server = Replay()
    yield server
    server.close()


@pytest.fixture
def write(replay):
    writers = []

    def write(*blocks, **options):
        if not writers:
            writers.append(open_writer(replay.dsn(**options)))
        return list(asyncio.run(writers[0].write(Batch(blocks, (FACTS,)))))

    yield write
    for writer in writers:
        asyncio.run(writer.close())


CONFLICT = (409, "version_conflict_engine_exception")
GONE = (404, "index_not_found_exception")


def test_a_conflict_is_a_block_that_stood_there(replay, write):
    replay.faults = [items(CONFLICT, None)]

    assert write(block(0), block(9)) == [block(0).head.key]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "es_rejected_execution_exception"),
        (429, "cluster_block_exception"),
        (403, "cluster_block_exception"),
        (503, "unavailable_shards_exception"),
        (503, "no_shard_available_action_exception"),
        (500, "translog_exception"),
        (403, "security_exception"),
    ],
)
def test_what_may_pass_is_to_be_tried_again(replay, write, status, kind):
    replay.faults = [items(None, (status, kind))]

    with pytest.raises(StoreError) as failure:
        write(block(0), block(9))

    assert not failure.value.permanent
    assert write(block(0), block(9)) == []


@pytest.mark.parametrize(
    "kind",
    ["mapper_parsing_exception", "strict_dynamic_mapping_exception", "illegal_argument_exception"],
)
def test_a_document_that_will_never_be_taken_is_refused_for_good(replay, write, kind):
    replay.faults = [items((400, kind))]

    with pytest.raises(StoreError, match="why") as failure:
        write(block())

    assert failure.value.permanent


def test_what_may_pass_counts_before_what_will_not(replay, write):
    replay.faults = [items((400, "mapper_parsing_exception"), (429, "circuit_breaking_exception"))]

    with pytest.raises(StoreError) as failure:
        write(block(0), block(9))

    assert not failure.value.permanent


def test_a_request_that_is_too_large_is_halved(replay, write):
    def small_ones(actions):
        if len(actions) > 2:
            replay.faults.append(small_ones)
            return 413, b"too large"
        replay.faults.append(small_ones)
        return 200, done(len(actions))

    replay.faults = [small_ones]
    blocks = [block(offset) for offset in range(0, 72, 9)]

    assert write(*blocks) == []

    assert [len(bulk) for bulk in replay.bulks] == [8, 4, 2, 2, 4, 2, 2]


def test_one_block_that_is_too_large_is_refused_for_good(replay, write):
    replay.faults = [(413, b"")]

    with pytest.raises(StoreError) as failure:
        write(block())

    assert failure.value.permanent


@pytest.mark.parametrize(
    "fault",
    [
        (429, {"error": {"type": "es_rejected_execution_exception", "reason": "full"}}),
        (429, b"Too Many Requests"),
        (503, b"Service Unavailable"),
        (502, b"Bad Gateway"),
        (401, b"Unauthorized"),
        (403, {"error": {"type": "security_exception", "reason": "no permissions"}}),
        (200, b"<html>proxy</html>"),
        (200, {"took": 1}),
        (None, b""),
    ],
)
def test_a_failed_request_is_an_error_to_try_again_and_sent_once(replay, write, fault):
    replay.faults = [fault]

    with pytest.raises(StoreError) as failure:
        write(block())

    assert not failure.value.permanent
    assert len(replay.bulks) == 1
    assert write(block()) == []


def test_no_answer_is_an_error_within_the_time_given(replay, write):
    waiting = threading.Event()
    replay.faults = [lambda actions: (waiting.wait(20), done(len(actions)))]

    with pytest.raises(StoreError, match=r"no answer within 0\.5 s"):
        write(block(), timeout_seconds=0.5)
    waiting.set()


def test_an_index_that_vanished_is_made_again(replay, write):
    write(block())
    replay.indices.clear()
    replay.faults = [items(None, GONE)]

    assert write(block(9), block(18)) == []

    assert replay.indices == {"x-blocks-v1-2025.11"}
    assert replay.faults == []


def test_an_index_that_vanishes_again_and_again_is_tried_again_later(replay, write):
    write(block())
    replay.faults = [items(GONE) for _ in range(3)]

    with pytest.raises(StoreError, match="no index") as failure:
        write(block(9))

    assert not failure.value.permanent
    assert write(block(9)) == []


# Bad input


def test_a_wrong_password_is_told_without_it(replay):
    replay.denied = True
    dsn = replay.dsn().replace("//", "//me:secret-word@")

    for opened in (open_writer, lambda dsn: open_reader(dsn).runs()):
        with pytest.raises(StoreError, match="refuses user 'me'") as failure:
            opened(dsn)
        assert "secret-word" not in str(failure.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"version": {"number": "8.1.0"}}, "Elasticsearch 8.1.0"),
        ({"version": {"number": "2.4.0", "distribution": "opensearch"}}, "2.19 or newer"),
        ({"hello": "world"}, "is this its port"),
        ((200, b"<html>welcome</html>"), "is this its port"),
        ((404, b"not found"), "is this the port"),
        ((None, b""), "does not speak HTTP"),
    ],
)
def test_another_kind_of_server_is_told(replay, answer, said):
    replay.version = answer

    with pytest.raises(StoreError, match=said):
        open_writer(replay.dsn())
    with pytest.raises(StoreError, match=said):
        open_reader(replay.dsn()).runs()


@pytest.mark.parametrize(
    ("answer", "waits"),
    [
        ((500, {"error": {"type": "class_cast_exception", "reason": "of its own"}}), True),
        ((503, {"error": {"type": "cluster_block_exception", "reason": "recovering"}}), True),
        ((502, b"Bad Gateway"), True),
        ((500, b"<html>a server of another kind broke</html>"), False),
        ((400, {"error": {"type": "illegal_argument_exception", "reason": "why"}}), False),
    ],
)
def test_a_store_that_begins_or_ends_is_one_to_wait_for(replay, answer, waits):
    replay.version = answer

    with pytest.raises(StoreError) as failure:
        open_writer(replay.dsn())

    assert isinstance(failure.value, StoreAway) == waits


def test_a_server_of_another_protocol_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(b"\0\0\0\x10not HTTP at all\n")
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(StoreError, match="does not speak HTTP"):
            open_writer(f"opensearch://127.0.0.1:{listener.getsockname()[1]}/x")


def test_nobody_there_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(StoreError, match="cannot be reached"):
        open_writer(f"opensearch://127.0.0.1:{port}/x")


# Set-up


def test_templates_that_are_absent_are_made_and_made_once(replay):
    for _ in range(2):
        asyncio.run(open_writer(replay.dsn()).close())

    made = [path for method, path in replay.requests if method == "PUT"]
    assert sorted(path.partition("?")[0] for path in made) == [
        "/_index_template/x-blocks-v1",
        "/_index_template/x-runs-v1",
        "/_index_template/x-streams-v1",
        "/x-runs-v1",
        "/x-streams-v1",
    ]


def test_setup_says_of_each_thing_once_what_it_made(replay):
    first, again = (CliRunner().invoke(loghaul, ["setup", "--store", replay.dsn()]) for _ in "12")

    assert first.exit_code == again.exit_code == 0, first.output
    assert len(set(first.output.splitlines())) == len(first.output.splitlines()) > 1
    assert "index x-streams-v1 created" in first.output
    assert again.output.endswith(": ready\n")


def drifted(template):
    template["template"]["mappings"]["properties"]["run"] = {"type": "text"}


def asynchronous(template):
    template["template"]["settings"]["index"]["translog.durability"] = "async"


def newer(template):
    template["version"] = mapping.VERSION + 1


@pytest.mark.parametrize(
    ("change", "said"),
    [(drifted, "was changed"), (asynchronous, "was changed"), (newer, "newer loghaul")],
)
def test_a_template_that_is_not_ours_any_more_is_refused(replay, change, said):
    asyncio.run(open_writer(replay.dsn()).close())
    change(replay.templates["x-blocks-v1"])

    with pytest.raises(StoreError, match=said) as failure:
        open_writer(replay.dsn())

    assert failure.value.permanent


def test_sizes_are_the_operators_to_change(replay):
    asyncio.run(open_writer(replay.dsn()).close())
    settings = replay.templates["x-blocks-v1"]["template"]["settings"]["index"]
    settings |= {"number_of_shards": "6", "refresh_interval": "30s", "codec": "best_compression"}

    asyncio.run(open_writer(replay.dsn()).close())


def test_names_of_indices_carry_the_schema():
    names = Names("team")

    assert names.blocks("2026.11") == "team-blocks-v1-2026.11"
    assert names.bucket(names.blocks("2026.11")) == "2026.11"
