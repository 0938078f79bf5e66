"""What runs at the start of every Python below `loghaul run`, before the script.

Cheap, because most Python processes are short: nothing is imported here but what the interpreter
has loaded anyway. The tap is installed when `logging` is imported, the watch on threads and
warnings with their modules. Every step is guarded by itself; a fault is noted and changes nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing is slow to load, and every Python process loads this
if TYPE_CHECKING:
    from typing import Any, Callable

_RANKS = (
    "RANK", "LOCAL_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_PROCID",
)  # fmt: skip
_NO = ("0", "false", "no", "off")


def install() -> None:
    """Do all of it. Never raises."""
    environment = os.environ
    if any(name in environment for name in _RANKS):
        _guarded(_redirect_rank)
    if environment.get("LOGHAUL_BUFFERED", "").lower() in ("", *_NO):
        _guarded(_buffer_by_lines)
    if environment.get("LOGHAUL_HOOK", "").lower() in _NO:
        return
    _guarded(_end_at_exit)
    _guarded(_watch_exceptions)
    _guarded(_watch_imports)


def _guarded(step: Callable[..., None], *arguments: Any) -> None:
    try:
        step(*arguments)
    except Exception as error:  # noqa: BLE001 - the script must start as without us
        from loghaul import health

        health.note(f"hook step {step.__name__} failed", error)


def _redirect_rank() -> None:
    from loghaul.capture import ranks

    ranks.redirect()


def _buffer_by_lines() -> None:
    """Lines of several processes on one pipe stay whole; files and terminals stay as they are."""
    import stat

    for stream in (sys.stdout, sys.stderr):
        if stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _end_at_exit() -> None:
    """End the records' stream behind everything else that runs at exit: first in, last out."""
    import atexit

    atexit.register(_end)


def _end() -> None:
    # An uncaught exception may be the first record: only then is anything loaded here.
    if "loghaul.outlet" in sys.modules or getattr(sys, "last_value", None) is not None:
        from loghaul import outlet

        outlet.end_all()


def _watch_exceptions() -> None:
    from loghaul import faults

    faults.install()


def _install_tap(module: Any) -> None:
    from loghaul import tap

    tap.install()


def _install_threads(module: Any) -> None:
    from loghaul import faults

    faults.install_threads(module)


def _install_warnings(module: Any) -> None:
    from loghaul import warned

    warned.install(module)


_STEPS = {
    "logging": _install_tap,
    "threading": _install_threads,
    "warnings": _install_warnings,
}


def _watch_imports() -> None:
    loaded = {name: sys.modules[name] for name in _STEPS if name in sys.modules}
    waiting = {name: step for name, step in _STEPS.items() if name not in loaded}
    if waiting:
        # First: the steps below may import what is waited for.
        sys.meta_path.insert(0, _Finder(waiting))  # type: ignore[arg-type]
    for name, module in loaded.items():
        _guarded(_STEPS[name], module)


class _Finder:
    """Runs a step behind the import of a module, and leaves when there is none left."""

    def __init__(self, waiting: dict[str, Callable[[Any], None]]) -> None:
        self.waiting = waiting

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec that the other finders give, its loader wrapped."""
        if name not in self.waiting:
            return None
        step = self.waiting.pop(name)
        if not self.waiting and self in sys.meta_path:
            sys.meta_path.remove(self)
        finders: list[Any] = list(sys.meta_path)
        for finder in finders:
            if finder is self:
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, step)
                return spec
        return None


class _Loader:
    """Lets the real loader do all, puts it back, then runs the step."""

    def __init__(self, real: Any, step: Callable[[Any], None]) -> None:
        self.real, self.step = real, step

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def create_module(self, spec: Any) -> Any:
        """Return what the real loader makes."""
        return self.real.create_module(spec)

    def exec_module(self, module: Any) -> None:
        """Run the module, then the step."""
        module.__spec__.loader = module.__loader__ = self.real
        self.real.exec_module(module)
        _guarded(self.step, module)
