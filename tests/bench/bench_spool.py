"""What the spool costs: microseconds per append in the calling thread, reader and cutter in MB/s.

    python tests/bench/bench_spool.py [--records 200000] [--bytes 250]

An append is measured as it comes, segment changes and page faults included, above the call of an
empty method with the same arguments. Rounds alternate, so that a busy machine hits both; the
median and the least of them are printed. CRC-32 alone is printed beside it: it is the floor.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import zlib
from pathlib import Path

from loghaul.spool import Cutter, Limits, SpoolReader, SpoolWriter

ROUND = 5000


class Empty:
    def append(self, stream, data, time_us=None, severity=20):
        return True


def per_call_us(method, stream, data):
    moment = time.time_ns() // 1000
    begin = time.perf_counter()
    for _ in range(ROUND):
        method(stream, data, moment, 20)
    return (time.perf_counter() - begin) / ROUND * 1e6


def measure_append(writer, stream, data, rounds):
    empty, appends = [], []
    for _ in range(rounds):
        empty.append(per_call_us(Empty().append, stream, data))
        appends.append(per_call_us(writer.append, stream, data))
    floor = statistics.median(empty)
    return {
        "append_us_median": round(statistics.median(appends) - floor, 3),
        "append_us_least": round(min(appends) - min(empty), 3),
        "append_us_mean": round(statistics.mean(appends) - statistics.mean(empty), 3),
        "empty_call_us": round(floor, 3),
        "crc32_us": round(per_call_us(lambda *_: zlib.crc32(data), stream, data), 3),
    }


def measure_reader(directory):
    reader, length, begin = SpoolReader(directory), 0, time.perf_counter()
    while entries := reader.read():
        length += sum(len(entry.data) for entry in entries)
    return length / (time.perf_counter() - begin) / 1e6


def measure_cutter(directory):
    reader = SpoolReader(directory)
    cutter, length, begin = Cutter(reader), 0, time.perf_counter()
    while not reader.ended:
        length += sum(len(chunk.data) for chunk, _ in cutter.chunks(0))
    return length / (time.perf_counter() - begin) / 1e6


def measure(records, size):
    limits = Limits(max_bytes=16 << 30, reserve_bytes=0)
    data = b"x" * (size - 1) + b"\n"
    found = {"python": sys.version.split()[0], "record_bytes": size}
    with tempfile.TemporaryDirectory() as root:
        writer = SpoolWriter(Path(root), {"run.id": "bench"}, limits=limits)
        log = writer.stream("log", "events", "log")
        found.update(measure_append(writer, log, data, max(records // ROUND, 1)))
        writer.end("exit", {})
        writer.close()
        found["reader_mb_per_second"] = round(measure_reader(writer.directory))
        found["cutter_mb_per_second"] = round(measure_cutter(writer.directory))
        text = SpoolWriter(Path(root), {"run.id": "bench"}, limits=limits)
        out = text.stream("out", "text", "out")
        for _ in range(records):
            text.append(out, data)
        text.end("exit", {})
        text.close()
        found["cutter_text_mb_per_second"] = round(measure_cutter(text.directory))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--bytes", type=int, default=250)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.records, arguments.bytes), indent=1))
