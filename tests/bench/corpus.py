"""Realistic log lines for the benchmarks, about 154 bytes each, the same for the same seed.

The mix is what a training run with an SDK at DEBUG prints: Azure SDK requests, a trainer's steps,
progress bars, NCCL, warnings and tracebacks. `lines(n, seed)` gives exactly n lines, each with its
newline; a progress bar is one line with `\\r` states in it.

    python tests/bench/corpus.py 1000000 > corpus.log
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
_HEX = "0123456789abcdef"
_MODULES = [f"module_{number:03d}" for number in range(400)]
_CONTAINERS = ("azureml", "checkpoints", "snapshots", "datasets", "artifacts")
_RATIOS = (
    ("request", 26),
    ("headers", 18),
    ("response", 14),
    ("step", 20),
    ("nccl", 9),
    ("loader", 6),
    ("progress", 4),
    ("warning", 2),
    ("traceback", 1),
)


def lines(n: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `n` lines, every one ending in a newline."""
    source = random.Random(seed)
    state = _State(source)
    makers = [_MAKERS[name] for name, _ in _RATIOS]
    weights = [weight for _, weight in _RATIOS]
    left = n
    while left:
        for maker in source.choices(makers, weights, k=256):
            for line in maker(state)[:left]:
                yield line.encode() + b"\n"
                left -= 1
            if not left:
                return


def corpus(n: int, seed: int = 0) -> bytes:
    """The lines in one piece."""
    return b"".join(lines(n, seed))


class _State:
    """A clock, a step counter and a source of random things."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.time = START
        self.step = 0

    def stamp(self) -> str:
        self.time += timedelta(microseconds=self.random.randrange(200, 20_000))
        return self.time.strftime("%Y-%m-%d %H:%M:%S,") + f"{self.time.microsecond // 1000:03d}"

    def hex(self, length: int) -> str:
        return f"{self.random.getrandbits(4 * length):0{length}x}"

    def guid(self) -> str:
        return "-".join(self.hex(length) for length in (8, 4, 4, 4, 12))

    def blob(self) -> str:
        container = self.random.choice(_CONTAINERS)
        return (
            f"https://mlstore{self.random.randrange(8)}.blob.core.windows.net/{container}/"
            f"ExperimentRun/dcid.train_{1606 + self.random.randrange(9)}_{self.hex(8)}"
        )


def _request(state: _State) -> list[str]:
    verb = state.random.choice(("PUT", "GET", "HEAD", "PATCH"))
    return [
        f"{state.stamp()}|azure.core.pipeline.policies.http_logging_policy|DEBUG|"
        f"Request URL: '{state.blob()}' Request method: '{verb}'"
    ]


def _headers(state: _State) -> list[str]:
    return [
        f"{state.stamp()}|azure.core.pipeline|DEBUG|'x-ms-client-request-id': '{state.guid()}' "
        f"'Content-Length': '{state.random.randrange(100, 900_000)}' 'x-ms-version': 'REDACTED'"
    ]


def _response(state: _State) -> list[str]:
    status = state.random.choices((200, 201, 202, 404, 503), (60, 25, 10, 4, 1))[0]
    elapsed = state.random.lognormvariate(3, 1)
    return [
        f"{state.stamp()}|urllib3.connectionpool|DEBUG|https://"
        f"{state.random.choice(('westeurope', 'eastus'))}.api.azureml.ms:443 "
        f'"GET /history/v1.0/runs/{state.guid()} HTTP/1.1" {status} '
        f"{state.random.randrange(200, 9000)} took {elapsed:.1f} ms"
    ]


def _step(state: _State) -> list[str]:
    state.step += 1
    loss = 4 / (1 + state.step / 9000) + state.random.gauss(0, 0.04)
    return [
        f"{state.stamp()}|trainer.loop|INFO|epoch {state.step // 5000} step {state.step} "
        f"loss={loss:.5f} lr={3e-4 * 0.9999 ** (state.step % 30_000):.3e} "
        f"grad_norm={state.random.lognormvariate(0, 0.4):.4f} "
        f"tokens_per_second={state.random.gauss(41_500, 900):.1f}"
    ]


def _nccl(state: _State) -> list[str]:
    rank = state.random.randrange(64)
    return [
        f"gpu-node-{rank // 8:02d}:{4000 + rank}:{4100 + rank} [{rank % 8}] NCCL INFO Channel "
        f"{state.random.randrange(24):02d}/0 : {rank}[{rank % 8}] -> {(rank + 1) % 64}"
        f"[{(rank + 1) % 8}] via P2P/IPC/read comm 0x{state.hex(12)} nRanks 64"
    ]


def _loader(state: _State) -> list[str]:
    module = state.random.choice(_MODULES)
    return [
        f"{state.stamp()}|torch.utils.data.{module}|DEBUG|worker {state.random.randrange(16)} "
        f"prefetched shard-{state.random.randrange(100_000):05d}.tar with "
        f"{state.random.randrange(500, 4000)} samples, key {state.hex(16)}"
    ]


def _progress(state: _State) -> list[str]:
    done = state.random.randrange(1, 95)
    bar = [
        f"Epoch {state.step // 5000}: {percent:3d}%|{'#' * (percent // 10):<10}| "
        f"{percent * 50}/5000 [00:{percent % 60:02d}<01:12, 38.{percent % 100:02d}it/s]"
        for percent in (done, done + 2, done + 4)
    ]
    return ["\r".join(bar)]


def _warning(state: _State) -> list[str]:
    module = state.random.choice(_MODULES)
    return [
        f"{state.stamp()}|{module}|WARNING|retry {state.random.randrange(1, 5)} of "
        f"{state.blob()} after ServerBusy: operation could not be completed"
    ]


def _traceback(state: _State) -> list[str]:
    module = state.random.choice(_MODULES)
    frames = [
        line
        for _ in range(state.random.randrange(2, 6))
        for line in (
            f'  File "/opt/conda/lib/python3.11/site-packages/{state.random.choice(_MODULES)}/'
            f'core.py", line {state.random.randrange(900)}, in call_{state.hex(4)}',
            f"    return self._execute(operation, timeout={state.random.randrange(1, 90)})",
        )
    ]
    return [
        f"{state.stamp()}|{module}|ERROR|operation {state.guid()} failed",
        "Traceback (most recent call last):",
        *frames,
        f"RuntimeError: CUDA error: device-side assert triggered on shard {state.hex(8)}",
    ]


_MAKERS: dict[str, Callable[[_State], list[str]]] = {
    "request": _request,
    "headers": _headers,
    "response": _response,
    "step": _step,
    "nccl": _nccl,
    "loader": _loader,
    "progress": _progress,
    "warning": _warning,
    "traceback": _traceback,
}


if __name__ == "__main__":
    for text in lines(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0):
        sys.stdout.buffer.write(text)
