"""`loghaul.init()`: one line in a notebook or a script that was not started by `loghaul run`.

It starts a run of its own: records of all loggers (tapped, so that no handler stands on the root
logger and a later `basicConfig` works as ever), warnings and uncaught exceptions; an ingest worker
in the background; the end of the run at exit. Below `loghaul run` it joins the run that is there.
"""

from __future__ import annotations

import os
from typing import Any, Optional

from loghaul import health, outlet
from loghaul.config import Settings, load

_current: Optional[Session] = None


class Session:
    """A run of this process. `id` is the run's; `joined` tells that somebody else started it."""

    def __init__(self, settings: Settings, joined: bool) -> None:
        self.settings = settings
        self.joined = joined
        self.id = outlet.run_id(settings)

    def __repr__(self) -> str:
        return f"<loghaul run {self.id}>"

    def finish(self, status: str = "completed", **detail: Any) -> None:
        """End the run now, with `status` completed, failed or canceled; a joined run goes on.

        What is logged afterwards belongs to no run, until `init` starts the next one.
        """
        global _current
        if self.joined or _current is not self:
            return
        outlet.DEFAULT.finish("closed", {"status": status, **detail})
        for name in ("LOGHAUL_PARENT", "LOGHAUL_RUN_ID"):
            os.environ.pop(name, None)
        _current = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.finish()
            return
        from loghaul import event, faults

        faults.record(error, trace, "Run failed", level="critical", severity=50)
        found = event.error_fields(error, trace)
        del found["error.stack_trace"]
        self.finish("failed", **found)


def init(run: Optional[str] = None, experiment: Optional[str] = None, **settings: Any) -> Session:
    """Start a run in this process, or return the one that was started already.

    run, experiment   ids; made up where they are not given
    settings          any other setting by its name (`run_name`, `tags`, `home`, ...)

    Never raises: what is wrong stands in HOME/client.log.
    """
    global _current
    if _current is not None:
        return _current
    run = settings.pop("run_id", None) if run is None else run
    found = load(strict=False, run_id=run, experiment=experiment, **settings)
    joined = bool(found.parent)
    _current = Session(found, joined)
    try:
        _watch()
        if not joined:
            _start(_current, settings)
    except Exception as error:  # noqa: BLE001 - a script never fails because of its logging
        health.note("session not started whole", error)
    return _current


def _watch() -> None:
    """Install what the hook installs below `loghaul run`; each does nothing a second time."""
    import threading
    import warnings

    from loghaul import faults, tap, warned

    tap.install()
    faults.install()
    faults.install_threads(threading)
    warned.install(warnings)


def _start(session: Session, overrides: dict[str, Any]) -> None:
    settings = session.settings
    outlet.DEFAULT.restart(run_id=session.id, experiment=settings.experiment, **overrides)
    outlet.DEFAULT.open()
    # Children of this process belong to the run: spawned ones read it here.
    os.environ.update(session_environment(settings, session.id))
    if settings.background:
        from loghaul import background

        background.start(settings)


def session_environment(settings: Settings, run: str) -> dict[str, str]:
    """Return what a child needs to join the run."""
    found = {**settings.environment(), "LOGHAUL_RUN_ID": run}
    writer = outlet.DEFAULT.writer
    if writer is not None:
        found["LOGHAUL_PARENT"] = writer.id
    return found
