"""Settings of the client: what they mean, where they come from, and which source wins.

Keyword arguments > `LOGHAUL_*` environment > `loghaul.toml` or `[tool.loghaul]` (nearest one from
the working directory upwards, then the user's) > defaults. Read once per call of `load`, never at
import. `Settings.origins` says for every setting where its value came from; an unknown name is
never an error here, because a training job must not die of a typing mistake: it stands in
`Settings.problems`, with a suggestion.

Each field's metadata carries its `help`: the table in README.md is held to it by a test.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Callable, Mapping, Optional

from loghaul import places
from loghaul.errors import SettingsError

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off", ""})


def text(value: Any) -> str:
    """Any text that is not empty."""
    if not str(value).strip():
        raise ValueError("must not be empty")
    return str(value)


def whole(value: Any) -> int:
    """A whole number from 0."""
    if isinstance(value, bool) or int(value) < 0:
        raise ValueError("a whole number from 0 is needed")
    return int(value)


def size(value: Any) -> int:
    """Bytes: a number, or one with a unit: `512M`, `1GiB` (powers of 1,024)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return whole(value)
    word = str(value).strip().lower().removesuffix("ib").removesuffix("b")
    number = word.rstrip("kmgt")
    try:
        return whole(int(float(number) * _UNITS[word[len(number) :].strip()]))
    except (KeyError, ValueError, OverflowError):
        raise ValueError("a number of bytes is needed, such as 1073741824 or 1GiB") from None


def days(value: Any) -> int:
    """Days, a whole number from 1."""
    if whole(value) < 1:
        raise ValueError("1 or more is needed; leave it out to keep everything")
    return whole(value)


def most(value: Any) -> int:
    """Bytes as `size`, from 1."""
    if size(value) < 1:
        raise ValueError("1 or more is needed; leave it out to keep everything")
    return size(value)


def yes(value: Any) -> bool:
    """A switch: 1, true, yes, on, or their opposites."""
    word = str(value).strip().lower()
    if word not in _YES | _NO:
        raise ValueError("one of 1, 0, true, false, yes, no, on, off is needed")
    return word in _YES


def full(value: Any) -> str:
    """What happens to new records when the spool is full."""
    if value not in ("refuse", "block"):
        raise ValueError("'refuse' or 'block' is needed")
    return str(value)


def path(value: Any) -> Path:
    """An absolute path; `~` is the home folder, `spool:///dir` the folder /dir."""
    word = os.fspath(value)
    if word.startswith("spool://"):
        word = word[len("spool://") :]
    if not word or "\0" in word:
        raise ValueError("a path is needed")
    return Path(os.path.abspath(os.path.expanduser(word)))


class Secret(str):
    """A DSN that may hold a password: never shown whole by `repr`, nor in a log."""

    @property
    def masked(self) -> str:
        """The DSN with `***` for its password."""
        return _PASSWORD.sub(r"\1***@", str(self))

    def __repr__(self) -> str:
        return repr(self.masked)


#: From the first colon behind the user to the last @: a password may hold anything.
_PASSWORD = re.compile(r"(://[^:/@]*:).*@")


def dsn(value: Any) -> Secret:
    """A store: `sqlite:///dir`, another DSN, or a plain path, which means SQLite there."""
    word = os.fspath(value)
    whole = "://" in word or word.startswith("memory:")
    return Secret(word if whole else f"sqlite://{path(word)}")


def address(value: Any) -> Secret:
    """Where a shipper sends to; looked at closely by what connects."""
    return Secret(text(value).strip())


def labels(value: Any) -> Mapping[str, str]:
    """Tags: a JSON object, `key=value,key=value`, or a mapping."""
    if isinstance(value, str):
        pairs = value.strip()
        if pairs.startswith("{"):
            value = json.loads(pairs)
        else:
            value = dict(_pair(pair) for pair in pairs.split(",") if pair.strip())
    return {str(key): str(item) for key, item in dict(value).items()}


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not key.strip():
        raise ValueError("key=value is needed")
    return key.strip(), value.strip()


def _setting(parse: Callable[[Any], Any], default: Any, help: str, shown: str = "") -> Any:
    """A field with its parser, its help, and the default as README shows it."""
    metadata = {"parse": parse, "help": help, "default": shown}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


# ruff: noqa: RUF009 - `_setting` returns a dataclass field
@dataclass(frozen=True)
class Settings:
    """What the client was told. `load()` fills in what nobody said; see each field's help."""

    home: Path = _setting(
        path, Path(), "Folder of all data of this user.", "platform's user data folder"
    )
    store: str = _setting(
        dsn, "", "Where the ingest worker keeps runs: `sqlite:///dir` or a path.", "HOME/store"
    )
    spool: Path = _setting(
        path,
        Path(),
        "Folder that everything is written to first; must be on a local disk.",
        "HOME/spool, in $TMPDIR when HOME is on a network file system",
    )
    transport: str = _setting(
        address,
        "",
        "Where a shipper sends what is in the spool: `kafka://host1,host2/topic`, "
        "`kafkas://user:password@host/topic?mechanism=SCRAM-SHA-512&ca=/path` for TLS.",
        "none: a worker on this machine reads the spool",
    )
    group: str = _setting(text, "loghaul", "Consumer group of the ingest workers.", "loghaul")
    group_instance: Optional[str] = _setting(
        text, None, "Name of a worker that keeps its partitions over a restart (static membership)."
    )
    drain_seconds: int = _setting(
        whole,
        60,
        "How long `loghaul run` waits at its end for its lines to be in the transport.",
        "60",
    )
    spool_max_bytes: int = _setting(
        size, 2**30, "Most that all spools of this node hold together.", "1GiB"
    )
    spool_reserve_bytes: Optional[int] = _setting(
        size,
        None,
        "Free disk space that the spool leaves to others.",
        "512MiB or 5 % of the disk, the lesser",
    )
    spool_full: str = _setting(
        full,
        "refuse",
        "When the spool is full: `refuse` new records and count them, or `block` the script.",
        "refuse",
    )
    retention_days: Optional[int] = _setting(
        days,
        None,
        "Days after its end when a worker removes a run; one that goes on is never removed.",
        "none: runs are kept",
    )
    retention_bytes: Optional[int] = _setting(
        most,
        None,
        "Most that the store holds: above it a worker removes runs, those that ended first first.",
        "none: runs are kept",
    )
    run_id: Optional[str] = _setting(
        text, None, "Id of the run.", "<experiment>_<unix time>_<8 hex>"
    )
    experiment: str = _setting(text, "default", "Experiment that the run belongs to.", "default")
    run_name: Optional[str] = _setting(text, None, "Name of the run for people.")
    node: str = _setting(text, "", "Name of this machine in the run.", "host name")
    tags: Mapping[str, str] = _setting(
        labels, {}, "Tags of the run: `key=value,key=value` or a JSON object."
    )
    attempt: Optional[int] = _setting(
        whole,
        None,
        "Which attempt of the run this is, from 1.",
        "SLURM_RESTART_COUNT or TORCHELASTIC_RESTART_COUNT + 1, else by time",
    )
    rank: Optional[int] = _setting(
        whole, None, "Global rank of this process.", "RANK, OMPI_*, PMI_*, SLURM_*"
    )
    local_rank: Optional[int] = _setting(
        whole, None, "Rank of this process on its node.", "LOCAL_RANK, OMPI_*, MPI_*, SLURM_*"
    )
    parent: Optional[str] = _setting(
        text, None, "Writer id of the supervisor; set by `loghaul run`."
    )
    hook: bool = _setting(
        yes, True, "Tap logging records of Python processes under `loghaul run`.", "true"
    )
    buffered: bool = _setting(
        yes, False, "Leave buffering of stdout and stderr to the script.", "false"
    )
    background: bool = _setting(
        yes,
        True,
        "Start a worker or a shipper in the background where none runs.",
        "true",
    )
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    problems: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def environment(self) -> dict[str, str]:
        """Return the variables that make `load()` in a child process give the same settings."""
        found = {}
        for name, spec in NAMES.items():
            value = getattr(self, name)
            if value in (None, "") or name in ("rank", "local_rank"):
                continue
            if self.origins.get(name) == f"{variable(name)}_FILE":
                # Children inherit that variable, and nobody else the secret.
                continue
            if spec.metadata["parse"] is labels:
                value = json.dumps(dict(value), sort_keys=True)
            found[variable(name)] = str(value).lower() if isinstance(value, bool) else str(value)
        return found


#: Every setting by name, in the order of the table in README.md.
NAMES = {spec.name: spec for spec in fields(Settings) if "parse" in spec.metadata}


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"LOGHAUL_{name.upper()}"


def load(*, strict: bool = True, **overrides: Any) -> Settings:
    """Return the settings of this process, from all sources; an override of None is not given.

    Raises SettingsError for a value that cannot be used, naming it, its source and what is valid;
    with `strict=False` that setting keeps its default and the message stands in `problems`.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, source in _sources(overrides, problems):
        for name, value in source.items():
            if name in values:
                continue
            try:
                values[name] = NAMES[name].metadata["parse"](value)
                origins[name] = origin
            except (ValueError, TypeError) as error:
                message = f"{name} = {value!r} from {origin} cannot be used: {error}"
                if strict:
                    raise SettingsError(message) from error
                problems.append(message + "; the default is used")
    _fill(values)
    return Settings(**values, origins=origins, problems=tuple(problems))


def _sources(overrides: Mapping[str, Any], problems: list[str]) -> Any:
    """Yield (where from, {name: raw value}), the strongest source first."""
    given = {name: value for name, value in overrides.items() if value is not None}
    yield "argument", _known(given, "argument", problems)
    environment = {
        name: os.environ[variable(name)] for name in NAMES if os.environ.get(variable(name))
    }
    yield "environment", environment
    for name in ("transport", "store"):
        if os.environ.get(f"{variable(name)}_FILE"):
            yield f"{variable(name)}_FILE", _from_file(name, problems)
    _near_misses(problems)
    yield "launcher", places.launcher()
    for file, table in places.tables(problems):
        # A table inside is a section of another part; tags are the one setting that is one.
        own = {k: v for k, v in table.items() if k == "tags" or not isinstance(v, dict)}
        yield str(file), _known(own, str(file), problems)


def _from_file(name: str, problems: list[str]) -> dict[str, Any]:
    """Return a setting that stands in a file, as secrets of containers do."""
    file = os.environ[f"{variable(name)}_FILE"]
    try:
        return {name: Path(file).read_text().strip()}
    except (OSError, ValueError) as error:
        problems.append(f"{file} of {variable(name)}_FILE cannot be read: {error}")
        return {}


def _known(source: Mapping[str, Any], origin: str, problems: list[str]) -> dict[str, Any]:
    """Return the settings in a source; an unknown name becomes a problem with a suggestion."""
    for name in source:
        if name not in NAMES:
            problems.append(f"unknown setting {name!r} in {origin}{_suggestion(name)}")
    return {name: value for name, value in source.items() if name in NAMES}


def _suggestion(name: str, cutoff: float = 0.6) -> str:
    import difflib

    near = difflib.get_close_matches(name.lower(), NAMES, 1, cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


#: Variables between parts of loghaul that are no settings.
_OTHERS = frozenset({"LOGHAUL_RANKS", "LOGHAUL_WORKER_LOG"})


def _near_misses(problems: list[str]) -> None:
    """Note variables that look like a mistyped one of ours; other parts have variables too."""
    for name in os.environ.keys() - _OTHERS:
        if name.startswith("LOGHAUL_") and name[len("LOGHAUL_") :].lower() not in NAMES:
            suggestion = _suggestion(name[len("LOGHAUL_") :], 0.88)
            if suggestion:
                problems.append(f"unknown variable {name}{suggestion}")


def _fill(values: dict[str, Any]) -> None:
    """Add the defaults that depend on this machine or on other settings."""
    home = values.setdefault("home", places.data_folder())
    values.setdefault("store", f"sqlite://{home / 'store'}")
    values.setdefault("spool", places.spool_folder(home))
    values.setdefault("node", places.host_name())
