"""Real engines for tests: started once per test session, on free ports, stopped at its end.

`LOGHAUL_TEST_OPENSEARCH=host:port` uses one that runs already, for every version asked for. Without
a JDK or Maven such tests are skipped, with the reason; where CI is set they fail instead.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import urllib.request
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_HOME = "LOGHAUL_TEST_ENGINES"  # the processes of one session share it
_GIVEN = os.environ.get("LOGHAUL_TEST_OPENSEARCH")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        os.environ[_HOME] = tempfile.mkdtemp(prefix="loghaul-engines-")
    config.engines_home = Path(os.environ[_HOME])


def pytest_unconfigure(config):
    home = getattr(config, "engines_home", None)
    if home is None or hasattr(config, "workerinput"):
        return
    if any(home.iterdir()):
        services("stop", "--home", home, "--forget")
    shutil.rmtree(home, ignore_errors=True)


def services(*arguments):
    """What `deploy/services` says; skips the test where there is nothing to run it with."""
    command = ["sh", "deploy/services", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if done.returncode:
        if os.environ.get("CI"):
            pytest.fail(done.stderr)
        pytest.skip(done.stderr.strip().splitlines()[-1])
    return done.stdout


def exported(text, name):
    """The value of a variable in what `services start` says."""
    return next(
        line.partition("=")[2] for line in text.splitlines() if line.startswith(f"export {name}=")
    )


@pytest.fixture(scope="session")
def opensearch(request):
    """A function: version -> "host:port" of a running OpenSearch, shared by the session."""
    known = {}

    def start(version):
        if _GIVEN:
            return _GIVEN
        if version not in known:
            home = request.config.engines_home
            with open(home / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                arguments = ["start", "opensearch", "--opensearch", version, "--heap", "512m"]
                text = services(*arguments, "--home", home / version)
            known[version] = exported(text, "LOGHAUL_STORE").split("/")[2]
        return known[version]

    return start


@pytest.fixture
def opensearch_stores(opensearch):
    """A function: version -> a function that names an empty store; all are removed afterwards."""
    used = []

    def of(version):
        place = opensearch(version)

        def name(*_):
            prefix = f"test-{uuid.uuid4().hex[:12]}"
            used.append((place, prefix))
            return f"opensearch://{place}/{prefix}?fresh_seconds=0"

        return name

    yield of
    for place, prefix in used:
        remove(place, prefix)


def remove(place, prefix):
    """Remove the indices and templates of a store."""
    names = ("blocks-v1", "streams-v1", "runs-v1")
    indices = ",".join([f"{prefix}-blocks-v1-*", f"{prefix}-streams-v1", f"{prefix}-runs-v1"])
    paths = [f"/{indices}?ignore_unavailable=true"]
    for path in [*paths, *(f"/_index_template/{prefix}-{name}" for name in names)]:
        request = urllib.request.Request(f"http://{place}{path}", method="DELETE")
        try:
            urllib.request.urlopen(request, timeout=30).close()
        except OSError:
            pass
