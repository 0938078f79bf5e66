import hashlib
import json
import random
import zipfile
from pathlib import Path

import pytest

from loghaul.chunk import TEXT, Gap, Mark
from loghaul_ingest import files as tree_of
from loghaul_ingest.download import MANIFEST, Folder, Zip, plan, safe_path, save, to_path
from loghaul_ingest.errors import NotFound, UsageError
from loghaul_ingest.merge import joined, merge
from loghaul_ingest.pieces import Hole, Piece, pieces, whole_lines
from loghaul_ingest.runs import attempts


def tree(shelf, run="run-1"):
    rows = shelf.reader.streams(run)
    return tree_of.tree(rows, attempts(rows))


def content(shelf, file):
    return b"".join(item for item in tree_of.content(shelf.reader, file) if isinstance(item, bytes))


def piece(offset, *writes):
    data = b"".join(one for one, _ in writes)
    return Piece(offset, data, tuple(Mark(len(one), at) for one, at in writes))


def test_a_stream_comes_back_byte_for_byte_from_any_cut(shelf):
    data = bytes(random.Random(1).randbytes(5000))
    facts = shelf.stream([(data, 0)], cut=137)
    assert data == b"".join(item.data for item in pieces(shelf.reader, facts))
    assert data[1000:2000] == b"".join(i.data for i in pieces(shelf.reader, facts, 1000, 2000))


def test_a_hole_is_named_where_it_is_with_its_reason(shelf):
    gaps = [Gap(10, 5, "spool full")]
    facts = shelf.stream([(b"x" * 40, 0)], gaps=gaps, holes=[(10, 5), (20, 4)], length=50)
    found = [item for item in pieces(shelf.reader, facts) if isinstance(item, Hole)]
    assert [
        Hole(10, 5, "spool full", True),
        Hole(20, 4, "not reported", False),
        Hole(40, 10, "not reported", False),
    ] == found


def test_a_line_of_one_stream_is_never_broken_by_another():
    out = [piece(0, (b"out one\nout ", 1), (b"two\nout three", 4)), piece(24, (b"\n", 9))]
    err = [piece(0, (b"err one\n", 2), (b"err ", 3), (b"two\n", 8))]
    merged = b"".join(joined(merge([(out, TEXT), (err, TEXT)])))
    assert merged == b"out one\nout two\nerr one\nerr two\nout three\n"


def test_a_carriage_return_split_from_its_newline_does_not_end_a_line():
    out = [piece(0, (b"out\r", 1)), piece(4, (b"\nmore\n", 5))]
    err = [piece(0, (b"err\n", 2))]
    assert b"".join(joined(merge([(out, TEXT), (err, TEXT)]))) == b"out\r\nerr\nmore\n"


def test_an_unfinished_line_before_another_stream_gets_the_only_added_byte():
    out, err = [piece(0, (b"loading...", 1))], [piece(0, (b"Traceback\n", 2))]
    assert b"".join(joined(merge([(out, TEXT), (err, TEXT)]))) == b"loading...\nTraceback\n"


@pytest.mark.parametrize("seed", range(20))
def test_merging_keeps_every_line_and_the_order_of_each_stream(seed):
    rng = random.Random(seed)
    streams, expected = [], []
    for name in "ab":
        text = b"".join(
            b"%s%d%s%s" % (name.encode(), n, b"-" * rng.randrange(9), rng.choice((b"\n", b"\r\n")))
            for n in range(60)
        )
        expected.append(text.splitlines(keepends=True))
        items, at, clock = [], 0, 0
        while at < len(text):
            writes, begin = [], at
            for _ in range(rng.randrange(1, 5)):
                part = text[at : at + rng.randrange(1, 40)]
                clock += rng.randrange(5)
                if part:
                    writes.append((part, clock))
                at += len(part)
            items.append(piece(begin, *writes))
        streams.append((items, TEXT))
    merged = b"".join(joined(merge(streams))).splitlines(keepends=True)
    for name, lines in zip((b"a", b"b"), expected, strict=True):
        assert lines == [line for line in merged if line.startswith(name)]
    assert sum(map(len, expected)) == len(merged)


def test_merging_goes_by_the_time_at_which_a_line_began():
    out = [piece(0, *((b"o%d\n" % n, 2 * n) for n in range(50)))]
    err = [piece(0, *((b"e%d\n" % n, 2 * n + 1) for n in range(50)))]
    merged = b"".join(joined(merge([(out, TEXT), (err, TEXT)])))
    assert b"".join(b"o%d\ne%d\n" % (n, n) for n in range(50)) == merged


def test_cutting_at_lines_changes_no_byte_and_leaves_no_line_in_two_pieces():
    text = b"one\ntwo\r\nbar 1\rbar 2\rthree\nlast"
    for size in range(1, len(text)):
        items = [piece(at, (text[at : at + size], at)) for at in range(0, len(text), size)]
        found = list(whole_lines(items, TEXT))
        assert text == b"".join(item.data for item in found)
        assert [i.data for i in found[:-1] if i.data[-1:] not in b"\r\n" or not i.data] == []
        assert [i.data for i in found if i.data.startswith(b"\n")] == []


def test_two_outputs_of_a_process_are_one_file_and_two_writers_are_two(shelf):
    shelf.stream([(b"out\n", 1)], sha256=hashlib.sha256(b"out\n").hexdigest())
    shelf.stream([(b"err\n", 2)], name="stderr")
    shelf.stream([(b"other\n", 1)], writer="b" * 32, run__rank=1)
    found = tree(shelf)
    assert [(file.writer, len(file.streams), file.rank) for file in found] == [
        ("a" * 32, 2, None),
        ("b" * 32, 1, 1),
    ]
    assert content(shelf, found[0]) == b"out\nerr\n"


def test_a_digest_is_verified_computed_or_refuted(shelf):
    good = hashlib.sha256(b"out\n").hexdigest()
    for name, sha256, expected in (
        ("verified", good, True),
        ("computed", None, "computed"),
        ("refuted", "0" * 64, False),
    ):
        shelf.stream([(b"out\n", 1)], name=name, path=name, sha256=sha256)
        file = tree_of.select(tree(shelf), name)[0]
        proof = tree_of.prove(shelf.reader, file.streams[0])
        assert (expected, good) == (proof.verified, proof.sha256)
        assert (name == "refuted") == proof.differs


def test_a_stream_with_a_gap_or_without_an_end_is_not_verified(shelf):
    shelf.stream([(b"0123456789", 1)], path="gap", holes=[(2, 3)], gaps=[Gap(2, 3, "spool full")])
    shelf.stream([(b"0123456789", 1)], path="open", name="open", end=None)
    for file in tree(shelf):
        assert not file.complete
        assert False is tree_of.prove(shelf.reader, file.streams[0]).verified
    public = tree_of.public(shelf.reader, tree_of.select(tree(shelf), "gap")[0])
    gap = {"stream": "stdout", "offset": 2, "length": 3, "reason": "spool full"}
    assert [gap] == public["gaps"]
    assert public["streams"][0]["bytes"] == 7


def test_a_file_is_named_by_path_ending_or_glob(shelf):
    for name in ("azureml-logs/70_driver_log.txt", "logs/a.txt", "logs/b.txt", "out/a.txt"):
        shelf.stream([(b"x\n", 1)], name=name, path=name)
    found = tree(shelf)
    names = lambda text: [file.path for file in tree_of.select(found, text)]  # noqa: E731
    assert names("logs/a.txt") == ["logs/a.txt"]
    assert names("driver_log.txt") == ["azureml-logs/70_driver_log.txt"]
    assert names("logs/*.txt") == ["logs/a.txt", "logs/b.txt"]
    assert names("node-a/azureml-logs/70_driver_log.txt") == ["azureml-logs/70_driver_log.txt"]
    with pytest.raises(UsageError, match=r"fits several files: logs/a.txt, out/a.txt"):
        names("a.txt")
    with pytest.raises(NotFound, match=r"did you mean azureml-logs/70_driver_log\.txt"):
        names("70_driver_logs.txt")


@pytest.mark.parametrize(
    ("hostile", "safe"),
    [
        ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd"),
        ("/etc/passwd", "%2Fetc/passwd"),
        ("a/./b//c", "a/b/c"),
        ("nul\0\x1b[2J\n", "nul%00%1B[2J%0A"),
        ("50%", "50%25"),
        ("..", "%2E%2E"),
        ("", "%00"),
        ("con.txt", "con.tx%74"),
        ("back\\slash:x", "back%5Cslash%3Ax"),
        ("\udcff", "%ED%B3%BF"),
    ],
)
def test_a_hostile_name_becomes_a_harmless_one(hostile, safe):
    assert safe == safe_path(hostile)


def test_overlong_names_are_cut_and_stay_apart():
    first, second = safe_path("x" * 5000 + "1"), safe_path("x" * 5000 + "2")
    assert first != second
    assert max(len(first), len(second)) <= 255
    assert len(safe_path("d/" * 3000 + "f")) < 1000


def test_names_that_differ_in_case_or_are_folders_of_others_get_names_of_their_own(shelf):
    for name in ("Log", "log", "log/x", MANIFEST):
        shelf.stream([(b"x\n", 1)], name=name, path=name)
    names = [entry.name for entry in plan(tree(shelf))]
    assert len(names) == len({name.casefold() for name in names})
    folders = {name.rsplit("/", 1)[0].casefold() for name in names}
    assert not folders & {name.casefold() for name in names}


def test_a_folder_gets_every_file_its_exact_streams_and_a_manifest(shelf, tmp_path):
    out, err = b"out 1\nout 2\n", b"err\n"
    shelf.stream([(out, 1)], sha256=hashlib.sha256(out).hexdigest())
    shelf.stream([(err, 2)], name="stderr", gaps=[Gap(4, 6, "spool full")], length=10)
    saved = save(shelf.reader, "run-1", tree(shelf), Folder(tmp_path / "new"))
    place = tmp_path / "new/node-a/azureml-logs"
    assert out == (place / "70_driver_log.txt.stdout").read_bytes()
    assert err == (place / "70_driver_log.txt.stderr").read_bytes()
    assert out + err == (place / "70_driver_log.txt").read_bytes()
    manifest = json.loads((tmp_path / "new" / MANIFEST).read_text())
    streams = manifest["files"][0]["streams"]
    assert [stream["verified"] for stream in streams] == [True, False]
    assert streams[1]["gaps"] == [{"offset": 4, "length": 6, "reason": "spool full"}]
    assert hashlib.sha256(out + err).hexdigest() == manifest["files"][0]["sha256"]
    assert len(saved) == 1
    assert {"node-a", MANIFEST} == {path.name for path in (tmp_path / "new").iterdir()}


def test_a_file_with_one_stream_that_has_bytes_is_that_stream(shelf, tmp_path):
    shelf.stream([(b"out\n", 1)])
    shelf.stream([], name="stderr")
    save(shelf.reader, "run-1", tree(shelf), Folder(tmp_path / "d"))
    found = sorted(path.name for path in (tmp_path / "d/node-a/azureml-logs").iterdir())
    assert found == ["70_driver_log.txt"]


def test_a_zip_holds_the_same_as_a_folder(shelf, tmp_path):
    shelf.stream([(b"out\n" * 1000, 1)])
    shelf.stream([(b"err\n", 2)], name="stderr")
    save(shelf.reader, "run-1", tree(shelf), Zip(tmp_path / "run.zip"))
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        assert archive.testzip() is None
        assert archive.read("node-a/azureml-logs/70_driver_log.txt.stdout") == b"out\n" * 1000
        assert archive.infolist()[0].date_time[:3] == (2025, 11, 23)
    assert [path.name for path in tmp_path.iterdir()] == ["run.zip"]


class Breaking:
    """A reader of which all but the first block cannot be read."""

    def __init__(self, reader):
        self.heads, self._reader = reader.heads, reader

    def load(self, keys):
        yield from self._reader.load(keys[:1])
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("kind", ["folder", "zip", "file"])
def test_nothing_is_left_half_written_when_reading_fails(shelf, tmp_path, kind):
    facts = shelf.stream([(b"line of text\n" * 1000, 1)], cut=64)
    reader = Breaking(shelf.reader)
    with pytest.raises(OSError, match="Input/output"):
        if kind == "file":
            data = (item.data for item in pieces(reader, facts))
            to_path(tmp_path / "file", data, None)
        else:
            target = Folder(tmp_path / "d") if kind == "folder" else Zip(tmp_path / "z.zip")
            save(reader, "run-1", tree(shelf), target)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_through_a_symbolic_link(shelf, tmp_path):
    shelf.stream([(b"out\n", 1)])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d/node-a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="symbolic link"):
        save(shelf.reader, "run-1", tree(shelf), Folder(tmp_path / "d"))
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert [path.name for path in Path(tmp_path / "d").iterdir()] == ["node-a"]
