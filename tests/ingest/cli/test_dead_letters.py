"""Dead letters: looked at, mended, sent again; gone only when what they hold is stored."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from loghaul import config
from loghaul.chunk import Chunk, Mark, Record, StreamKey, encode
from loghaul_ingest.cli import loghaul
from loghaul_ingest.dead_letters import DirectoryLetters
from loghaul_ingest.errors import StoreError
from loghaul_ingest.sources.memory import MemoryBroker
from loghaul_ingest.stack import stack
from loghaul_ingest.stores import open_reader, open_writer

KEY = StreamKey("run", "a" * 32, "stdout")


class Refusing:
    """A writer that takes no block with a certain word, ever."""

    def __init__(self, writer, word):
        self.writer, self.word = writer, word

    async def extents(self, streams):
        return await self.writer.extents(streams)

    async def write(self, batch):
        if any(self.word in block.data for block in batch.blocks):
            error = StoreError("mapper_parsing_exception: failed to parse")
            error.permanent = True
            raise error
        return await self.writer.write(batch)

    async def compact(self, stream):
        return await self.writer.compact(stream)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LOGHAUL_HOME", str(tmp_path))
    settings = config.load()
    letters = DirectoryLetters(tmp_path / "dead-letters")
    return SimpleNamespace(settings=settings, letters=letters)


def kept(home):
    return asyncio.run(home.letters.letters())


def call(*args, code=0):
    done = CliRunner().invoke(loghaul, ["dead-letters", *args], prog_name="loghaul")
    assert done.exit_code == code, done.output
    return done


def ingest(home, *records, refuse=None):
    async def run():
        writer, reader = open_writer(home.settings.store), open_reader(home.settings.store)
        used = Refusing(writer, refuse) if refuse else writer
        broker = MemoryBroker(["logs/0"])
        for record in records:
            broker.send("logs/0", record)
        worker = stack(broker.join(), used, reader, home.letters)
        for _ in range(5):
            await worker.step(0)
        await worker.drain()
        await worker.finish()
        await writer.close()
        reader.close()

    asyncio.run(run())


def stored(home, run):
    reader = open_reader(home.settings.store)
    try:
        found = b""
        for row in reader.streams(run):
            heads = [head.key for head in reader.heads(row.facts.stream)]
            found += b"".join(block.data for block in reader.load(heads))
        return found
    finally:
        reader.close()


def chunk(offset, data):
    return Chunk(KEY, "text", offset, data, (Mark(len(data), 1_000_000),), 5, {"run.id": "run"})


def test_letters_are_listed_with_place_reason_size_and_time(home):
    ingest(home, Record(b"k", b"\x00\x01", [("loghaul-run", b"r")]), Record(b"", b"", []))

    listed = call("list").output
    (first, second) = json.loads(call("list", "-o", "json").output)

    assert "logs/0@0" in listed and "neither text nor a format" in listed
    assert (first["place"], first["bytes"]) == ("logs/0@0", 2)
    assert second["reason"] == "record is empty"
    assert first["kept"].startswith("20")
    assert call("show", "1", "--raw").stdout_bytes == b"\x00\x01"
    assert "loghaul-run" in call("show", "1").output


def test_a_letter_is_stored_after_its_format_was_named_and_then_gone(home):
    ingest(home, Record(b"k", b"\x00binary log", []))

    call("replay", "1", "--as", "plain", "--run", "mended")

    assert stored(home, "mended") == b"\x00binary log\n"
    assert kept(home) == []


def test_a_letter_may_be_mended_in_its_file(home):
    ingest(home, Record(b"k", b'{"log": tru', [("loghaul-format", b"fluentbit")]))
    (letter,) = kept(home)
    mended = {"log": "mended", "loghaul.run.id": "r", "date": 1_763_937_600}
    home.letters.path(letter).write_text(json.dumps(mended))

    call("replay", "--all")

    assert stored(home, "r") == b"mended\n"


def test_what_is_refused_again_is_a_letter_again(home):
    ingest(home, Record(b"k", b"\x00", []))
    (before,) = kept(home)

    done = call("replay", "1", code=1)

    (after,) = kept(home)
    assert before.name != after.name
    assert home.letters.path(after).read_bytes() == b"\x00"
    assert "refused again" in str(done.output) + str(done.exception)


def test_a_block_that_no_store_would_take_goes_back_to_its_place(home):
    ingest(home, chunk(0, b"one\n"))
    ingest(home, chunk(0, b"one\n"), chunk(4, b"poison\n"), refuse=b"poison")
    ingest(home, chunk(11, b"three\n"))
    (letter,) = kept(home)
    assert letter.place == f"{KEY}@4"
    assert stored(home, "run") == b"one\nthree\n"

    call("replay", letter.name)

    assert stored(home, "run") == b"one\npoison\nthree\n"
    assert kept(home) == []


def test_a_replay_that_was_cut_short_stores_nothing_twice(home):
    ingest(home, Record(b"k", b"\x00", []))
    (letter,) = kept(home)
    before = [(path, path.read_bytes()) for path in home.letters.directory.iterdir()]
    for _ in range(2):
        for path, data in before:
            path.write_bytes(data)
        call("replay", letter.name, "--as", "plain", "--run", "r")

    assert stored(home, "r") == b"\x00\n"


def test_a_chunk_that_was_altered_can_be_kept_as_text_of_a_run(home):
    record = encode(chunk(0, b"bytes\n"))
    ingest(home, record._replace(value=b"bytez\n"))

    call("replay", "1", "--as", "plain", "--run", "salvaged")

    assert stored(home, "salvaged") == b"bytez\n"


def test_letters_are_dropped_only_when_that_is_said(home):
    ingest(home, Record(b"k", b"\x00", []))

    call("replay", "1", "--drop")

    assert kept(home) == []


def test_a_description_that_cannot_be_read_is_listed_as_such(home):
    ingest(home, Record(b"k", b"\x00", []))
    home.letters.path(kept(home)[0]).with_suffix(".json").write_text("{")

    assert "cannot be read" in call("list").output


def test_a_letter_is_named_by_the_beginning_of_its_id_which_stays_when_others_go(home):
    ingest(home, Record(b"k", b"\x00first", []), Record(b"k", b"\x00second", []))
    second = json.loads(call("list", "-o", "json").output)[1]

    call("replay", "1", "--drop")

    assert call("show", second["id"][:8], "--raw").stdout_bytes == b"\x00second"
    assert json.loads(call("show", "1", "-o", "json").output)["id"] == second["id"]
    call("show", "2", code=3)


def test_a_letter_is_sent_with_the_bytes_of_a_file(home, tmp_path):
    ingest(home, Record(b"k", b"\x00", []))
    mended = tmp_path / "mended"
    mended.write_bytes(b"mended\n")

    call("replay", "1", "--bytes", str(mended), "--as", "plain", "--run", "r")

    assert stored(home, "r") == b"mended\n"
    assert kept(home) == []


def test_a_block_with_other_bytes_is_refused_and_stays(home, tmp_path):
    ingest(home, chunk(0, b"poison\n"), refuse=b"poison")
    longer = tmp_path / "longer"
    longer.write_bytes(b"more than there were\n")

    done = call("replay", "1", "--bytes", str(longer), code=2)

    assert "their place is fixed" in done.output
    assert len(kept(home)) == 1
