"""What each producer's records become: payloads of the shapes that their documentation shows."""

import json

import pytest

from loghaul.chunk import EVENTS, TEXT, Record
from loghaul_ingest.foreign import ForeignError, adapt, said
from loghaul_ingest.foreign.entry import Producer, target
from loghaul_ingest.foreign.otlp_proto import fits
from loghaul_ingest.recognise import OWN, fields_of

ARRIVED = 1_763_937_700_000_000
NOV_23 = 1_763_937_607_123_456
STAMP = "2025-11-23T22:40:07.123456789Z"


def read(body, **headers):
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = [(name.replace("_", "-"), text.encode()) for name, text in headers.items()]
    return adapt(Record(b"", value, named), ARRIVED)


def one(body, **headers):
    (entry,) = read(body, **headers)
    return entry


def common(entry):
    return target("logs/3", entry.producer, entry.name).common


FLUENT_BIT = {
    "@timestamp": 1763937607.123456,
    "log": "step 1\n",
    "stream": "stderr",
    "time": STAMP,
    "kubernetes": {
        "pod_name": "train-0",
        "namespace_name": "ml",
        "pod_id": "5b6c5c0c-2f3b-4d35-9c25-1f2b9a1c2d3e",
        "labels": {"app": "train", "loghaul.dev/run-id": "run-7"},
        "annotations": {"loghaul.dev/experiment": "mnist"},
        "host": "node-a",
        "container_name": "trainer",
        "docker_id": "8f2f3a",
        "container_image": "registry/train:1",
    },
}
VECTOR = {
    "file": "/var/log/pods/ml_train-0_5b6c/trainer/0.log",
    "kubernetes": {
        "container_id": "containerd://8f2f3a",
        "container_name": "trainer",
        "pod_annotations": {"loghaul.dev/run-id": "run-7"},
        "pod_labels": {"app": "train"},
        "pod_name": "train-0",
        "pod_namespace": "ml",
        "pod_node_name": "node-a",
        "pod_uid": "5b6c5c0c",
    },
    "message": "step 1",
    "source_type": "kubernetes_logs",
    "stream": "stdout",
    "timestamp": STAMP,
}


@pytest.mark.parametrize(("body", "name"), [(FLUENT_BIT, "stderr"), (VECTOR, "stdout")])
def test_a_line_of_a_container_is_text_of_its_run(body, name):
    entry = one(body)

    assert (entry.name, entry.kind, entry.data) == (name, TEXT, b"step 1\n")
    assert entry.time_us == NOV_23
    assert common(entry)["run.id"] == "run-7"
    assert common(entry)["run.node"] == common(entry)["host.name"] == "node-a"
    assert common(entry)["log.file.path"] == "containers/train-0/trainer.txt"
    assert common(entry)["log.iostream"] == name
    assert common(entry)["labels"] == {"namespace": "ml", "pod": "train-0"}
    assert common(entry)["container.id"].endswith("8f2f3a")


def test_without_a_run_it_is_of_the_synthetic_run_of_its_pod():
    pod = {**FLUENT_BIT["kubernetes"], "labels": {}}

    assert common(one({**FLUENT_BIT, "kubernetes": pod}))["run.id"] == "unassigned/ml/train-0"
    assert common(one(b"a line"))["run.id"] == "unassigned/logs_3"


def test_keys_of_a_parsed_line_make_it_a_record():
    merged = {**FLUENT_BIT, "level": "warn", "epoch": 3, "nested": {"a": [1]}}

    entry = one(merged)

    assert (entry.name, entry.kind) == ("records", EVENTS)
    assert entry.data.endswith(b"}\n") and OWN.match(b"\n" + entry.data)
    found = fields_of(entry.data, EVENTS)
    assert found["@timestamp"] == "2025-11-23T22:40:07.123456Z"
    assert (found["message"], found["log.level"]) == ("step 1", "warning")
    assert (found["extra.epoch"], found["extra.nested.a"]) == (3, [1])


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (1763937607.123456, NOV_23),
        ("1763937607.123456", None),
        ("2025-11-23T22:40:07Z", NOV_23 - 123_456),
        ("2025-11-23 22:40:07.123456", NOV_23),
        ("2025-11-24T00:40:07.123456+02:00", NOV_23),
        (1763937607123, NOV_23 - 456),
        ("1763937607123456000", NOV_23),
        (-1, None),
        (1e300, None),
        (True, None),
        ("soon", None),
        ({}, None),
    ],
)
def test_times_are_read_as_they_are_spelled(time, expected):
    assert said.moment(time) == expected


def test_parts_of_a_long_line_are_joined():
    docker = [
        {"log": "a long ", "stream": "stdout", "time": STAMP},
        {"log": "line\n", "stream": "stdout", "time": STAMP},
    ]
    cri = f"{STAMP} stdout P a long \n{STAMP} stdout F line\n".encode()
    partial = [
        {**FLUENT_BIT, "log": "a long ", "_p": "P"},
        {**FLUENT_BIT, "log": "line", "_p": "F"},
    ]

    assert b"".join(one(body).data for body in docker) == b"a long line\n"
    assert b"".join(entry.data for entry in read(cri)) == b"a long line\n"
    assert b"".join(one(body).data for body in partial) == b"a long line\n"


def test_cri_keeps_every_byte_of_a_line():
    raw = STAMP.encode() + b" stderr F \x1b[31mred\xff\x00 \r"

    entry = one(raw)

    assert (entry.name, entry.data, entry.time_us) == (
        "stderr",
        b"\x1b[31mred\xff\x00 \r\n",
        NOV_23,
    )


OTLP = {
    "resourceLogs": [
        {
            "resource": {
                "attributes": [
                    {"key": "service.name", "value": {"stringValue": "trainer"}},
                    {"key": "loghaul.run.id", "value": {"stringValue": "run-7"}},
                    {"key": "loghaul.rank", "value": {"intValue": "3"}},
                    {"key": "host.name", "value": {"stringValue": "node-a"}},
                ]
            },
            "scopeLogs": [
                {
                    "scope": {"name": "my.library"},
                    "logRecords": [
                        {
                            "timeUnixNano": "1763937607123456789",
                            "observedTimeUnixNano": "1763937608000000000",
                            "severityNumber": 17,
                            "severityText": "ERROR",
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "EEE19B7EC3C1B174",
                            "body": {"stringValue": "it failed"},
                            "attributes": [
                                {"key": "exception.type", "value": {"stringValue": "ValueError"}},
                                {"key": "code.lineno", "value": {"intValue": "12"}},
                                {
                                    "key": "list",
                                    "value": {
                                        "arrayValue": {"values": [{"boolValue": True}, {"x": 1}]}
                                    },
                                },
                            ],
                        },
                        {"observedTimeUnixNano": 1763937608000000000, "body": {"intValue": "7"}},
                    ],
                }
            ],
        }
    ]
}


def test_otlp_json_becomes_records_with_our_names():
    first, second = read(OTLP)

    found = fields_of(first.data, EVENTS)
    assert first.time_us == NOV_23
    assert found["message"] == "it failed"
    assert (found["log.level"], found["event.severity"]) == ("error", 40)
    assert (found["log.logger"], found["error.type"]) == ("my.library", "ValueError")
    assert found["trace.id"] == "5b8efff798038103d269b633813fc60c"
    assert found["span.id"] == "eee19b7ec3c1b174"
    assert found["log.origin.file.line"] == 12
    assert found["extra.list"] == [True, None]
    assert common(first)["run.id"] == "run-7"
    assert common(first)["run.rank"] == 3
    assert common(first)["log.file.path"] == "services/trainer.jsonl"
    assert fields_of(second.data, EVENTS)["message"] == "7"
    assert second.time_us == 1_763_937_608_000_000


def test_a_containers_line_from_the_collector_is_text():
    record = {
        "timeUnixNano": "1763937607123456789",
        "body": {"stringValue": "step 1"},
        "attributes": [
            {"key": "log.iostream", "value": {"stringValue": "stdout"}},
            {"key": "logtag", "value": {"stringValue": "F"}},
            {"key": "log.file.path", "value": {"stringValue": "/var/log/pods/x/0.log"}},
        ],
    }
    attributes = {
        "k8s.pod.name": "train-0",
        "k8s.namespace.name": "ml",
        "k8s.container.name": "trainer",
        "k8s.pod.labels.loghaul.dev/run-id": "run-7",
    }
    resource = [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()]
    body = {"resourceLogs": [{"resource": {"attributes": resource}}]}
    body["resourceLogs"][0]["scopeLogs"] = [{"logRecords": [record]}]

    entry = one(body)

    assert (entry.name, entry.kind, entry.data) == ("stdout", TEXT, b"step 1\n")
    assert common(entry)["run.id"] == "run-7"
    assert common(entry)["log.file.path"] == "containers/train-0/trainer.txt"


def test_otlp_of_the_sdk_says_the_same_in_protobuf_and_json():
    pytest.importorskip("opentelemetry.exporter.otlp.proto.common", reason="the SDK is missing")
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    exporter = InMemoryLogRecordExporter()
    resource = Resource.create({"loghaul.run.id": "run-7", "service.name": "trainer"})
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("my.library").emit(
        timestamp=NOV_23 * 1000,
        severity_number=SeverityNumber.WARN,
        severity_text="WARN",
        body="grün",
        attributes={"epoch": 3, "loss": [0.5, 0.25], "exception.type": "ValueError"},
    )
    value = encode_logs(exporter.get_finished_logs()).SerializeToString()

    assert fits(value)
    for headers in ({}, {"content_type": "application/x-protobuf"}):
        entry = one(value, **headers)
        found = fields_of(entry.data, EVENTS)
        assert (found["message"], found["log.level"]) == ("grün", "warning")
        assert (found["extra.epoch"], found["extra.loss"]) == (3, [0.5, 0.25])
        assert (found["error.type"], found["log.logger"]) == ("ValueError", "my.library")
        assert common(entry)["run.id"] == "run-7"
        assert entry.time_us == NOV_23


def test_ecs_lines_keep_their_fields():
    body = {
        "@timestamp": "2025-11-23T22:40:07.123456Z",
        "log.level": "info",
        "message": "done",
        "ecs.version": "8.11.0",
        "log": {"logger": "train"},
        "run": {"id": "run-7"},
        "epoch": 3,
    }

    entry = one(body)

    found = fields_of(entry.data, EVENTS)
    assert (found["message"], found["log.logger"], found["extra.epoch"]) == ("done", "train", 3)
    assert common(entry)["run.id"] == "run-7"
    assert entry.time_us == NOV_23


@pytest.mark.parametrize("value", [b"step 1", b"step 1\n"])
def test_a_plain_line_has_its_newline_and_the_run_of_its_header(value):
    entry = one(value, loghaul_run="run-7", loghaul_node="node-a")

    assert (entry.name, entry.kind, entry.data) == ("output", TEXT, b"step 1\n")
    assert entry.time_us is None
    assert common(entry)["run.id"] == "run-7"
    assert common(entry)["run.node"] == "node-a"
    assert common(entry)["log.file.path"] == "topics/logs_3.txt"


def test_json_of_nobody_we_know_is_a_line():
    assert one({"level": "error", "msg": "x"}).data == b'{"level": "error", "msg": "x"}\n'
    assert one(b"[1, 2]").kind == one(b'"text"').kind == one(b"\nABC").kind == TEXT


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (b"", {}, "empty"),
        (b"\x00\x01\x02", {}, "neither text"),
        (b"\n\x05\x01\x02", {}, "neither text"),
        (b"\n\x02\xff\xff", {}, "no OTLP"),
        (b"x", {"loghaul_format": "morse"}, "is none of"),
        (b"x", {"loghaul_format": "vector"}, "no JSON object"),
        (b"x", {"loghaul_format": "cri"}, "CRI"),
        (b"x", {"loghaul_format": "docker"}, "json-file"),
        (b"x", {"loghaul_format": "otlp_proto"}, "no OTLP"),
        (b"[" * 100_000, {"loghaul_format": "otlp_json"}, "no JSON object"),
        (b"x" * 2**23, {}, "more than"),
    ],
)
def test_what_cannot_be_read_says_why(value, headers, reason):
    with pytest.raises(ForeignError, match=reason):
        read(value, **headers)


@pytest.mark.parametrize(
    "body",
    [
        {"resourceLogs": [None, 5, {"resource": 5, "scopeLogs": [{"logRecords": [{}, 7]}]}]},
        {"resourceLogs": [{"resource": {"attributes": [{"key": 5}, {"key": "a"}, 7]}}]},
        {**FLUENT_BIT, "kubernetes": {"pod_name": "../../etc", "labels": [1], "host": 5}},
        {**FLUENT_BIT, "kubernetes": {"pod_name": "x" * 100_000, "namespace_name": "\x1b[2J"}},
        {**VECTOR, "kubernetes": 5, "timestamp": {"a": 1}, "stream": ["stdout"]},
        {**VECTOR, "message": "\ud800 half", "run": {"id": 5}},
        {"log": "\udfff", "stream": "stdout", "time": -1},
        {"@timestamp": STAMP, "message": {"a": "\ud800"}, "log.level": 10**400},
        {**FLUENT_BIT, "loss": float("nan"), "big": 10**30, "level": ["x"] * 100},
    ],
)
def test_hostile_content_is_data(body):
    for entry in read(body):
        found = common(entry)
        assert len(found["run.id"]) < 400 and found["run.id"].isprintable()
        parts = found["log.file.path"].split("/")
        assert all(part and part.strip(".") and part.isprintable() for part in parts)
        assert all(len(part) <= 130 for part in parts)
        if entry.kind == EVENTS:
            assert entry.data.count(b"\n") == 1
            assert "message" in fields_of(entry.data, EVENTS)


def test_values_in_values_end_at_a_depth():
    value = {"stringValue": "deep"}
    for _ in range(150):
        value = {"arrayValue": {"values": [value]}}
    record = {"body": value, "timeUnixNano": "1763937607123456789"}

    (entry,) = read({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})

    assert b"null" in entry.data


def test_a_run_id_of_a_book_is_cut_and_stays_its_own():
    first, second = said.run_id("x" * 5000 + "1"), said.run_id("x" * 5000 + "2")

    assert len(first) == len(second) == 150
    assert first != second
    assert said.run_id(" \n") is said.run_id(5) is None


def test_containers_partitions_and_runs_have_streams_of_their_own():
    keys = {
        target(origin, Producer(run=run, pod="p", container_id=container), "stdout").key
        for origin in ("t/0", "t/1")
        for run in ("a", "b")
        for container in ("1", "2")
    }

    assert len({key.writer for key in keys}) == 8
