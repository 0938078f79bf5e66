"""Records that fit into any topic, whatever a chunk is like."""

from loghaul.chunk import Chunk, End, Gap, Mark, StreamKey, decode
from loghaul.shipper.fitting import records, size

KEY = StreamKey("run", "a" * 32, "stdout")


def chunk(data, marks, **more):
    return Chunk(KEY, "text", 100, data, tuple(marks), 1, **more)


def decoded(found):
    return [decode(record.value, record.headers) for record in found]


def test_a_usual_chunk_is_one_record():
    whole = chunk(b"x" * 1000, [Mark(1000, 5)], common={"run.id": "run"})
    assert decoded(records(whole)) == [whole]


def test_a_chunk_of_single_bytes_is_cut_between_its_marks():
    marks = [Mark(1, 10**15 + 40 * number) for number in range(100_000)]
    end = End(100_100, 7, "exit", None, {})
    data = bytes(range(256)) * 390 + b"y" * 160
    whole = chunk(data, marks, common={"a": 1}, end=end, gaps=(Gap(90, 10, "x"),))
    found = records(whole, 100_000)
    parts = decoded(found)
    assert len(parts) == 8
    assert all(size(record) <= 100_000 for record in found)
    assert b"".join(part.data for part in parts) == data
    assert [part.offset for part in parts] == [
        100 + sum(len(p.data) for p in parts[:n]) for n in range(len(parts))
    ]
    assert tuple(mark for part in parts for mark in part.marks) == tuple(marks)
    assert [part.end for part in parts] == [None] * (len(parts) - 1) + [end]
    assert [bool(part.gaps) for part in parts] == [True] + [False] * (len(parts) - 1)
    assert parts[0].common == parts[-1].common == {"a": 1}


def test_facts_that_are_larger_than_a_record_are_cut_and_say_so():
    command = ["python", "train.py", *["x" * 100] * 20_000]
    detail = {"error.message": "y" * 2_000_000}
    whole = chunk(
        b"z" * 1000,
        [Mark(1000, 5)],
        common={
            "command": command,
            "run.id": "run",
            "labels": {str(n): "v" * 99 for n in range(9999)},
        },
        end=End(1100, 7, "exit", None, detail),
    )
    (record,) = records(whole)
    (found,) = decoded([record])
    assert size(record) < 100_000
    assert found.data == whole.data
    assert found.common["run.id"] == "run"
    assert found.common["command"][:2] == ["python", "train.py"]
    assert found.common["command"][-1] == "... (20002 items)"
    assert found.end.detail["error.message"].endswith("... (2000000 characters)")
