"""Loaded by every Python below `loghaul run`, whatever its version: loads the hook, then the
user's own sitecustomize. Nothing that goes wrong here is seen by the script.

This file must run on Python 2 too: it then only looks for the next sitecustomize.
"""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))

if sys.version_info >= (3, 9) and os.environ.get("LOGHAUL_RUN_ID"):
    try:
        # By path: the environment of the script often has no loghaul, and must not see ours.
        import _frozen_importlib as _bootstrap
        import _frozen_importlib_external as _external

        _package = os.path.dirname(_here)
        _spec = _external.spec_from_file_location(
            "loghaul",
            os.path.join(_package, "__init__.py"),
            submodule_search_locations=[_package],
        )
        assert _spec is not None and _spec.loader is not None
        _module = _bootstrap.module_from_spec(_spec)
        sys.modules["loghaul"] = _module
        _spec.loader.exec_module(_module)
        from loghaul import hook as _loghaul_hook

        _loghaul_hook.install()
    except Exception:  # noqa: BLE001 - a fault of ours must not fail the script
        pass

# Imports of the script see the path as it is without us; children get it through PYTHONPATH.
sys.path[:] = [_folder for _folder in sys.path if os.path.abspath(_folder or ".") != _here]

# What the user's own sitecustomize raises is for `site` to report, as it does without us.
if sys.version_info >= (3, 4):  # noqa: UP036 - another Python loads this
    import _frozen_importlib as _bootstrap
    import _frozen_importlib_external as _external

    _spec = _external.PathFinder.find_spec("sitecustomize", sys.path)
    if _spec is not None and _spec.loader is not None:
        _module = _bootstrap.module_from_spec(_spec)
        sys.modules["sitecustomize"] = _module
        _spec.loader.exec_module(_module)
else:
    del sys.modules["sitecustomize"]
    __import__("sitecustomize")
