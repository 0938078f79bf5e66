"""What stands under deploy/ is what the code has: commands, options, settings, names of metrics.

Schemas are checked offline: that of compose files comes with check-jsonschema, those of Kubernetes
lie beside this file, reduced to the kinds that are used. PromQL is parsed by Prometheus' grammar.
"""

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import click
import jsonschema
import promql_parser
import pytest
import yaml

from loghaul import config
from loghaul_ingest.cli import loghaul as command_line
from loghaul_ingest.metrics import COUNTER, HISTOGRAM, METRICS

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
OPENED = {"kustomization.yaml"}
KUBERNETES = json.loads((ROOT / "tests" / "kubernetes-1.33.json").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana" / "loghaul.json").read_text())
SETTINGS = DEPLOY / "loghaul.toml"


def objects():
    for path in MANIFESTS:
        if path.name not in OPENED:
            for number, found in enumerate(yaml.safe_load_all(path.read_text())):
                yield pytest.param(found, id=f"{path.stem}-{number}-{found['kind']}")


def pod_specs():
    for parameter in objects():
        found = parameter.values[0]
        template = found.get("spec", {}).get("template") if "spec" in found else None
        if template:
            yield pytest.param(template["spec"], id=parameter.id)


def containers(spec):
    return [*spec.get("initContainers", ()), *spec["containers"]]


def parse(words):
    """Check a command line of ours; raises click's error for an option that there is not."""
    name, *rest = words
    context = click.Context(command_line, info_name="loghaul")
    command = command_line.get_command(context, name)
    assert command is not None, f"there is no command {name}"
    command.make_context(name, list(rest))


# -- Kubernetes


@pytest.mark.parametrize("found", list(objects()))
def test_a_manifest_is_what_kubernetes_takes(found):
    kind = KUBERNETES["kinds"][f"{found['apiVersion']}/{found['kind']}"]
    schema = {"$defs": KUBERNETES["$defs"], "$ref": f"#/$defs/{kind}"}

    jsonschema.Draft202012Validator(schema).validate(found)


def test_an_unknown_field_is_found():
    """The check is one: a misspelt field fails it."""
    schema = {"$defs": KUBERNETES["$defs"], "$ref": "#/$defs/io.k8s.api.core.v1.PodSpec"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({"containers": [], "volume": []})


@pytest.mark.parametrize("spec", list(pod_specs()))
def test_a_container_may_do_as_little_as_it_can(spec):
    for container in containers(spec):
        may = container["securityContext"]
        assert may["allowPrivilegeEscalation"] is False
        assert may["readOnlyRootFilesystem"] is True
        assert may["capabilities"]["drop"] == ["ALL"]
        assert "memory" in container["resources"]["limits"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


@pytest.mark.parametrize("spec", list(pod_specs()))
def test_what_is_mounted_is_a_volume_and_what_is_probed_a_port(spec):
    volumes = {volume["name"] for volume in spec["volumes"]} | {"home"}
    for container in containers(spec):
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", ())}
        for probe in ("livenessProbe", "readinessProbe"):
            if probe in container:
                asked = container[probe]["httpGet"]
                assert asked["path"] == {"l": "/healthz", "r": "/readyz"}[probe[0]]
                assert f":{ports[asked['port']]}" == listening(container)


def listening(container):
    words = container["args"]
    return words[words.index("--listen") + 1]


@pytest.mark.parametrize("spec", list(pod_specs()))
def test_containers_run_commands_that_exist_with_settings_that_exist(spec):
    for container in containers(spec):
        words = list(container.get("command") or ["loghaul", *container["args"]])
        if words[0] == "loghaul":
            parse(words[1:])
        assert_settings(variable["name"] for variable in container.get("env", ()))


def assert_settings(names):
    known = {config.variable(name) for name in config.NAMES}
    for name in names:
        if name.startswith("LOGHAUL_"):
            assert name.removesuffix("_FILE") in known, name


def test_selectors_choose_the_pods_they_are_meant_for():
    (worker,) = (found.values[0] for found in objects() if found.values[0]["kind"] == "StatefulSet")
    labels = worker["spec"]["template"]["metadata"]["labels"]
    for parameter in objects():
        found = parameter.values[0]
        if found["kind"] in ("Service", "PodDisruptionBudget"):
            selector = found["spec"]["selector"]
            assert selector.get("matchLabels", selector).items() <= labels.items()
        if found["kind"] == "HorizontalPodAutoscaler":
            target = found["spec"]["scaleTargetRef"]
            assert (target["kind"], target["name"]) == ("StatefulSet", worker["metadata"]["name"])
            (metric,) = found["spec"]["metrics"]
            assert metric["external"]["metric"]["name"] in METRICS


def test_the_kustomization_names_files_that_exist():
    found = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    for name in found["resources"]:
        assert (DEPLOY / "kubernetes" / name).is_file()


# -- docker


def test_the_compose_file_is_what_docker_takes():
    vendored = Path(importlib.util.find_spec("check_jsonschema").origin).parent
    schema = json.loads((vendored / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())

    jsonschema.validators.validator_for(schema)(schema).validate(COMPOSE)


def test_compose_runs_commands_that_exist_at_the_addresses_that_it_opens():
    services = COMPOSE["services"]
    for service in services.values():
        if service["image"] == "loghaul":
            parse(service["command"])
            assert_settings(service["environment"])
            assert service["environment"]["LOGHAUL_TRANSPORT"] == "kafka://kafka:19092/loghaul"
            assert service["environment"]["LOGHAUL_STORE"] == "opensearch://opensearch:9200/loghaul"
        for other in service.get("depends_on", ()):
            assert other in services
    assert "INSIDE://kafka:19092" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    head = (DEPLOY / "compose.yaml").read_text().partition("\nname:")[0]
    assert "LOGHAUL_TRANSPORT=kafka://127.0.0.1:9092/loghaul" in head
    assert "LOGHAUL_STORE=opensearch://127.0.0.1:9200/loghaul" in head


def test_compose_opens_ports_on_this_machine_only():
    for service in COMPOSE["services"].values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")


def test_compose_mounts_files_that_exist():
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            found = (DEPLOY / source).exists() if source[0] == "." else source in COMPOSE["volumes"]
            assert found, volume


def dockerfile():
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines]


def test_the_image_runs_a_command_that_exists_as_nobody_in_particular():
    steps = dict(dockerfile())

    assert steps["USER"] == "10001:10001"
    assert json.loads(steps["ENTRYPOINT"]) == ["loghaul"]
    parse(json.loads(steps["CMD"]))
    assert_settings(re.findall(r"LOGHAUL_\w+", steps["ENV"]))


def test_the_image_has_every_extra_that_a_server_needs():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for names in re.findall(r"\[([\w,]+)\]", (DEPLOY / "Dockerfile").read_text()):
        assert set(names.split(",")) == set(extras) - {"dev"}


def test_what_the_image_is_made_of_is_not_left_out_of_its_context():
    shown = [
        line[1:]
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line[:1] == "!"
    ]
    copied = [
        word
        for name, rest in dockerfile()
        if name == "COPY" and "--from" not in rest
        for word in shlex.split(rest)[:-1]
    ]

    assert sorted(copied) == sorted(shown)
    assert all((ROOT / word).exists() for word in copied)


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint has no wheel for this machine")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


# -- Prometheus and Grafana


def expressions():
    for rule in (rule for group in RULES["groups"] for rule in group["rules"]):
        yield pytest.param(rule["expr"], id=rule["alert"])
    for panel in DASHBOARD["panels"]:
        for number, target in enumerate(panel.get("targets", ())):
            text = target["expr"].replace("$__rate_interval", "5m")
            yield pytest.param(text, id=f"{panel['title']}-{number}")


def shown_names():
    for name, metric in METRICS.items():
        if metric.kind == HISTOGRAM:
            yield from (f"{name}_bucket", f"{name}_sum", f"{name}_count")
        else:
            yield f"{name}_total" if metric.kind == COUNTER else name


@pytest.mark.parametrize("text", list(expressions()))
def test_an_expression_is_promql_about_metrics_that_exist(text):
    promql_parser.parse(text)

    assert set(re.findall(r"loghaul_\w+", text)) <= set(shown_names())


def test_labels_that_are_grouped_by_are_labels_of_the_metric():
    for parameter in expressions():
        text = parameter.values[0]
        names = [name for name in METRICS if name in text]
        labels = {label for name in names for label in METRICS[name].labels}
        groups = re.findall(r"by \(([^)]*)\)", text)
        grouped = {word.strip() for words in groups for word in words.split(",")}
        assert grouped <= labels | {"instance", "job", "le"}, text


def test_every_metric_is_watched_by_a_panel():
    text = json.dumps(DASHBOARD)

    assert [name for name in METRICS if name not in text] == ["loghaul_alive"]


def test_panels_have_places_and_ids_of_their_own():
    panels = DASHBOARD["panels"]
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells

    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_alert_says_what_it_means():
    for rule in (rule for group in RULES["groups"] for rule in group["rules"]):
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


# -- settings


HEAD = """\
Every setting of loghaul, as comments: take away the # where you want another value. The nearest
loghaul.toml upwards of the working directory is read, then ~/.config/loghaul/loghaul.toml;
LOGHAUL_* variables win over both, and arguments over these. What holds a password may stand in a
file of its own: LOGHAUL_TRANSPORT_FILE, LOGHAUL_STORE_FILE."""


def settings_file():
    """deploy/loghaul.toml as it has to be: every setting with its help and its default."""
    yield from (f"# {line}" for line in HEAD.splitlines())
    for name, spec in config.NAMES.items():
        default = f"Default: {spec.metadata['default'] or 'none'}."
        yield ""
        for text in (spec.metadata["help"], f"{default} Variable: {config.variable(name)}"):
            yield from textwrap.wrap(
                text,
                98,
                initial_indent="# ",
                subsequent_indent="# ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        yield f"# {name} = {EXAMPLES.get(name) or shown(spec)}"


#: Where the default is no value that one could write down.
EXAMPLES = {
    "home": '"~/.local/share/loghaul"',
    "store": '"opensearch+https://user:password@host:9200/loghaul"',
    "spool": '"/var/lib/loghaul/spool"',
    "transport": '"kafkas://user:password@host1,host2/loghaul?mechanism=SCRAM-SHA-512"',
    "group_instance": '"worker-0"',
    "spool_max_bytes": '"1GiB"',
    "spool_reserve_bytes": '"512MiB"',
    "retention_days": "90",
    "retention_bytes": '"500GiB"',
    "run_id": '"mnist_1763937600_0a1b2c3d"',
    "run_name": '"a name for people"',
    "node": '"worker-1"',
    "tags": '{ model = "ridge", lr = "0.1" }',
    "attempt": "1",
    "rank": "0",
    "local_rank": "0",
    "parent": '"0123456789abcdef0123456789abcdef"',
}


def shown(spec):
    value = spec.default
    return str(value).lower() if isinstance(value, bool) else json.dumps(value)


def test_the_settings_file_holds_every_setting_as_the_code_has_it():
    assert SETTINGS.read_text().splitlines() == list(settings_file())


def test_every_setting_of_the_file_can_be_used(tmp_path, monkeypatch):
    lines = SETTINGS.read_text().splitlines()
    assignments = [line[2:] for line in lines if re.match(r"# \w+ = ", line)]
    values = tomllib.loads("\n".join(assignments))
    assert list(values) == list(config.NAMES)
    (tmp_path / "loghaul.toml").write_text("\n".join(assignments))
    monkeypatch.delenv("LOGHAUL_HOME")
    monkeypatch.delenv("LOGHAUL_BACKGROUND")
    monkeypatch.chdir(tmp_path)

    settings = config.load()

    assert settings.problems == ()
    assert set(settings.origins) == set(config.NAMES)


def test_the_files_are_python_and_yaml_without_leftovers():
    for path in DEPLOY.rglob("*.py"):
        ast.parse(path.read_text())
    for path in DEPLOY.rglob("*.yaml"):
        assert list(yaml.safe_load_all(path.read_text()))


if __name__ == "__main__":
    print("\n".join(settings_file()))


# -- services


def services(*arguments, **environment):
    command = [sys.executable, DEPLOY / "engines" / "services.py", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_services_that_were_never_started_are_said_to_be_none(tmp_path):
    done = services("status", "--home", tmp_path / "new")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"nothing was started in {tmp_path / 'new'}\n"


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ({"java": "echo 'version \"99.0.1\"' >&2", "javac": ""}, "Maven is not installed"),
        (
            {"java": "echo 'version \"99.0.1\"' >&2", "javac": "", "mvn": "exit 1"},
            "Maven could not fetch kafka",
        ),
    ],
    ids=["no Maven", "no network"],
)
def test_services_say_in_one_sentence_what_they_lack(tmp_path, programs, said):
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)

    done = services(
        *("start", "kafka", "--home", tmp_path / "home"), PATH=str(tmp_path), HOME=str(tmp_path)
    )

    assert done.returncode == 1 and not done.stdout
    assert "Traceback" not in done.stderr
    assert said in done.stderr.splitlines()[-1]
