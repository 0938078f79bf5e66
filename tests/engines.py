"""Real engines for tests: started once per test session, on free ports, stopped at its end.

`LOGHAUL_TEST_OPENSEARCH=host:port` uses one that runs already, for every version asked for,
`LOGHAUL_TEST_KAFKA=host:port` a broker, where a test does not kill it. Without a JDK or Maven such
tests are skipped, with the reason; where CI is set they fail instead.
"""

import fcntl
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from loghaul.errors import TransportError

ROOT = Path(__file__).parent.parent
_HOME = "LOGHAUL_TEST_ENGINES"  # the processes of one session share it
_GIVEN = os.environ.get("LOGHAUL_TEST_OPENSEARCH")
_GIVEN_KAFKA = os.environ.get("LOGHAUL_TEST_KAFKA")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        os.environ[_HOME] = tempfile.mkdtemp(prefix="loghaul-engines-")
    config.engines_home = Path(os.environ[_HOME])


def pytest_unconfigure(config):
    home = getattr(config, "engines_home", None)
    if home is None or hasattr(config, "workerinput"):
        return
    for running in home.glob("*/"):
        # Each engine has a home of its own below this one.
        services("stop", "--home", running, "--forget")
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


class OpenSearch:
    """A cluster of a test's own: `kill` and `start` its nodes."""

    def __init__(self, home, version, nodes):
        self.home = home
        self._arguments = ["--opensearch", version, "--nodes", nodes, "--heap", "256m"]
        self.start()

    def start(self):
        """Start the nodes that do not run, with the data they had."""
        text = services("start", "opensearch", *self._arguments, "--home", self.home)
        self.dsn = exported(text, "LOGHAUL_STORE")

    def kill(self, name=""):
        """Kill -9 the node of that name ("n2"), else all."""
        for number, pid in enumerate(self.pids(), 1):
            if name in ("", f"n{number}"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def pids(self):
        """Process ids of the nodes."""
        return [int(file.read_text()) for file in sorted(self.home.glob("opensearch-*/pid"))]

    def stop(self):
        """End all nodes in order."""
        services("stop", "opensearch", "--home", self.home)

    def wait(self, health):
        """Wait until the cluster has all its nodes and is "green" or "yellow"."""
        nodes = len(self.dsn.split(","))
        wanted = f"wait_for_status={health}&wait_for_nodes={nodes}&timeout=60s"
        assert not self.ask(f"/_cluster/health?{wanted}")["timed_out"]

    def ask(self, path):
        """GET from the first node."""
        place = self.dsn.split("/")[2].split(",")[0]
        with urllib.request.urlopen(f"http://{place}{path}", timeout=90) as reply:
            return json.loads(reply.read())


@pytest.fixture
def opensearch_cluster(tmp_path):
    """A function: version, nodes -> a cluster of this test alone."""
    used = []

    def start(version, nodes=1):
        home = tmp_path / f"cluster-{len(used)}"
        used.append(home)
        return OpenSearch(home, version, nodes)

    yield start
    for home in used:
        services("stop", "--home", home, "--forget")


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


class Kafka:
    """A cluster: `dsn(topic)` of a topic that was created, `kill` and `start` its brokers."""

    def __init__(self, home=None, brokers=1, servers=None):
        self.home, self._brokers = home, brokers
        self.servers = servers or self.start()

    def start(self):
        """Start it, again with its data and ports; returns when its ports are open."""
        text = services("start", "kafka", "--home", self.home, "--brokers", self._brokers)
        self.servers = exported(text, "LOGHAUL_TRANSPORT").split("/")[2]
        return self.servers

    def advertise(self, place):
        """Send clients to another host:port, which leads to the only broker's; it starts anew."""
        self.configure(
            lambda text: re.sub(r"(advertised\.listeners=\w+://).*", rf"\g<1>{place}", text)
        )

    def configure(self, change, scram=None):
        """Change the text of the brokers' settings, and start them anew.

        scram   {user: password} of a new and empty cluster: it is formatted again with them
        """
        self.kill()
        for file in self.home.glob("kafka-*/server.properties"):
            file.write_text(change(file.read_text()))
            if scram:
                shutil.rmtree(file.parent / "data")
                _format(file, scram)
        self.start()

    def kill(self):
        """Kill all brokers, as a power cut of the process would."""
        services("kill", "kafka", "--home", self.home)

    def stop(self):
        """End all brokers in order."""
        services("stop", "kafka", "--home", self.home)

    def pids(self):
        """Process ids of the brokers."""
        return [int(file.read_text()) for file in sorted(self.home.glob("kafka-*/pid"))]

    def dsn(self, partitions=3, **settings):
        """The DSN of a new topic."""
        import asyncio

        from loghaul.transports.address import parse
        from loghaul_ingest.topics import Plan, set_up

        dsn = f"kafka://{self.servers}/test-{uuid.uuid4().hex[:12]}"
        for _ in range(60):
            try:
                asyncio.run(set_up(parse(dsn), Plan(partitions)))
                break
            except TransportError:
                # The port is open a moment before the controller has elected itself.
                time.sleep(0.5)
        if settings:
            self.alter(dsn, **settings)
        return dsn

    def alter(self, dsn, **settings):
        """Change settings of a topic: retention_ms=1000."""
        import asyncio

        from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

        from loghaul.transports.address import parse
        from loghaul.transports.kafka import admin
        from loghaul.transports.topic import read

        async def change():
            address = parse(dsn)
            async with admin(address) as client:
                own = dict((await read(client, address.topic)).own)
                changed = {name.replace("_", "."): str(value) for name, value in settings.items()}
                resource = ConfigResource(
                    ConfigResourceType.TOPIC, address.topic, configs={**own, **changed}
                )
                await client.alter_configs([resource])
                # Brokers learn it a moment later.
                while not changed.items() <= (await read(client, address.topic)).own.items():
                    await asyncio.sleep(0.1)

        asyncio.run(change())


def _format(properties, users):
    """Format a broker's empty log with users of SCRAM: the first ones have to be there before it.

    Done as `deploy/services` does it, whose module is none of a package.
    """
    found = importlib.util.spec_from_file_location("services", ROOT / "deploy/engines/services.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    command = [module.java(17), "-cp", module.jars("kafka"), "kafka.tools.StorageTool", "format"]
    command += ["-t", module.CLUSTER_ID, "-c", str(properties)]
    for name, password in users.items():
        for size in (256, 512):
            command += ["--add-scram", f'SCRAM-SHA-{size}=[name={name},password="{password}"]']
    subprocess.run(command, check=True, capture_output=True)


def free_ports(number):
    """Ports of 127.0.0.1 that nobody listens at."""
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        return [one.getsockname()[1] for one in listeners]


@pytest.fixture(scope="session")
def kafka(request):
    """A broker shared by the session; tests have topics of their own."""
    if _GIVEN_KAFKA:
        return Kafka(servers=_GIVEN_KAFKA)
    home = request.config.engines_home
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return Kafka(home / "kafka")


@pytest.fixture
def fragile_kafka(tmp_path):
    """A function: how many brokers -> a cluster of its own, for a test that kills it."""
    made = []

    def make(brokers=1):
        made.append(Kafka(tmp_path / f"kafka-{len(made)}", brokers))
        return made[-1]

    yield make
    for one in made:
        services("kill", "kafka", "--home", one.home)
