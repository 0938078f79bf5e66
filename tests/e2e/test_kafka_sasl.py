"""A broker that lets nobody in without a password."""

import re

import pytest

from loghaul import config, shipper
from loghaul.errors import TransportRefused
from loghaul_ingest import group
from loghaul_ingest.stores import open_reader

JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="broker" password="hush" user_broker="hush" user_jo="p@ss word";'
)


@pytest.fixture
def guarded(fragile_kafka):
    """host:port of a broker whose only listener wants SASL PLAIN."""
    broker = fragile_kafka()
    broker.kill()
    (file,) = broker.home.glob("kafka-1/server.properties")
    text = file.read_text()
    text = re.sub(r"(?<=listeners=)PLAINTEXT(?=://)", "SASL_PLAINTEXT", text)
    text = text.replace(
        "PLAINTEXT:PLAINTEXT,CONTROLLER", "SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER"
    )
    file.write_text(
        f"{text}\ninter.broker.listener.name=SASL_PLAINTEXT\nsasl.enabled.mechanisms=PLAIN\n"
        "sasl.mechanism.inter.broker.protocol=PLAIN\n"
        f"listener.name.sasl_plaintext.plain.sasl.jaas.config={JAAS}\n"
    )
    return broker.start()


def test_sasl_plain_lets_the_right_one_through_and_says_who_is_not(guarded, tmp_path):
    def settings(dsn):
        return config.load(home=tmp_path / "home", transport=dsn, group="test")

    right = f"kafka://jo:p%40ss%20word@{guarded}/logs?mechanism=PLAIN"
    from click.testing import CliRunner

    from loghaul.spool import SpoolWriter
    from loghaul_ingest.cli.setup import setup

    for wrong, said in (
        (f"kafka://jo:wrong@{guarded}/logs?mechanism=PLAIN", "does not let 'jo' in with PLAIN"),
        (f"kafka://jo:p%40ss%20word@{guarded}/logs", "does not take SCRAM-SHA-512|does not let"),
        (f"kafka://{guarded}/logs", "may want a user and a password"),
    ):
        with pytest.raises(TransportRefused, match=said):
            shipper.once(settings(wrong))
    done = CliRunner().invoke(setup, ["--transport", right])
    assert done.exit_code == 0, done.output
    assert "p%40ss" not in done.output
    writer = SpoolWriter(settings(right).spool, {"run.id": "run"})
    writer.append(writer.stream("stdout", "text", "out.txt"), b"let through\n")
    writer.end("exit", {})
    writer.close()
    shipper.once(settings(right))
    group.once(settings(right))
    reader = open_reader(settings(right).store)
    (row,) = reader.streams("run")
    reader.close()
    assert row.stored == 12
