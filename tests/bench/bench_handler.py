"""What a call of `logger.debug` costs the training thread: ours against what else people use.

    python tests/bench/bench_handler.py [CALLS] [ROUNDS]

All handlers are measured in turn in the same process, the least of some rounds each, because the
machine is shared. The floor is NullHandler: making the record, which every handler pays for.
OpenTelemetry is measured where `opentelemetry-sdk` is installed.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PLAIN = "%(asctime)s %(levelname)s %(name)s %(message)s"
URL = "https://mlworkspace.blob.core.windows.net/azureml/ExperimentRun/dcid.1?comp=block"
Pair = tuple[logging.Handler, Callable[[], object]]


def handlers(folder: Path) -> dict[str, Pair]:
    """Name -> handler, and what to do behind each round to start the next one alike."""
    import loghaul

    formatted = logging.FileHandler(folder / "formatted.log")
    formatted.setFormatter(logging.Formatter(PLAIN))
    line: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    found: dict[str, Pair] = {
        "NullHandler": (logging.NullHandler(), _nothing),
        "FileHandler, formatter": (formatted, _nothing),
        "FileHandler, message only": (logging.FileHandler(folder / "message.log"), _nothing),
        "QueueHandler": (logging.handlers.QueueHandler(line), lambda: _drain(line)),
        "loghaul.Handler": (loghaul.Handler(), _nothing),
    }
    try:
        found["OpenTelemetry, batch"] = _opentelemetry()
    except ImportError:
        pass
    return found


def _opentelemetry() -> Pair:
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult

    class Nowhere:
        def export(self, batch: object) -> object:
            return LogRecordExportResult.SUCCESS

        def shutdown(self) -> None:
            pass

        def force_flush(self, timeout_millis: int = 0) -> bool:
            return True

    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(Nowhere()))
    return LoggingHandler(logger_provider=provider), provider.force_flush


def _nothing() -> None:
    """For handlers that keep nothing between rounds."""


def _drain(line: queue.SimpleQueue[logging.LogRecord]) -> None:
    while not line.empty():
        line.get()


def measure(calls: int, rounds: int, folder: Path) -> dict[str, float]:
    """Name -> microseconds per call, the least of the rounds."""
    best: dict[str, float] = {}
    pairs = handlers(folder)
    for _ in range(rounds):
        for name, (handler, settle) in pairs.items():
            logger = logging.Logger(name, logging.DEBUG)
            logger.addHandler(handler)
            best[name] = min(best.get(name, 1e9), _per_call(logger, calls))
            settle()
    return best


def _per_call(logger: logging.Logger, calls: int) -> float:
    begin = time.perf_counter()
    for step in range(calls):
        logger.debug("Request URL: %s step %d", URL, step)
    return (time.perf_counter() - begin) / calls * 1e6


def report(best: dict[str, float]) -> None:
    floor, ours = best["NullHandler"], best["loghaul.Handler"]
    print(f"{'':28}{'whole call':>12}{'above floor':>13}   ours / whole   ours / above floor")
    for name, whole in best.items():
        above = whole - floor
        ratios = f"{ours / whole:14.2f}x" + (
            f"{(ours - floor) / above:18.2f}x" if above > 0 else ""
        )
        print(f"{name:28}{whole:9.2f} us{above:10.2f} us{ratios}")


def main() -> None:
    calls, rounds = (int(word) for word in (sys.argv[1:] + ["20000", "9"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOGHAUL_HOME"] = folder
        report(measure(calls, rounds, Path(folder)))


if __name__ == "__main__":
    main()
