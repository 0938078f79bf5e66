"""Searching over runs, streams and blocks, held to lists made by going through everything."""

from __future__ import annotations

import asyncio
import random

import pytest

from loghaul.chunk import End, Mark, StreamKey
from loghaul_ingest.block import Facts
from loghaul_ingest.errors import UsageError
from loghaul_ingest.query import parse
from loghaul_ingest.seal import seal
from loghaul_ingest.search import FILE, Request, count, facets, histogram, search
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import Batch

START = 1_764_000_000_000_000
WORDS = ("alpha", "beta", "gamma", "ERROR:root:", "INFO:azure.core:", "rare", "größe")
QUERIES = (
    *("*", "alpha", "alpha beta", '"alpha beta"', "alpha OR gamma", "-alpha", "level:error"),
    *("level:>=warning", "alpha level:error", "node:node-1", "rank:0 beta", "al*", "*eta"),
    *("/alp.a/", "größe", "rare", "nothing", "-level:error", "stream:stderr alpha", "level:*"),
)


class Corpus:
    """A store, and beside it every line of it as (time, stream, offset, text)."""

    def __init__(self, dsn: str, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.lines: list[tuple[int, StreamKey, int, str]] = []
        self.facts: dict[StreamKey, Facts] = {}
        self.writer, self.reader = open_writer(dsn), open_reader(dsn)
        for run in range(3):
            for rank in range(2):
                for name in ("stdout", "stderr"):
                    self._stream(f"run-{run}", rank, name, START + run * 40_000_000)

    def _stream(self, run: str, rank: int, name: str, start: int) -> None:
        key = StreamKey(run, f"{rank:032x}", name)
        common = {"run.id": run, "run.node": f"node-{rank}", "run.rank": rank}
        common |= {"log.file.path": f"azureml-logs/70_driver_log_{rank}.txt"}
        common |= {"log.iostream": name}
        texts = [" ".join(self.random.choices(WORDS, k=4)) for _ in range(60)]
        data = "".join(text + "\n" for text in texts).encode()
        facts = Facts(key, "text", start, common, End(len(data), start, "exit", None, {}))
        times, offset = [], 0
        for text in texts:
            times.append(start + self.random.randrange(4) * 1_000_000 + offset * 10_000)
            self.lines.append((times[-1], key, offset, text))
            offset += len(text.encode()) + 1
        asyncio.run(self.writer.write(Batch(self._blocks(facts, texts, times), (facts,))))
        self.facts[key] = facts

    def _blocks(self, facts, texts, times):
        blocks, offset, at = [], 0, 0
        while at < len(texts):
            size = self.random.randrange(1, 12)
            part = [(text + "\n").encode() for text in texts[at : at + size]]
            marks = [
                Mark(len(line), time)
                for line, time in zip(part, times[at : at + size], strict=False)
            ]
            ended = at + size >= len(texts)
            blocks.append(seal(facts, offset, b"".join(part), marks, ended=ended))
            offset, at = blocks[-1].head.end, at + size
        return blocks

    def overlap(self) -> None:
        """A second worker with other cuts writes some of the same bytes again."""
        for key, facts in self.facts.items():
            own = [line for line in self.lines if line[1] == key][3:40]
            start = own[0][2]
            part = [(text + "\n").encode() for _, _, _, text in own]
            marks = [Mark(len(line), time) for line, (time, *_) in zip(part, own, strict=True)]
            block = seal(facts, start, b"".join(part), marks)
            asyncio.run(self.writer.write(Batch((block,))))

    def expected(self, text, since=None, until=None, runs=None):
        query = parse(text)
        found = []
        for line in self.lines:
            time, key, _, said = line
            if (since is not None and time < since) or (until is not None and time >= until):
                continue
            if runs is not None and key.run not in runs:
                continue
            data = (said + "\n").encode()
            facts = self.facts[key]
            matcher = query.bind(facts)
            from loghaul_ingest.view import View

            block = seal(facts, 0, data, [Mark(len(data), time)], ended=True)
            view = View(facts, block.head, block.data, block.marks)
            if matcher is not None and matcher.count(view):
                found.append(line)
        return sorted(found, reverse=True)


@pytest.fixture(params=["memory", "sqlite"])
def corpus(request, tmp_path):
    name = "".join(c for c in request.node.nodeid if c.isalnum())
    dsn = f"memory:{name}" if request.param == "memory" else f"sqlite://{tmp_path}/store"
    made = Corpus(dsn)
    yield made
    made.reader.close()
    asyncio.run(made.writer.close())


def pages(corpus, text, limit, **options):
    cursor, hits = None, []
    while True:
        page = search(corpus.reader, Request(parse(text), limit=limit, cursor=cursor, **options))
        assert len(page.hits) <= limit
        hits += page.hits
        cursor = page.cursor
        if cursor is None:
            assert page.complete
            return [(hit.time_us, hit.stream, hit.offset, hit.event["message"]) for hit in hits]


@pytest.mark.parametrize("overlapping", [False, True])
def test_every_hit_is_given_once_newest_first_whatever_the_size_of_the_pages(corpus, overlapping):
    if overlapping:
        corpus.overlap()
    for text in QUERIES:
        expected = corpus.expected(text)
        assert expected == pages(corpus, text, 1000), text
        if text in ("alpha", "-level:error", "rare"):
            assert expected == pages(corpus, text, 37), text


def test_runs_and_times_narrow_a_search(corpus):
    since, until = START + 5_000_000, START + 60_000_000
    for text in ("alpha", "*", "level:error"):
        expected = corpus.expected(text, since, until, ["run-0", "run-1"])
        options = {"since": since, "until": until, "runs": ["run-0", "run-1"]}
        assert expected == pages(corpus, text, 50, **options)


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_count_is_the_number_of_hits(corpus, overlapping):
    if overlapping:
        corpus.overlap()
    for text in QUERIES:
        for since, until in ((None, None), (START + 5_000_000, START + 60_000_001)):
            found = count(corpus.reader, parse(text), since=since, until=until)
            assert len(corpus.expected(text, since, until)) == found.total, text
            assert found.searched_back_to is None


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_histogram_puts_each_hit_into_the_bucket_of_its_time(corpus, overlapping):
    if overlapping:
        corpus.overlap()
    bucket = 3_000_000
    for text in ("*", "alpha", "level:error", "node:node-1 -beta"):
        expected: dict[int, int] = {}
        for time, *_ in corpus.expected(text):
            expected[time - time % bucket] = expected.get(time - time % bucket, 0) + 1
        for by_level in (False, True):
            found = histogram(corpus.reader, parse(text), bucket, by_level=by_level)
            assert dict(sorted(expected.items())) == dict(found.counts), text
            if by_level:
                assert sum(expected.values()) == sum(found.levels.values())


def test_facets_count_the_values_of_what_matches(corpus):
    for text in ("*", "alpha", "level:error"):
        expected = corpus.expected(text)
        found = facets(corpus.reader, parse(text), ["run", "node", "level", "logger"])
        assert len(expected) == found.total
        for number, name in ((0, "run"), (1, "node")):
            values: dict[str, int] = {}
            for _, key, *_ in expected:
                value = key.run if number == 0 else f"node-{int(key.writer, 16)}"
                values[value] = values.get(value, 0) + 1
            assert values == dict(found.values[name])
        errors = sum(text.startswith("ERROR:root:") for *_, text in expected)
        assert errors == dict(found.values["level"]).get("error", 0)
        assert sum(n for _, n in found.values["logger"]) == found.total
        assert dict(found.values["level"]) == dict(
            facets(corpus.reader, parse(text), ["level"]).values["level"]
        )


def test_a_facet_of_no_field_is_a_mistake(corpus):
    with pytest.raises(UsageError, match="no field"):
        facets(corpus.reader, parse("*"), ["colour"])


def test_context_is_the_lines_around_in_the_same_stream(corpus):
    page = search(corpus.reader, Request(parse("rare"), context=7, limit=40))
    for hit in page.hits:
        own = sorted(line[2:] for line in corpus.lines if line[1] == hit.stream)
        place = own.index((hit.offset, hit.event["message"]))
        before = [(e["log.offset"], e["message"]) for e in hit.before]
        after = [(e["log.offset"], e["message"]) for e in hit.after]
        assert own[max(0, place - 7) : place] == before
        assert own[place + 1 : place + 8] == after


@pytest.mark.parametrize("limit", [1000, 7])
def test_in_file_order_each_stream_is_read_from_its_top(corpus, limit):
    for text in ("alpha", "run:run-1 file:70_driver_log_1.txt"):
        found = pages(corpus, text, limit, order=FILE)
        assert corpus.expected(text) == sorted(found, reverse=True)
        files = [(key.run, key.writer) for _, key, *_ in found]
        assert sorted(files) == files
        for stream in {key for _, key, *_ in found}:
            offsets = [offset for _, key, offset, _ in found if key == stream]
            assert sorted(offsets) == offsets


def test_a_stopped_count_says_how_far_it_got(corpus, monkeypatch):
    monkeypatch.setattr("loghaul_ingest.search.walking._EVERY_SECONDS", -1.0)
    seen = []

    def watch(progress):
        seen.append(progress)
        return len(seen) < 20

    found = count(corpus.reader, parse("alpha"), watch=watch)
    assert found.searched_back_to is not None
    newer = corpus.expected("alpha", since=found.searched_back_to)
    assert len(newer) <= found.total < len(corpus.expected("alpha"))


def test_a_search_out_of_time_gives_what_is_certain_and_goes_on_from_there(corpus):
    expected = corpus.expected("alpha")
    cursor, hits, rounds = None, [], 0
    while rounds < 500:
        request = Request(
            parse("alpha"), limit=50, cursor=cursor, seconds=0.0 if rounds < 3 else None
        )
        page = search(corpus.reader, request)
        hits += [(hit.time_us, hit.stream, hit.offset) for hit in page.hits]
        rounds, cursor = rounds + 1, page.cursor
        if cursor is None:
            break
    assert [line[:3] for line in expected] == hits


@pytest.mark.parametrize("cursor", ["", "x", "bm8=", "WyJuZXdlc3QiLFsxXV0="])
def test_a_cursor_of_nobody_is_refused(corpus, cursor):
    for order in ("newest", FILE):
        if cursor:
            with pytest.raises(UsageError, match="cursor"):
                search(corpus.reader, Request(parse("*"), cursor=cursor, order=order))


class _CompactedMeanwhile:
    """A reader whose store is compacted between the proposal and the first load."""

    def __init__(self, corpus) -> None:
        self._corpus, self._reader, self.vanished = corpus, corpus.reader, None

    def __getattr__(self, name):
        return getattr(self._reader, name)

    def load(self, keys):
        if self.vanished is None:
            compact = self._corpus.writer.compact
            self.vanished = sum(asyncio.run(compact(key)) for key in self._corpus.facts)
        return self._reader.load(keys)


@pytest.mark.parametrize("text", ["alpha", "-alpha", "level:error beta"])
def test_blocks_that_are_merged_during_a_search_lose_and_repeat_nothing(corpus, text):
    expected = corpus.expected(text)
    corpus.reader = _CompactedMeanwhile(corpus)
    if text == "alpha":
        assert len(expected) == count(corpus.reader, parse(text)).total
    else:
        assert expected == pages(corpus, text, 1000)
    assert corpus.reader.vanished
    assert expected == pages(corpus, text, 1000)
