"""What all tests share: the flag for slow rounds, and a clean environment."""

import atexit
import os
import shutil
import tempfile

import pytest

pytest_plugins = ["engines"]

# What a handler of a test that failed says when this process ends goes there too.
os.environ["LOGHAUL_HOME"] = tempfile.mkdtemp(prefix="loghaul-tests-")
atexit.register(shutil.rmtree, os.environ["LOGHAUL_HOME"], ignore_errors=True)


def pytest_addoption(parser):
    parser.addoption(
        "--slow", action="store_true", help="run fault tests with 100 rounds instead of 10"
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="many rounds; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch, tmp_path_factory):
    """No test sees or touches the home, spool or run of whoever starts the tests."""
    for name in list(os.environ):
        if name.startswith("LOGHAUL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LOGHAUL_HOME", str(tmp_path_factory.mktemp("home")))
    # Whoever wants a worker in the background says so, and stops it.
    monkeypatch.setenv("LOGHAUL_BACKGROUND", "0")
