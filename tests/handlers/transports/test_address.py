"""DSNs of a transport: what they mean, and that a secret in one is never shown."""

import pytest

from loghaul import config
from loghaul.config import Secret
from loghaul.errors import TransportRefused
from loghaul.transports.address import Address, parse


def test_hosts_get_kafkas_port_and_keep_their_own():
    found = parse("kafka://a,b:9093,[::1]:9094/logs")
    assert found == Address((("a", 9092), ("b", 9093), ("::1", 9094)), "logs")
    assert found.servers == ["a:9092", "b:9093", "[::1]:9094"]
    assert found.client()["security_protocol"] == "PLAINTEXT"


def test_user_and_password_may_hold_anything():
    found = parse("kafkas://jo%40example:p%2Fw%3A%40x@h/logs?mechanism=plain&verify=no")
    assert (found.user, found.password, found.mechanism) == ("jo@example", "p/w:@x", "PLAIN")
    arguments = found.client()
    assert arguments["security_protocol"] == "SASL_SSL"
    assert arguments["ssl_context"].check_hostname is False
    assert "p/w" not in repr(found) + str(found)


def test_a_password_may_stand_in_a_file(tmp_path):
    (tmp_path / "secret").write_text("hush\n")
    found = parse(f"kafka://h/logs?user=jo&password_file={tmp_path}/secret")
    assert (found.user, found.password) == ("jo", "hush")
    assert found.client()["security_protocol"] == "SASL_PLAINTEXT"


@pytest.mark.parametrize(
    ("dsn", "why"),
    [
        ("amqp://h/x", "neither kafka:// nor kafkas://"),
        ("h:9092", "neither kafka:// nor kafkas://"),
        ("kafka://h", "a topic is missing"),
        ("kafka:///topic", "a host is missing"),
        ("kafka://h:x/topic", "'x' is no port"),
        ("kafka://h/a/b", "one topic only"),
        ("kafka://jo@h/topic", "a user and no password"),
        ("kafka://jo:pw@h/topic?mechanism=GSSAPI", "the mechanism is one of PLAIN"),
        ("kafka://h/topic?acks=1", "there is no option 'acks'"),
        ("kafka://h/topic?user=a&password_file=/none", "/none cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_sentence_without_the_secret(dsn, why):
    with pytest.raises(TransportRefused) as caught:
        parse(dsn)
    assert why in str(caught.value)
    assert "pw" not in str(caught.value)


def test_certificates_that_are_not_there_are_named(tmp_path):
    with pytest.raises(TransportRefused, match=f"certificates of .*{tmp_path}/ca.pem"):
        parse(f"kafkas://h/topic?ca={tmp_path}/ca.pem").client()


def test_settings_show_no_password(monkeypatch):
    monkeypatch.setenv("LOGHAUL_TRANSPORT", "kafka://jo:p@ss:w/rd@h/topic")
    settings = config.load(store="opensearch://jo:hush@h:9200/x")
    assert settings.transport == "kafka://jo:p@ss:w/rd@h/topic"
    assert "p@ss" not in repr(settings) and "hush" not in repr(settings)
    assert Secret(settings.transport).masked == "kafka://jo:***@h/topic"
    assert settings.environment()["LOGHAUL_TRANSPORT"] == settings.transport


def test_a_transport_from_a_file_is_not_handed_on_as_a_variable(monkeypatch, tmp_path):
    (tmp_path / "dsn").write_text("kafka://jo:hush@h/topic\n")
    monkeypatch.setenv("LOGHAUL_TRANSPORT_FILE", str(tmp_path / "dsn"))
    settings = config.load()
    assert settings.transport == "kafka://jo:hush@h/topic"
    assert settings.origins["transport"] == "LOGHAUL_TRANSPORT_FILE"
    assert "LOGHAUL_TRANSPORT" not in settings.environment()
    monkeypatch.setenv("LOGHAUL_TRANSPORT_FILE", str(tmp_path / "none"))
    assert any("cannot be read" in problem for problem in config.load().problems)
