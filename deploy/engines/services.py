"""Real Kafka and OpenSearch on this machine, without docker.

The engines come from Maven Central (kept between starts), run on free ports of 127.0.0.1 with data
in a folder of their own, and are ready when `start` returns. Standard library only.

    eval "$(sh deploy/services start)"      every command of this shell now uses the real engines
    sh deploy/services stop
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
#: Version of the engine -> version of the artifact that brings its jars, and the oldest Java.
OPENSEARCH = {"2.19": ("2.19.1.0", 17), "3": ("3.8.0.0", 21)}
CLUSTER_ID = "bG9naGF1bC1zZXJ2aWNlcw"
READY_SECONDS = 120

LOG4J = """\
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class Failure(Exception):
    """What went wrong and what to do, in one sentence."""


class Process:
    """One engine process of a home: its command, how to see that it is ready, its pid and log."""

    def __init__(self, home, name, command=(), port=0):
        self.folder = home / name
        self.name, self.command, self.port = name, command, port
        self.pid_file, self.log = self.folder / "pid", self.folder / "log"

    def start(self):
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        self.pid_file.write_text(str(process.pid))
        self.port_file.write_text(str(self.port))

    @property
    def port_file(self):
        return self.folder / "port"

    def pid(self):
        """The pid of the running process, None when it is not running."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid = int(self.pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            # Empty for a moment while java starts itself anew, and for ever of a zombie.
            if not command and " Z " not in Path(f"/proc/{pid}/stat").read_text():
                return pid
            return pid if str(self.folder).encode() in command else None
        return None

    def signal(self, number):
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, number)
        deadline = time.monotonic() + 30
        while self.pid() is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def wait(self, ready):
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if self.pid() is None:
                raise Failure(f"{self.name} ended while it started; its log is {self.log}")
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} was not ready in {READY_SECONDS} s; see {self.log}")
            time.sleep(0.1)


def java(oldest):
    """Path of a java that is new enough and belongs to a JDK (OpenSearch.java needs a compiler)."""
    candidates = [shutil.which("java"), os.environ.get("JAVA_HOME", "/nowhere") + "/bin/java"]
    candidates += [str(path) for path in sorted(Path("/usr/lib/jvm").glob("*/bin/java"))]
    for candidate in filter(None, candidates):
        if not Path(os.path.realpath(candidate)).with_name("javac").exists():
            continue
        said = subprocess.run([candidate, "-version"], capture_output=True, text=True).stderr
        version = said.partition('"')[2].partition('"')[0].split(".")
        if version[0].isdigit() and int(version[0]) >= oldest:
            return candidate
    raise Failure(f"no JDK {oldest} or newer found: install one, or set JAVA_HOME")


def jars(name, **properties):
    """Class path of an engine; fetched once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loghaul" / "engines"
    folder = cache / "-".join([name, *properties.values()])
    if not (folder / "complete").exists():
        if not shutil.which("mvn"):
            raise Failure("Maven is not installed: the engines are fetched with it")
        say(f"fetching {folder.name} (once) ...")
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(HERE / f"{name}.xml"), "dependency:copy-dependencies"]
            + [f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]
            + [f"-D{key}={value}" for key, value in properties.items()],
            stdout=sys.stderr,
        )
        if done.returncode:
            raise Failure(f"Maven could not fetch {folder.name}: it says why above")
        (folder / "complete").touch()
    return f"{folder}/*"


def free_ports(number):
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(number):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            found.append(listener.getsockname()[1])
        return found


def kafka(home, brokers):
    """The brokers, formatted; a cluster that was there before keeps its data and ports."""
    program = java(17)
    class_path = jars("kafka")
    plan = home / "kafka.json"
    if not plan.exists():
        plan.write_text(json.dumps([free_ports(2) for _ in range(brokers)]))
    ports = json.loads(plan.read_text())
    if len(ports) != brokers > 1:
        say(f"this cluster has brokers: {len(ports)}; `stop --forget` makes way for {brokers}")
    processes = []
    for number, (port, _) in enumerate(ports, 1):
        process = Process(home, f"kafka-{number}", port=port)
        properties = process.folder / "server.properties"
        if not properties.exists():
            process.folder.mkdir(parents=True)
            properties.write_text(broker_properties(number, ports, process.folder / "data"))
            tool = [program, "-cp", class_path, "kafka.tools.StorageTool", "format"]
            subprocess.run(
                [*tool, "-t", CLUSTER_ID, "-c", str(properties)],
                check=True,
                capture_output=True,
            )
        process.command = [program, "-Xms256m", "-Xmx512m", "-cp", class_path, "kafka.Kafka"]
        process.command.append(str(properties))
        processes.append(process)
    return processes


def broker_properties(number, ports, data):
    port, controller = ports[number - 1]
    voters = ",".join(f"{n}@127.0.0.1:{other}" for n, (_, other) in enumerate(ports, 1))
    copies = min(3, len(ports))
    return f"""\
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
default.replication.factor={copies}
min.insync.replicas={max(1, copies - 1)}
offsets.topic.replication.factor={copies}
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={max(1, copies - 1)}
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={max(1, copies - 1)}
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
message.max.bytes=8388608
"""


def opensearch(home, version, heap, nodes):
    """The nodes of one cluster; one that was there before keeps its data and ports."""
    artifact, oldest = OPENSEARCH[version]
    program = java(oldest)
    class_path = jars("opensearch", runner=artifact)
    plan = home / f"opensearch-{version}.json"
    if not plan.exists():
        cluster = {"name": f"loghaul-{os.getpid()}", "ports": [free_ports(2) for _ in range(nodes)]}
        plan.write_text(json.dumps(cluster))
    cluster = json.loads(plan.read_text())
    processes = []
    for number, (port, _) in enumerate(cluster["ports"], 1):
        name = f"opensearch-{version}" + (f"-{number}" if number > 1 else "")
        process = Process(home, name, port=port)
        config = process.folder / "config"
        if not config.exists():
            config.mkdir(parents=True)
            (process.folder / "data").mkdir()
            (config / "log4j2.properties").write_text(LOG4J)
            (config / "opensearch.yml").write_text(node_settings(number, cluster))
        native = ["--enable-native-access=ALL-UNNAMED"] if oldest >= 21 else []
        process.command = [program, f"-Xms{heap}", f"-Xmx{heap}", *native, "-cp", class_path]
        process.command += [str(HERE / "OpenSearch.java"), str(process.folder)]
        processes.append(process)
    return processes


def node_settings(number, cluster):
    """The configuration of a node."""
    port, transport = cluster["ports"][number - 1]
    found = f"""\
cluster.name: {cluster["name"]}
node.name: n{number}
network.host: 127.0.0.1
http.port: {port}
transport.port: {transport}
action.auto_create_index: false
"""
    if len(cluster["ports"]) == 1:
        return found + "discovery.type: single-node\n"
    others = ", ".join(f'"127.0.0.1:{other}"' for _, other in cluster["ports"])
    return found + (
        f"discovery.seed_hosts: [{others}]\ncluster.initial_cluster_manager_nodes: [n1]\n"
    )


def answers(port, path=None):
    try:
        if path is None:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        address = f"http://127.0.0.1:{port}{path}"
        with urllib.request.urlopen(address, timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def start(options):
    options.home.mkdir(parents=True, exist_ok=True)
    brokers, nodes = [], []
    if options.engine in (None, "kafka"):
        brokers = kafka(options.home, options.brokers)
    if options.engine in (None, "opensearch"):
        nodes = opensearch(options.home, options.opensearch, options.heap, options.nodes)
    for process in brokers + nodes:
        if process.pid() is None:
            process.start()
    for process in brokers:
        process.wait(lambda process=process: answers(process.port))
    for process in nodes:
        health = "/_cluster/health?wait_for_status=yellow&timeout=1s"
        process.wait(lambda process=process, health=health: answers(process.port, health))
    if brokers:
        hosts = ",".join(f"127.0.0.1:{process.port}" for process in brokers)
        print(f"export LOGHAUL_TRANSPORT=kafka://{hosts}/loghaul")
    if nodes:
        hosts = ",".join(f"127.0.0.1:{process.port}" for process in nodes)
        print(f"export LOGHAUL_STORE=opensearch://{hosts}/loghaul")


def known(options):
    for pid_file in sorted(options.home.glob("*/pid")):
        if pid_file.parent.name.startswith(options.engine or ""):
            yield Process(options.home, pid_file.parent.name)


def stop(options):
    for process in known(options):
        process.signal(signal.SIGTERM)
    if options.forget:
        shutil.rmtree(options.home, ignore_errors=True)


def kill(options):
    for process in known(options):
        process.signal(signal.SIGKILL)


def status(options):
    if not any(known(options)):
        say(f"nothing was started in {options.home}")
    for process in known(options):
        pid = process.pid()
        state = f"running, pid {pid}" if pid else "stopped"
        print(f"{process.name}: {state}, port {process.port_file.read_text()}, log {process.log}")


def logs(options):
    for process in known(options):
        sys.stdout.write(process.log.read_text(errors="replace"))


def say(text):
    print(text, file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(
        prog="sh deploy/services",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = {"start": start, "stop": stop, "status": status, "logs": logs, "kill": kill}
    parser.add_argument("action", choices=actions)
    parser.add_argument("engine", nargs="?", choices=["kafka", "opensearch"], help="default: both")
    parser.add_argument("--brokers", type=int, default=1, help="of a new Kafka cluster")
    parser.add_argument("--opensearch", choices=OPENSEARCH, default="2.19")
    parser.add_argument("--nodes", type=int, default=1, help="of a new OpenSearch cluster")
    parser.add_argument("--heap", default="1g", help="of OpenSearch")
    parser.add_argument("--home", type=Path, default=Path(".services"), help="data and logs")
    parser.add_argument("--forget", action="store_true", help="with stop: remove the data")
    options = parser.parse_args()
    options.home = options.home.absolute()
    try:
        actions[options.action](options)
    except Failure as failure:
        sys.exit(f"services: {failure}")


if __name__ == "__main__":
    main()
