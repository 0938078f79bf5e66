"""What the SQLite store promises beyond the contract: damage, kill, rights, other processes."""

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from loghaul.chunk import TEXT, End, Mark, StreamKey
from loghaul_ingest.block import BlockKey, Extent, Facts
from loghaul_ingest.errors import StoreDamaged, StoreError
from loghaul_ingest.query.proposal import EVERY, Word
from loghaul_ingest.seal import seal
from loghaul_ingest.stores import open_reader, open_writer
from loghaul_ingest.stores.base import Batch
from loghaul_ingest.stores.sqlite import database, layout, polishing, searching, training, writer

WRITER = "ab" * 16


def key(run):
    return StreamKey(run, WRITER, "stdout")


def facts(run, end=None):
    return Facts(key(run), "text", 1, {"run.id": run, "role": "supervisor"}, end)


def block(run, offset, data, time=1):
    return seal(facts(run), offset, data, (Mark(len(data), time),))


def blocks_of(run, lines):
    found, offset = [], 0
    for number, line in enumerate(lines):
        found.append(block(run, offset, line, number))
        offset += len(line)
    return found


def do(coroutine):
    return asyncio.run(coroutine)


async def written(dsn, *batches):
    one = open_writer(dsn)
    for batch in batches:
        await one.write(batch)
    await one.close()


@pytest.fixture
def store(tmp_path):
    """A store of two runs at rest."""
    dsn = f"sqlite://{tmp_path}/store"
    for run in ("good", "bad"):
        lines = [b"%s line %d\n" % (run.encode(), number) for number in range(50)]
        do(written(dsn, Batch(blocks_of(run, lines), [facts(run)])))
    return dsn


@pytest.fixture
def folder(tmp_path):
    return layout.Layout(tmp_path / "store")


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_a_batch_of_any_number_of_blocks_is_stored_and_found_whole(tmp_path, count):
    dsn = f"sqlite://{tmp_path}/store"
    lines = [b"line number%d\n" % number for number in range(count)]
    do(written(dsn, Batch(blocks_of("run", lines), [facts("run")])))
    reader = open_reader(dsn)
    heads = list(reader.heads(key("run")))
    stored = list(reader.load([head.key for head in heads]))
    assert [one.data for one in stored] == lines
    for number in (0, count - 1):
        (found,) = reader.candidates(Word(b"number%d" % number), runs=["run"])
        assert found.offset == heads[number].offset
    reader.close()


def overwrite(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def emptied(path):
    path.write_bytes(b"")
    os.utime(path, (1, 1))


def changed(statement):
    """A damage that SQLite itself does not see: values that no writer of ours writes."""

    def change(path):
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()

    return change


DAMAGES = {
    "facts": changed("UPDATE streams SET facts = x'7b'"),
    "facts that lack": changed("UPDATE streams SET facts = '{}'"),
    "no text": changed("UPDATE streams SET writer = CAST(x'ff' AS TEXT)"),
    "name": changed("UPDATE streams SET name = 7"),
    "garbage": lambda path: path.write_bytes(b"not a database " * 1000),
    "head": lambda path: overwrite(path, 0, b"\xff" * 200),
    "empty": lambda path: emptied(path),
    "unreadable": lambda path: (path.unlink(), path.mkdir()),  # who is root may read all files
    "pages": lambda path: overwrite(path, 2048, b"\xff" * (path.stat().st_size - 2048)),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_run_is_named_and_the_others_go_on(store, folder, damage):
    path = folder.database("bad")
    DAMAGES[damage](path)
    reader = open_reader(store)

    with pytest.raises(StoreDamaged, match=path.name):
        reader.streams("bad")
    with pytest.raises(StoreDamaged, match=path.name):
        reader.facts(["good", "bad"])
    assert len(list(reader.candidates(EVERY, runs=["good"]))) == 50
    assert {row.run: row.status for row in reader.runs()}["good"] == "lost"
    assert "damaged" in {row.status for row in reader.runs()}
    reader.close()


def test_a_database_that_does_not_say_whose_it_is_costs_the_others_nothing(store, folder):
    changed("DELETE FROM meta")(folder.database("bad"))
    reader = open_reader(store)

    assert sorted(row.status for row in reader.runs()) == ["damaged", "lost"]
    reader.close()


def test_a_frame_that_claims_to_be_huge_takes_no_memory(store, folder):
    # A frame of zstd with a size of content of 2 to the power of 40 bytes.
    changed("UPDATE content SET data = x'28b52ffde00000000000010000010000'")(folder.database("bad"))
    reader = open_reader(store)

    with pytest.raises(StoreDamaged, match="more than any block has"):
        list(reader.load([head.key for head in reader.heads(key("bad"))]))
    reader.close()


@pytest.mark.parametrize("damage", ["garbage", "empty", "unreadable"])
def test_a_damaged_run_gives_all_of_the_others_before_the_error(store, folder, damage):
    DAMAGES[damage](folder.database("bad"))
    reader, found = open_reader(store), []

    with pytest.raises(StoreDamaged):
        for head in reader.candidates(Word(b"line")):
            found.append(head)

    assert {head.stream.run for head in found} == {"good"} and len(found) == 50
    reader.close()


def test_a_file_that_may_not_be_read_is_told_from_one_that_is_not_there(store, folder, monkeypatch):
    bad, opened = folder.database("bad"), Path.open

    def refuse(path, *arguments, **options):
        if path == bad:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    def connect(path, *arguments, connect=sqlite3.connect, **options):
        if bad.name in str(path):
            raise sqlite3.OperationalError("unable to open database file")
        return connect(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(sqlite3, "connect", connect)
    reader = open_reader(store)
    with pytest.raises(StoreDamaged, match="Permission denied"):
        reader.streams("bad")
    folder.catalog.unlink()
    assert sorted(row.status for row in reader.runs()) == ["damaged", "lost"]
    reader.close()


def test_a_database_that_is_being_begun_is_not_shown_yet(store, folder):
    folder.database("begun").write_bytes(b"")
    reader = open_reader(store)
    assert {row.run for row in reader.runs()} == {"good", "bad"}
    reader.close()


def test_a_deletion_that_was_killed_in_the_middle_is_finished_by_the_next_writer(store, folder):
    folder.tombstone("bad").with_suffix(layout.REMOVING).write_bytes(b"99\nbad")
    reader = open_reader(store)
    assert [row.run for row in reader.runs()] == ["good"]
    assert (list(reader.streams("bad")), folder.deleted("bad")) == ([], 99)
    new = StreamKey("bad", "e" * 32, "stdout")
    told = Facts(new, TEXT, 100, {"run.id": "bad"})

    do(written(store, Batch([seal(told, 0, b"new\n", (Mark(4, 200),))], [told])))

    assert [row.facts for row in reader.streams("bad")] == [told]
    assert [row.run for row in reader.runs()] == ["bad", "good"]
    assert (folder.deleted("bad"), folder.removing("bad")) == (99, False)
    reader.close()


def test_a_reader_that_had_a_run_open_sees_the_one_begun_anew(store, folder):
    reader = open_reader(store)
    assert len(list(reader.load([head.key for head in reader.heads(key("good"))]))) == 50

    async def work():
        one = open_writer(store)
        await one.delete_run("good")
        await one.close()

    do(work())
    started = 1 << 53
    new = StreamKey("good", "e" * 32, "stdout")
    told = Facts(new, TEXT, started, {"run.id": "good"})
    do(written(store, Batch([seal(told, 0, b"new\n", (Mark(4, 200),))], [told])))

    assert [row.facts.stream for row in reader.streams("good")] == [new]
    assert [one.data for one in reader.load([BlockKey(new, 0)])] == [b"new\n"]
    reader.close()


def test_a_damaged_run_is_deleted_by_the_name_that_the_list_shows(store, folder):
    DAMAGES["garbage"](folder.database("bad"))
    reader = open_reader(store)
    (name,) = [row.run for row in reader.runs() if row.status == "damaged"]
    with pytest.raises(StoreDamaged):
        reader.streams(name)

    async def work():
        one = open_writer(store)
        deleted = await one.delete_run(name)
        extents = await one.extents({key("bad"): 1})
        await one.close()
        return deleted, extents[key("bad")]

    assert do(work()) == (True, None)
    assert [row.run for row in reader.runs()] == ["good"]
    reader.close()


def test_a_batch_reaches_the_good_runs_although_one_is_damaged(store, folder):
    DAMAGES["garbage"](folder.database("bad"))
    batch = Batch([block("bad", 5000, b"x\n"), block("good", 5000, b"x\n")])

    async def work():
        one = open_writer(store)
        with pytest.raises(StoreDamaged, match="other runs are not affected"):
            await one.write(batch)
        extents = await one.extents({key("good"): 1})
        deleted = await one.delete_run("bad")
        await one.close()
        return extents[key("good")].end, deleted

    assert do(work()) == (5002, True)


def test_a_flipped_bit_in_a_block_is_an_error_and_never_a_wrong_byte(store, folder):
    path = folder.database("bad")
    with sqlite3.connect(path) as connection:
        (data,) = connection.execute("SELECT data FROM content WHERE id = 7").fetchone()
        flipped = data[:-6] + bytes([data[-6] ^ 1]) + data[-5:]
        connection.execute("UPDATE content SET data = ? WHERE id = 7", (flipped,))
    connection.close()
    reader = open_reader(store)

    with pytest.raises(StoreDamaged, match=path.name):
        list(reader.load([head.key for head in reader.heads(key("bad"))]))
    reader.close()


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 500])
def test_a_lost_or_damaged_catalog_is_made_again_silently(store, folder, content):
    if content is None:
        folder.catalog.unlink()
    else:
        folder.catalog.write_bytes(content)
    reader = open_reader(store)
    assert {row.run for row in reader.runs()} == {"good", "bad"}
    assert len(list(reader.candidates(EVERY))) == 100
    reader.close()

    do(written(store, Batch([block("new", 0, b"x\n")])))

    with sqlite3.connect(folder.catalog) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    connection.close()


def test_the_catalog_spares_opening_runs_at_rest_and_never_lies(store, folder, monkeypatch):
    opened = []
    original = database._readable
    monkeypatch.setattr(database, "_readable", lambda *a: opened.append(a[0]) or original(*a))
    reader = open_reader(store)
    assert {row.lines for row in reader.runs()} == {50}
    assert opened == []

    one = open_writer(store)

    async def work():
        await one.write(Batch([block("good", 10_000, b"more\n")]))
        rows = {row.run: row.lines for row in reader.runs()}
        await one.close()
        return rows

    assert do(work()) == {"good": 51, "bad": 50}
    assert {path.name for path in opened} == {folder.database("good").name}
    assert {row.run: row.lines for row in reader.runs()} == {"good": 51, "bad": 50}
    reader.close()


def test_a_tombstone_outlives_the_catalog(store, folder):
    async def work():
        one = open_writer(store)
        await one.delete_run("good")
        await one.close()
        folder.catalog.unlink(missing_ok=True)
        other = open_writer(store)
        extent = (await other.extents({key("good"): 1}))[key("good")]
        await other.close()
        return extent

    assert do(work()) is None
    assert not folder.database("good").exists()


def test_deleting_from_another_process_stops_a_writer_that_has_the_run_open(store):
    async def work():
        one, other = open_writer(store), open_writer(store)
        await one.write(Batch([block("good", 5000, b"x\n")]))
        await other.delete_run("good")
        late = block("good", 5002, b"late\n")
        refused = await one.write(Batch([late]))
        extent = (await one.extents({key("good"): 1}))[key("good")]
        await one.close()
        await other.close()
        return list(refused) == [late.head.key], extent

    assert do(work()) == (True, None)
    reader = open_reader(store)
    assert [row.run for row in reader.runs()] == ["bad"]
    reader.close()


def test_nothing_that_returned_is_lost_by_kill_9(tmp_path):
    dsn = f"sqlite://{tmp_path}/store"
    script = textwrap.dedent(
        """
        import asyncio, sys
        from loghaul.chunk import Mark, StreamKey
        from loghaul_ingest.block import Facts
        from loghaul_ingest.seal import seal
        from loghaul_ingest.stores import open_writer
        from loghaul_ingest.stores.base import Batch

        async def work():
            writer = open_writer(sys.argv[1])
            facts = Facts(StreamKey("run", "ab" * 16, "stdout"), "text", 1, {})
            offset = 0
            while True:
                data = b"line %d\\n" % offset
                await writer.write(Batch([seal(facts, offset, data, (Mark(len(data), 1),))]))
                offset += len(data)
                print(offset, flush=True)

        asyncio.run(work())
        """
    )
    command = [sys.executable, "-c", script, dsn]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        promised = [process.stdout.readline() for _ in range(30)]
        process.send_signal(signal.SIGKILL)
        promised += process.stdout.readlines()
    complete = [int(line) for line in promised if line.endswith("\n")]

    reader = open_reader(dsn)
    (row,) = reader.streams("run")
    data = b"".join(one.data for one in reader.load([h.key for h in reader.heads(key("run"))]))
    reader.close()

    assert row.stored >= complete[-1] and row.holes == ()
    assert len(data) == row.stored and data.endswith(b"\n")


def test_a_reader_in_a_forked_child_reads_and_leaves_the_parent_alone(store):
    reader = open_reader(store)
    assert len(list(reader.candidates(EVERY))) == 100

    child = os.fork()
    if not child:
        right = len(list(reader.candidates(Word(b"line")))) == 100
        os._exit(0 if right else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert len(list(reader.candidates(Word(b"line")))) == 100
    reader.close()


def test_a_writer_refuses_to_go_on_in_a_forked_child(store, monkeypatch):
    one = open_writer(store)
    monkeypatch.setattr(writer.os, "getpid", lambda: -1)
    with pytest.raises(StoreError, match="fork"):
        do(one.extents({key("good"): 1}))
    monkeypatch.undo()
    do(one.close())


def _as_nobody(dsn, queue):
    os.setgid(65534)
    os.setuid(65534)
    try:
        reader = open_reader(dsn)
        queue.put((len(reader.runs()), len(list(reader.candidates(Word(b"line"))))))
    except BaseException as error:  # noqa: BLE001 - handed to the test
        queue.put(repr(error))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give up rights")
def test_a_store_that_may_only_be_read_is_read(store, folder, tmp_path):
    for path in [*tmp_path.rglob("*"), tmp_path, *tmp_path.parents]:
        if path.is_relative_to("/tmp/pytest-of-root") or path == tmp_path:
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_as_nobody, args=(store, queue))
    process.start()
    try:
        assert queue.get(timeout=30) == (2, 100)
    finally:
        process.join()


def test_a_folder_that_cannot_be_made_is_an_error_that_says_which(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreError, match="file"):
        open_writer(f"sqlite://{tmp_path}/file/store")


def test_a_newer_database_is_refused_by_name(store, folder):
    with sqlite3.connect(folder.database("good")) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    reader = open_reader(store)

    with pytest.raises(StoreError, match="newer loghaul"):
        reader.streams("good")
    reader.close()


def test_a_writer_killed_while_it_made_a_database_leaves_an_empty_run(store, folder):
    folder.database("torn").write_bytes(b"")
    reader = open_reader(store)
    assert list(reader.streams("torn")) == []
    assert {row.run for row in reader.runs()} == {"good", "bad"}
    reader.close()

    do(written(store, Batch([block("torn", 0, b"x\n")])))
    reader = open_reader(store)
    assert len(reader.streams("torn")) == 1
    reader.close()


def test_a_full_disk_is_an_error_to_be_tried_again_and_loses_nothing(store, folder):
    async def work():
        one = open_writer(store)
        await one.write(Batch([block("good", 5000, b"x\n")]))
        connection = one._open["good"].connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        big = block("good", 5002, os.urandom(60_000) + b"\n")
        with pytest.raises(StoreError, match="no space") as caught:
            await one.write(Batch([big]))
        assert not caught.value.permanent
        again = await one.write(Batch([big]))
        extent = (await one.extents({key("good"): 1}))[key("good")]
        await one.close()
        return list(again), extent.end

    assert do(work()) == ([], 5002 + 60_001)


def test_few_databases_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "MOST_OPEN", 3)

    async def work():
        one = open_writer(f"sqlite://{tmp_path}/store")
        for round_ in range(2):
            for number in range(6):
                run = f"run-{number}"
                await one.write(Batch([block(run, round_ * 2, b"x\n")], [facts(run)]))
                assert len(one._open) <= 3
        await one.close()

    do(work())
    reader = open_reader(f"sqlite://{tmp_path}/store")
    assert [row.lines for row in reader.runs()] == [2] * 6
    reader.close()


def test_pages_are_read_as_they_are_taken(tmp_path, monkeypatch):
    dsn = f"sqlite://{tmp_path}/store"
    do(written(dsn, Batch(blocks_of("run", [b"common\n"] * 2000))))
    taken = []
    original = searching._Walk._page
    monkeypatch.setattr(
        searching._Walk, "_page", lambda *a: taken.append(len(found := original(*a))) or found
    )
    reader = open_reader(dsn)

    for asked in (EVERY, Word(b"common")):
        taken.clear()
        walk = reader.candidates(asked)
        next(walk)
        assert taken == [searching.FIRST_PAGE]
        walk.close()
    reader.close()


def test_a_dictionary_is_trained_once_and_its_blocks_are_read_by_others(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "THRESHOLDS", (20_000, 60_000))
    dsn = f"sqlite://{tmp_path}/store"
    lines = [
        b"2026-11-23 request %d to https://host/path took %d ms status=200\n" % (n, n * 7 % 91)
        for n in range(3000)
    ]
    parts = [b"".join(lines[start : start + 20]) for start in range(0, 3000, 20)]
    blocks = blocks_of("run", parts)
    do(written(dsn, *(Batch([one]) for one in blocks)))
    reader = open_reader(dsn)

    data = b"".join(one.data for one in reader.load([h.key for h in reader.heads(key("run"))]))

    assert data == b"".join(parts)
    with sqlite3.connect(layout.Layout(tmp_path / "store").database("run")) as connection:
        sizes = [size for (size,) in connection.execute("SELECT length(data) FROM dictionaries")]
    connection.close()
    assert len(sizes) == 2 and all(sizes)
    reader.close()


def test_the_index_is_built_anew_when_an_ended_run_was_merged(tmp_path):
    dsn = f"sqlite://{tmp_path}/store"
    lines = [b"word_%d common\n" % number for number in range(1500)]
    end = End(sum(map(len, lines)), 1, "exit", None, {})
    path = layout.Layout(tmp_path / "store").database("run")

    async def work():
        one = open_writer(dsn)
        await one.write(Batch(blocks_of("run", lines), [facts("run")]))
        before = path.stat().st_size + os.stat(f"{path}-wal").st_size
        await one.write(Batch((), [facts("run", end)]))
        assert await one.compact(key("run")) > 1400
        await one.close()
        return before

    before = do(work())
    reader = open_reader(dsn)
    with sqlite3.connect(path) as connection:
        ids = {row for (row,) in connection.execute("SELECT rowid FROM words('common')")}
        kept = {row for (row,) in connection.execute("SELECT id FROM blocks")}
        free = connection.execute("PRAGMA freelist_count").fetchone()
    connection.close()

    assert ids == kept and free == (0,)
    assert path.stat().st_size < before / 4
    assert len(list(reader.candidates(Word(b"word_777")))) == 1
    assert reader.streams("run")[0].lines == 1500
    reader.close()


def test_the_streams_of_an_ended_run_are_merged_together_and_indexed_once(tmp_path, monkeypatch):
    dsn, built = f"sqlite://{tmp_path}/store", []
    create = polishing.create_index
    monkeypatch.setattr(polishing, "create_index", lambda *at: built.append(at) or create(*at))
    keys = [StreamKey("run", WRITER, f"stdout-{rank}") for rank in range(20)]
    streams = [Facts(one, "text", 1, {}, End(600, 1, "exit", None, {})) for one in keys]
    content = [
        seal(one, at, b"line %04d\n" % at, (Mark(10, at),))
        for at in range(0, 600, 10)
        for one in streams
    ]

    async def work():
        one = open_writer(dsn)
        await one.write(Batch(content, streams))
        vanished = [await one.compact(stream) for stream in keys]
        await one.close()
        return vanished

    assert do(work()) == [20 * 59, *[0] * 19]
    assert len(built) == 1
    reader = open_reader(dsn)
    assert {row.lines for row in reader.streams("run")} == {60}
    assert len(list(reader.candidates(Word(b"0590")))) == 20
    reader.close()


def test_the_streams_of_an_open_run_are_merged_one_by_one(tmp_path):
    dsn = f"sqlite://{tmp_path}/store"
    keys = [StreamKey("run", WRITER, f"stdout-{rank}") for rank in range(2)]
    streams = [Facts(one, "text", 1, {"label": '"end":null'}) for one in keys]
    content = [seal(one, at, b"one\n", (Mark(4, at),)) for at in range(0, 40, 4) for one in streams]

    async def work():
        one = open_writer(dsn)
        await one.write(Batch(content, streams))
        vanished = [await one.compact(keys[0])]
        await one.write(Batch((), [Facts(keys[1], "text", 1, {}, End(40, 1, "exit", None, {}))]))
        vanished.append(await one.compact(keys[0]))
        await one.write(Batch((), [Facts(keys[0], "text", 1, {}, End(40, 1, "exit", None, {}))]))
        vanished.append(await one.compact(keys[0]))
        await one.close()
        return vanished

    assert do(work()) == [9, 0, 9]


def test_an_empty_extent_makes_no_file(tmp_path):
    dsn = f"sqlite://{tmp_path}/store"

    async def work():
        one = open_writer(dsn)
        found = await one.extents({key("asked"): 1})
        await one.close()
        return found

    assert do(work()) == {key("asked"): Extent()}
    assert list((tmp_path / "store" / "runs").iterdir()) == []


def test_words_are_read_along_the_index_and_blocks_by_their_number(store, folder):
    """The planner must not turn the join around: that reads every block for one rare word."""
    with sqlite3.connect(folder.database("good")) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT id FROM words CROSS JOIN blocks ON id = words.rowid "
            "WHERE words MATCH '\"line\"' AND words.rowid < 100 ORDER BY words.rowid DESC LIMIT 5"
        ).fetchall()
    connection.close()
    steps = [row[3] for row in plan]

    assert steps[0].startswith("SCAN words VIRTUAL TABLE INDEX")
    assert steps[1].startswith("SEARCH blocks USING INTEGER PRIMARY KEY")
    assert len(steps) == 2


def test_a_writer_lets_go_of_what_others_deleted_when_it_opens_another_run(store):
    async def work():
        one, other = open_writer(store), open_writer(store)
        await one.write(Batch([block("good", 5000, b"x\n")]))
        await other.delete_run("good")
        held = deleted_files()
        await one.write(Batch([block("new", 0, b"x\n")]))
        left = deleted_files()
        await one.close()
        await other.close()
        return held, left

    def deleted_files():
        """Files that are gone and take room, because this process has them open."""
        links = [
            os.readlink(f"/proc/self/fd/{fd.name}")
            for fd in Path("/proc/self/fd").iterdir()
            if os.path.islink(fd)
        ]
        return [link for link in links if "/good-" in link and link.endswith(" (deleted)")]

    held, left = do(work())
    assert held and not left


def test_the_size_of_a_run_is_the_same_while_it_is_written_and_at_rest(store):
    reader = open_reader(store)

    async def work():
        one = open_writer(store)
        for number in range(100):
            data = os.urandom(500).hex().encode() + b"\n"
            await one.write(Batch([block("new", number * len(data), data)]))
        sizes = reader.sizes()
        await one.close()
        return sizes

    written = do(work())

    assert written == reader.sizes()
    assert 50_000 < written["new"] < 200_000
    reader.close()
