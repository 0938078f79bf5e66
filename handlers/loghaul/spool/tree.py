"""Removing directories, without what `shutil` brings into every training process.

It loads all compressors that Python has, half a megabyte, and is needed but once in a while.
"""

from __future__ import annotations

from pathlib import Path


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it, as far as that is possible; never raises."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)
