"""runs, files, logs, search, download and delete, on runs in the in-memory store."""

import hashlib
import json
import time
import zipfile

import pytest

from loghaul.chunk import Gap

START = 1_763_937_600 * 1_000_000
HOUR = 3600 * 1_000_000


def record(message, level="debug", at="2025-11-23T22:40:01.000000Z"):
    fields = {"@timestamp": at, "log.level": level, "message": message, "log.logger": "azure.core"}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def test_runs_are_listed_newest_first_and_filtered(shelf, call):
    shelf.stream([(b"a\n", 0)], run="old", experiment__name="one", labels={"team": "ml"})
    shelf.stream([(b"ERROR: b\n", 0)], run="new", started=START + HOUR, detail={"exit_code": 3})
    assert [run["id"] for run in call("runs", "-o", "json").json()] == ["new", "old"]
    assert [run["id"] for run in call("runs", "-o", "ndjson", "--status", "failed").ndjson()] == [
        "new"
    ]
    assert [run["id"] for run in call("runs", "--experiment", "one", "-o", "json").json()] == [
        "old"
    ]
    for tag, expected in (("team", ["old"]), ("team=ml", ["old"]), ("team=x", [])):
        assert [run["id"] for run in call("runs", "--tag", tag, "-o", "json").json()] == expected
    first = call("runs", "-o", "json").json()[0]
    assert first["started"] == "2025-11-23T23:40:00.000000Z"
    assert first["duration_seconds"] == 60.0
    rows = call("runs").text.splitlines()
    assert rows[0].split() == ["RUN", "STATUS", "START", "DURATION", "LINES", "ERRORS"]
    assert rows[1].split()[0] == "new"


def test_a_run_is_its_id_a_unique_beginning_or_latest(shelf, call):
    for number, name in enumerate(("abc-1", "abc-2", "abd")):
        shelf.stream([(name.encode(), 0)], run=name, started=START + number * HOUR)
    for text, name in (("abc-1", b"abc-1"), ("abd", b"abd"), ("latest", b"abd")):
        assert call("logs", text, "--raw").out == name
    ambiguous = call("logs", "abc")
    assert ambiguous.code == 2
    assert "abc-2, abc-1" in ambiguous.err
    missing = call("logs", "abc-3")
    assert missing.code == 3
    assert "did you mean abc-" in missing.err


def test_control_characters_of_metadata_never_reach_the_terminal(shelf, call):
    hostile = "\x1b[2J\x07evil\u202e"
    shelf.stream(
        [(b"x\n", 0)], run=hostile, path=hostile, run__node=hostile, gaps=[Gap(2, 3, hostile)]
    )
    for args in (("runs",), ("files", "latest"), ("logs", "nothing"), ("search", "x")):
        done = call(*args)
        assert not {"\x1b", "\x07", "\u202e"} & set(done.text + done.err), args


def test_files_are_a_tree_per_node_with_marks_and_gaps(shelf, call):
    digest = hashlib.sha256(b"out\n").hexdigest()
    shelf.stream([(b"out\n", 0)], sha256=digest)
    shelf.stream([(b"x" * 10, 0)], writer="b" * 32, run__rank=5, gaps=[Gap(4, 3, "spool full")],
                 holes=[(4, 3)])  # fmt: skip
    text = call("files", "latest").text
    assert "node-a" in text
    assert "azureml-logs" in text
    assert "complete, sha256 verified" in text
    assert "bytes 4-6 never arrived: spool full" in text
    first, second = call("files", "latest", "-o", "json").json()
    assert first["streams"] == [{"name": "stdout", "bytes": 4, "sha256": digest, "verified": True}]
    assert (second["rank"], second["complete"]) == (5, False)
    assert second["gaps"][0]["reason"] == "spool full"


def test_logs_merge_the_outputs_by_line_and_raw_gives_one_exactly(shelf, call):
    shelf.stream([(b"out 1\n", 1), (b"out 2\xff\x1b[31m", 3)])
    shelf.stream([(b"err\n", 2)], name="stderr")
    assert call("logs", "latest").out == b"out 1\nerr\nout 2\xff\n"
    assert call("logs", "latest", "--raw").out == b"out 1\nerr\nout 2\xff\x1b[31m"
    assert call("logs", "latest", "--raw", "--stream", "stdout").out == b"out 1\nout 2\xff\x1b[31m"
    coloured = call("logs", "latest", "--color", "always").out
    assert coloured == b"out 1\nerr\nout 2\xff\x1b[31m\n"


@pytest.mark.parametrize("cut", [7, 64, 1000])
@pytest.mark.parametrize("tail", [0, 1, 3, 50])
def test_tail_of_a_query_is_the_end_of_what_it_gives(shelf, call, cut, tail, monkeypatch):
    monkeypatch.setattr("loghaul_ingest.tail.BLOCKS_WITHOUT_INDEX", tail // 2)
    shelf.stream([(b"%s: %d\n" % (b"ERROR" if n % 7 == 0 else b"INFO", n), n)
                  for n in range(100)], cut=cut)  # fmt: skip
    shelf.stream([(b"ERROR: of stderr %d\n" % n, 30 + n) for n in range(9)], name="stderr")
    for options in (("--level", "error"), ("-q", "ERROR"), ("-q", "stderr", "--level", "error")):
        whole = call("logs", "latest", *options).out.splitlines()
        got = call("logs", "latest", *options, "--tail", str(tail)).out.splitlines()
        assert got == (whole[-tail:] if tail else [])


def test_tail_of_a_query_reads_no_more_blocks_than_it_needs(shelf, monkeypatch):
    from loghaul_ingest.query import parse
    from loghaul_ingest.stores import open_reader
    from loghaul_ingest.tail import last_matching

    shelf.stream([(b"step %d\n" % n, n) for n in range(2000)], cut=100)
    reader, loaded = open_reader(shelf.dsn), []
    load = reader.load
    monkeypatch.setattr(reader, "load", lambda keys: loaded.extend(keys) or load(keys))
    [row] = reader.streams("run-1")

    found = last_matching(reader, row, 5, [parse("step")], True)

    assert [view.text(span) for view, span in found] == [b"step %d" % n for n in range(1995, 2000)]
    assert len(loaded) <= 2
    loaded.clear()
    [(view, span)] = last_matching(reader, row, 9, [parse("7")], True)
    assert view.text(span) == b"step 7"
    assert len(loaded) <= 40


@pytest.mark.parametrize("options", [(), ("-f",), ("--tail", "2")])
def test_the_last_state_of_a_progress_bar_is_shown_though_nothing_follows_it(shelf, call, options):
    shelf.stream([(b"start\n", 0), (b"\r 10%\r 50%\r 90%\r", 1)], cut=12)
    assert call("logs", "latest", *options).out == b"start\n 90%\n"
    stamped = call("logs", "latest", "-t", *options).text.splitlines()
    assert [line[28:] for line in stamped] == ["start", " 90%"]
    assert call("logs", "latest", "-q", "90", *options).out == b" 90%\n"


def test_states_of_a_progress_bar_are_collapsed_and_kept(shelf, call):
    shelf.stream([(b"\r 10%\r 50%\r100%\ndone\r\n", 0)])
    assert call("logs", "latest").out == b"100%\ndone\r\n"
    assert call("logs", "latest", "--no-collapse", "-t").text.count("%") == 3
    assert len(call("logs", "latest", "-o", "ndjson").ndjson()) == 5
    assert call("logs", "latest", "--raw").out == b"\r 10%\r 50%\r100%\ndone\r\n"


@pytest.mark.parametrize("cut", [7, 64, 100_000])
def test_tail_gives_the_last_lines_of_the_merged_file(shelf, call, cut):
    shelf.stream([(b"out %d\n" % n, n) for n in range(0, 200, 2)], cut=cut)
    shelf.stream([(b"err %d\n" % n, n) for n in range(1, 200, 2)], name="stderr", cut=cut)
    assert call("logs", "latest", "--tail", "3").text.split() == [
        "err",
        "197",
        "out",
        "198",
        "err",
        "199",
    ]
    assert call("logs", "latest", "--tail", "0").out == b""
    assert call("logs", "latest", "--tail", "2", "--raw").out == b"out 198\nerr 199\n"
    assert call("logs", "latest", "--tail", "999").out.count(b"\n") == 200
    events = call("logs", "latest", "--tail", "2", "-o", "ndjson").ndjson()
    assert [event["message"] for event in events] == ["out 198", "err 199"]


def test_since_begins_at_the_first_line_that_arrived_then(shelf, call):
    shelf.stream([(b"line %d\n" % n, n) for n in range(60)])
    assert call("logs", "latest", "--since", "2025-11-23T22:40:57Z").text.count("\n") == 3
    assert call("logs", "latest", "--since", "10m").out == b""
    assert call("logs", "latest", "--since", "soon").code == 2


def test_level_and_query_pick_lines_and_timestamps_precede_them(shelf, call):
    shelf.stream(
        [(b"INFO:a:fine\n", 0), (b"WARNING:a:hot disk\n", 1.5), (b"ERROR:a:disk gone\n", 2)]
    )
    text = call("logs", "latest", "--level", "warning", "-t").text
    assert text.splitlines() == [
        "2025-11-23T22:40:01.500000Z WARNING:a:hot disk",
        "2025-11-23T22:40:02.000000Z ERROR:a:disk gone",
    ]
    assert call("logs", "latest", "-q", "disk", "--level", "error").text == "ERROR:a:disk gone\n"
    assert call("logs", "latest", "-q", "fine OR gone", "--tail", "1").text.startswith("ERROR")


def test_records_are_shown_as_people_read_them(shelf, call):
    data = record("GET /") + record("no", "error")
    shelf.stream(
        [(data, 0)], name="logs/azureml/41_azureml.log", path="logs/azureml/41_azureml.log"
    )
    assert call("logs", "latest", "azureml.log").text.splitlines() == [
        "2025-11-23 22:40:01,000|azure.core|DEBUG|GET /",
        "2025-11-23 22:40:01,000|azure.core|ERROR|no",
    ]
    assert call("logs", "latest", "azureml.log", "--raw").out == data


def test_lines_of_several_ranks_say_whose_they_are(shelf, call):
    shelf.stream([(b"zero\n", 1)], run__rank=0)
    shelf.stream([(b"one\n", 2)], writer="b" * 32, run__rank=1)
    assert call("logs", "latest").text == "[node-a/0] zero\n[node-a/1] one\n"
    assert call("logs", "latest", "--rank", "1").text == "one\n"
    missing = call("logs", "latest", "--rank", "7")
    assert (missing.code, "ranks: 0, 1" in missing.err) == (3, True)


def test_the_latest_attempt_is_shown_unless_another_is_asked_for(shelf, call):
    shelf.stream([(b"first\n", 0)])
    shelf.stream([(b"second\n", 0)], writer="b" * 32, started=START + HOUR)
    assert call("logs", "latest").text == "second\n"
    assert call("logs", "latest", "70_driver_log.txt").text == "second\n"
    assert call("logs", "latest", "--attempt", "1").text == "first\n"


def test_a_gap_is_a_line_of_its_own_and_an_event(shelf, call):
    shelf.stream([(b"one\ntwo\nsix\n", 0)], run__rank=5, holes=[(4, 4)],
                 gaps=[Gap(4, 4, "spool full")])  # fmt: skip
    assert call("logs", "latest").text.splitlines() == [
        "one",
        "-- rank 5 stdout: bytes 4-7 never arrived: spool full --",
        "six",
    ]
    gap = call("logs", "latest", "-o", "ndjson").ndjson()[1]
    assert (gap["event.kind"], gap["log.offset"], gap["event.reason"]) == ("gap", 4, "spool full")
    raw = call("logs", "latest", "--raw")
    assert (raw.out, "4 bytes are missing" in raw.err) == (b"one\nsix\n", True)


def test_search_prints_place_and_line_with_context(shelf, call):
    shelf.stream([(b"line %d\nneedle %d\n" % (n, n), n) for n in range(5)])
    text = call("search", '"needle 3"', "-C", "1").text
    assert text.splitlines() == [
        "run-1 node-a azureml-logs/70_driver_log.txt@48-line 3",
        "run-1 node-a azureml-logs/70_driver_log.txt@55:needle 3",
        "run-1 node-a azureml-logs/70_driver_log.txt@64-line 4",
    ]
    assert call("search", "needle", "--count").text == "5\n"
    nothing = call("search", "nowhere")
    assert (nothing.code, nothing.out, "no line matches" in nothing.err) == (0, b"", True)


def test_groups_of_context_are_separated_unless_they_touch_as_grep_does(shelf, call):
    words = ["a", "hit", "b", "c", "hit", "d", "e", "f", "hit", "hit", "g"]
    shelf.stream([(f"{word}\n".encode(), n) for n, word in enumerate(words)], cut=9)
    lines = call("search", "hit", "-C", "1").text.splitlines()
    assert [line if line == "--" else line[line.rindex("@") + 1 :].lstrip("0123456789")
            for line in lines] == [
        "-a", ":hit", "-b", "-c", ":hit", "-d", "--", "-f", ":hit", ":hit", "-g",
    ]  # fmt: skip
    [first, *_] = call("search", "hit", "-C", "1", "-o", "ndjson").ndjson()
    assert [[one["message"] for one in first[side]] for side in ("before", "after")] == [
        ["a"], ["b"],
    ]  # fmt: skip


def test_search_says_how_far_it_looked_and_counts_what_it_did_not_show(shelf, call):
    shelf.stream([(b"needle %d\n" % n, n) for n in range(50)])
    done = call("search", "needle", "--limit", "10", "-o", "json")
    assert [hit["message"] for hit in done.json()["hits"]] == [f"needle {n}" for n in range(40, 50)]
    assert not done.json()["complete"]
    assert "the newest 10 are shown, searched back to" in done.err


def test_search_spreads_hits_over_time_and_values(shelf, call):
    shelf.stream([(b"INFO:a:x\n", 0), (b"ERROR:a:x\n", 61), (b"ERROR:a:x\n", 62)])
    done = call("search", "x", "--histogram", "1m", "--facets", "level,file", "-o", "json").json()
    assert [bucket["count"] for bucket in done["histogram"]] == [1, 2]
    assert done["facets"]["level"][0] == {"value": "error", "count": 2}
    assert call("search", "x", "--histogram", "1y").code == 2
    assert call("search", "x", "--count", "-o", "ndjson").code == 2


def test_download_writes_one_file_a_folder_or_a_zip(shelf, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digest = hashlib.sha256(b"out\n").hexdigest()
    shelf.stream([(b"out\n", 1)], sha256=digest)
    shelf.stream([(b"err\n", 2)], name="stderr")
    name = "70_driver_log.txt"
    assert call("download", "latest", name, "-o", "-").out == b"out\nerr\n"
    assert call("download", "latest", name, "--stream", "stdout", "-o", "one").code == 0
    assert (tmp_path / "one").read_bytes() == b"out\n"
    assert call("download", "latest", name).text == f"{name}\n"
    again = call("download", "latest", name)
    assert (again.code, "is there already" in again.err) == (2, True)
    assert call("download", "latest").code == 0
    assert (tmp_path / "run-1/node-a/azureml-logs" / name).read_bytes() == b"out\nerr\n"
    assert call("download", "latest", "--zip", "all.zip").code == 0
    assert zipfile.ZipFile(tmp_path / "all.zip").testzip() is None
    assert call("download", "latest", "--zip", "a", "-d", "b").code == 2


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("70_driver_log.txt", "-o", "none/x"), "No such file"),
        (("70_driver_log.txt", "-o", "folder"), "directory"),
        (("--zip", "none/x"), "No such file"),
        (("--zip", "folder"), "directory"),
        (("-d", "file"), "exists"),
    ],
)
def test_a_place_that_cannot_be_written_is_named_as_it_was_given(
    shelf, call, tmp_path, monkeypatch, args, reason
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    shelf.stream([(b"out\n", 1)])

    done = call("download", "latest", *args)

    assert (done.code, done.out) == (1, b"")
    assert f"cannot use {args[-1]}: " in done.err
    assert reason in done.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_digest_that_differs_is_an_error_that_names_the_file(shelf, call, tmp_path):
    shelf.stream([(b"out\n", 1)], sha256="0" * 64)
    done = call("download", "latest", "-d", str(tmp_path / "d"))
    assert done.code == 1
    assert "70_driver_log.txt (stdout) on node node-a are not those that were written" in done.err


def test_delete_asks_and_refuses_what_is_running(shelf, call):
    shelf.stream([(b"x\n", 0)], end=None, started=time.time_ns() // 1000)
    assert call("delete", "latest", "--yes").code == 2
    unasked = call("delete", "latest", "--force")
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    assert call("delete", "latest", "--force", "--yes").code == 0
    assert call("runs", "-o", "json").json() == []
    assert call("delete", "run-1", "--yes").code == 3


def test_delete_does_not_wait_for_an_end_that_a_collector_never_tells(shelf, call):
    now = time.time_ns() // 1000
    shelf.stream([(b"x\n", 0)], run="pod", end=None, started=now, role="collected")
    shelf.stream([(b"x\n", 0)], run="job", end=None, started=now, role="collected")
    shelf.stream([(b"x\n", 0)], run="job", writer="b" * 32, end=None, started=now)

    assert call("delete", "job", "--yes").code == 2
    assert call("delete", "pod", "--yes").code == 0
    assert [row["id"] for row in call("runs", "-o", "json").json()] == ["job"]


@pytest.mark.parametrize(
    "args",
    [
        ("logs", "latest", "--nonsense"),
        ("logs", "latest", "--tail", "x"),
        ("logs", "latest", "--raw", "-o", "ndjson"),
        ("logs", "latest", "--raw", "--level", "error"),
        ("runs", "-o", "xml"),
        ("nonsense",),
    ],
)
def test_usage_errors_end_with_2(shelf, call, args):
    shelf.stream([(b"x\n", 0)])
    assert call(*args).code == 2


def test_an_unknown_file_is_not_found_and_the_nearest_is_named(shelf, call):
    shelf.stream([(b"x\n", 0)])
    done = call("logs", "latest", "driverlog.txt")
    assert (done.code, "did you mean" in done.err) == (3, True)


def test_a_query_that_is_nonsense_is_searched_as_text_with_a_hint(shelf, call):
    shelf.stream([(b"what (is this\n", 0)])
    done = call("search", "level:nonsense (is")
    assert done.code == 0
    assert call("search", "(is this").text.endswith(":what (is this\n")


@pytest.mark.parametrize("columns", [60, 160])
def test_a_terminal_gets_a_screenful_of_runs_with_whole_ids(shelf, monkeypatch, capsys, columns):
    import sys

    from loghaul_ingest.cli import runs
    from loghaul_ingest.stores import open_reader

    names = [f"imagenet-resnet50-sweep_{START + n}_0badcafe" for n in range(30)]
    for number, name in enumerate(names):
        shelf.stream([(b"x\n", 0)], run=name, started=START + number * HOUR)
    found = open_reader(shelf.dsn).runs()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")

    runs._show(found, False)

    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert max(map(len, lines)) <= columns
    assert len(lines) <= 22
    assert names[-1] in lines[1] + lines[2]
    assert "older runs are not shown; --all shows them" in printed.err
    runs._show(found, True)
    assert all(name in capsys.readouterr().out for name in names[:1])
