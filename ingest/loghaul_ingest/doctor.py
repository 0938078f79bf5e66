"""What is wrong with this installation and how to mend it: one finding per question.

Changes nothing: what would have to be created to look at it is not looked at (only a probe that was
asked for writes a run, and deletes it). Every check ends in a finding, also when it fails itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from loghaul.config import NAMES, Settings
from loghaul.errors import SpoolError
from loghaul.spool import writers
from loghaul.spool.budget import usage
from loghaul.spool.facts import read_facts
from loghaul.spool.mounts import network_type
from loghaul_ingest.errors import StoreError
from loghaul_ingest.stores import open_reader
from loghaul_ingest.stores.base import Reader
from loghaul_ingest.unreadable import unreadable

OK, WARNING, WRONG = "ok", "warning", "wrong"

PACKAGES = ("click", "orjson", "zstandard", "rich", "structlog", "python-json-logger")
#: How long all databases together are checked.
CHECK_SECONDS = 5.0
LITTLE_DISK_BYTES = 1 << 30


class Finding(NamedTuple):
    """The answer to one question. `state`: "ok", "warning", "wrong"; `advice` what to do."""

    subject: str
    state: str
    text: str
    advice: str = ""


def examine(settings: Settings, probe: bool = False) -> Iterator[Finding]:
    """Yield all findings, in the order in which one would look.

    `probe`: send a run through the whole chain, too, and delete it.
    """
    for check in (*_CHECKS, _probe) if probe else _CHECKS:
        try:
            yield from check(settings)
        except Exception as error:  # noqa: BLE001 - a check that fails is a finding too
            name = check.__name__.strip("_")
            yield Finding(name, WRONG, f"{type(error).__name__}: {error}", "report this")


def _versions(settings: Settings) -> Iterator[Finding]:
    try:
        own = version("loghaul")
    except PackageNotFoundError:
        own = "not installed"
    yield Finding("loghaul", OK, own)
    yield Finding("python", OK, f"{platform.python_version()} {sys.executable}")
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Finding("packages", OK, ", ".join(found))
    if missing:
        command = f"{sys.executable} -m pip install --upgrade loghaul"
        yield Finding("packages", WRONG, f"missing: {', '.join(missing)}", command)
    if importlib.util.find_spec("re2") is None:
        advice = "pip install 'loghaul[re2]'; without it /regex/ in queries is searched as text"
        yield Finding("google-re2", WARNING, "not installed", advice)


def _settings(settings: Settings) -> Iterator[Finding]:
    for problem in settings.problems:
        yield Finding("settings", WARNING, problem, "see `loghaul config`")
    given = [name for name in NAMES if name in settings.origins]
    yield Finding("settings", OK, f"given: {', '.join(given) or 'none, all defaults'}")


def _home(settings: Settings) -> Iterator[Finding]:
    home = settings.home
    place = _nearest(home)
    if not os.access(place, os.W_OK | os.X_OK):
        advice = "make it writable, or set LOGHAUL_HOME; reading goes on, nothing new is taken in"
        yield Finding("home", WRONG, f"{home} cannot be written", advice)
    elif place != home:
        yield Finding("home", OK, f"{home} (made when it is needed)")
    else:
        yield Finding("home", OK, str(home))
    kind = network_type(home)
    if kind:
        yield Finding("home", OK, f"on a network file system ({kind})")
    for name, path in (("home", home), ("spool", settings.spool)):
        free = shutil.disk_usage(_nearest(path)).free
        text = f"{free / 1e9:.1f} GB free for the {name}"
        if free < LITTLE_DISK_BYTES:
            yield Finding("disk", WRONG, text, "free space; below the reserve lines are refused")
        else:
            yield Finding("disk", OK, text)


def _nearest(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _spool(settings: Settings) -> Iterator[Finding]:
    root = settings.spool
    kind = network_type(root)
    if kind:
        advice = "set LOGHAUL_SPOOL to a folder on a local disk"
        yield Finding("spool", WRONG, f"{root} is on a network file system ({kind})", advice)
    if root.exists() and not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        advice = "give it to yourself (chown), or set LOGHAUL_SPOOL"
        yield Finding("spool", WRONG, f"{root} cannot be used", advice)
        return
    live, left, oldest = 0, 0, None
    for directory in writers(root):
        try:
            started = read_facts(directory)[1]
        except SpoolError:
            continue
        oldest = started if oldest is None else min(oldest, started)
        if _is_locked(directory / "lock"):
            live += 1
        else:
            left += 1
    used = usage(root)
    share = used / max(1, settings.spool_max_bytes)
    text = f"{root}: {used / 1e6:.1f} MB, {live} writing, {left} to be taken in"
    if oldest is not None:
        text += f", oldest from {(time.time() - oldest / 1e6) / 60:.0f} min ago"
    if share >= 0.8:
        advice = "run `loghaul ingest --once`; from 80 % DEBUG is refused, from 90 % INFO"
        yield Finding("spool", WRONG, f"{text}; {share:.0%} full", advice)
    else:
        yield Finding("spool", OK, text)
    for message in unreadable(root):
        yield Finding("spool", WRONG, message, "upgrade loghaul here, or move that folder away")
    if oldest is not None and oldest / 1e6 > time.time() + 60:
        yield Finding("clock", WARNING, "the spool has a writer from the future", "set the clock")


def _is_locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _worker(settings: Settings) -> Iterator[Finding]:
    if _is_locked(settings.home / "worker" / "lock"):
        yield Finding("worker", OK, "running")
    elif not settings.transport:
        yield Finding("worker", OK, "not running; `loghaul run` and reading commands start one")
    from loghaul_ingest.dead_letters import open_dead_letters

    opened = open_dead_letters(settings)

    async def look() -> int:
        try:
            return len(await opened.letters())
        finally:
            await opened.close()

    count = asyncio.run(look())
    if unread := getattr(opened, "unread", None):
        advice = "see the message; meanwhile workers keep dead letters in their home"
        yield Finding(
            "worker", WARNING, f"dead letters of the topic cannot be read: {unread}", advice
        )
    if count:
        advice = "loghaul dead-letters list: each says why it could not be stored"
        yield Finding("worker", WRONG, f"{count} dead letters in {opened}", advice)


def _chain(settings: Settings) -> Iterator[Finding]:
    from loghaul_ingest.chain import look

    yield from look(settings)


def _probe(settings: Settings) -> Iterator[Finding]:
    from loghaul_ingest.chain import probe

    yield from probe(settings)


def _store(settings: Settings) -> Iterator[Finding]:
    features = _sqlite_features()
    if "fts5" not in features:
        advice = "use a Python whose sqlite3 has FTS5 (python.org, conda and Debian have it)"
        yield Finding("sqlite", WRONG, f"{sqlite3.sqlite_version} without FTS5", advice)
    else:
        yield Finding("sqlite", OK, f"{sqlite3.sqlite_version} with FTS5")
    try:
        reader = open_reader(settings.store)
        try:
            runs, size = reader.runs(), _size(reader)
        finally:
            reader.close()
    except Exception as error:  # noqa: BLE001 - any failure to read is what we look for
        advice = "see the message; what is in the spool is kept until the store works again"
        yield Finding("store", WRONG, f"{settings.store}: {error}", advice)
    else:
        text = f"{settings.store}: {len(runs)} runs{size}"
        yield Finding("store", OK, f"{text}; {_retention(settings)}")
    if settings.store.startswith("sqlite:"):
        yield from _databases(Path("/" + settings.store.removeprefix("sqlite:").lstrip("/")))


def _size(reader: Reader) -> str:
    try:
        return f", {sum(reader.sizes().values()) / 1e6:,.1f} MB"
    except StoreError:
        return ""  # who may read need not be allowed to look at the disks


def _retention(settings: Settings) -> str:
    days, most = settings.retention_days, settings.retention_bytes
    bounds = [f"{days} days after their end"] if days else []
    bounds += [f"above {most / 1e6:,.1f} MB"] if most else []
    return f"removed {', and '.join(bounds)}" if bounds else "kept until somebody deletes them"


def _sqlite_features() -> set[str]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE one USING fts5(word)")
        return {"fts5"}
    except sqlite3.Error:
        return set()
    finally:
        connection.close()


def _databases(folder: Path) -> Iterator[Finding]:
    until, checked, damaged = time.monotonic() + CHECK_SECONDS, 0, 0
    found = sorted(folder.rglob("*.db"), key=os.path.getmtime, reverse=True)
    for path in found:
        if time.monotonic() > until:
            break
        checked += 1
        problem = _damage(path)
        if problem:
            damaged += 1
            advice = "move it away; the other runs are not affected"
            yield Finding("store", WRONG, f"{path}: {problem}", advice)
    if found and not damaged:
        yield Finding("store", OK, f"{checked} of {len(found)} databases checked, none damaged")


def _damage(path: Path) -> str | None:
    """Return what SQLite says is broken in a database; None when nothing is."""
    from urllib.parse import quote

    if path.parent.name == "runs" and not path.stat().st_size:
        return "it is empty: what it held is lost"
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=1.0)
        try:
            answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        # Busy, or a write-ahead log that cannot be read without writing: no sign of damage.
        if "malformed" in str(error) or "corrupt" in str(error):
            return str(error)
        return None if os.access(path, os.R_OK) else "cannot be read: permission denied"
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if answer == "ok" else answer


_PROBE = """import logging
logging.getLogger("loghaul.doctor").warning("probe of the hook")
print("printed")
"""


def _hook(settings: Settings) -> Iterator[Finding]:
    """Run a small script under `loghaul run` in a home of its own and look for its record."""
    with tempfile.TemporaryDirectory(prefix="loghaul-doctor-") as folder:
        script = Path(folder, "probe.py")
        script.write_text(_PROBE)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LOGHAUL_")}
        environment.update(LOGHAUL_HOME=folder, LOGHAUL_BACKGROUND="0")
        command = [sys.executable, "-m", "loghaul_ingest", "run", "-q", "--run-id", "probe"]
        done = subprocess.run(
            [*command, "--", sys.executable, str(script)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
        spooled = b"".join(path.read_bytes() for path in Path(folder).rglob("*.segment"))
    advice = "look at HOME/client.log; `python -S`, `-I` and -E scripts load no hook"
    if done.returncode or b"printed" not in done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip()[-200:]
        yield Finding("capture", WRONG, f"`loghaul run` failed: {said or 'no output'}", advice)
    elif b"probe of the hook" not in spooled:
        yield Finding("hook", WRONG, "logging records of Python do not arrive", advice)
    elif b'"log.logger":"loghaul.doctor"' not in spooled:
        yield Finding("hook", WRONG, "records arrive as text only", advice)
    else:
        yield Finding("hook", OK, "output and logging records of a Python script arrive")


_CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _versions,
    _settings,
    _home,
    _spool,
    _worker,
    _chain,
    _store,
    _hook,
)
