"""A broker that lets nobody in without a password, or without a certificate."""

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from engines import Kafka, free_ports
from loghaul import config, shipper
from loghaul.errors import TransportRefused
from loghaul.spool import SpoolWriter
from loghaul.transports.address import parse
from loghaul.transports.kafka import admin
from loghaul_ingest import group
from loghaul_ingest.stores import open_reader

LOGHAUL = str(Path(sys.executable).with_name("loghaul"))
PASSWORD, QUOTED = "p@ss word", "p%40ss%20word"
JAAS = "org.apache.kafka.common.security"
AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
pytestmark = pytest.mark.timeout(240)  # the first one starts a broker twice
#: listener -> protocol. SASL ones take PLAIN and both SCRAMs, MUTUAL wants a certificate.
LISTENERS = {
    "OPEN": "PLAINTEXT",
    "SASL": "SASL_PLAINTEXT",
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "BOTH": "SASL_SSL",
}


class Guarded:
    """A broker with a listener of each kind: `places` by name, and the files of certificates."""

    def __init__(self, folder):
        self.folder = folder
        authority, stranger = trustme.CA(), trustme.CA()
        self.ca, self.wrong_ca = self._pem("ca", authority), self._pem("stranger", stranger)
        self.cert, self.key = self._pair("client", authority.issue_cert("jo@example.org"))
        self.wrong_cert, self.wrong_key = self._pair("other", stranger.issue_cert("x@example.org"))
        self._keystore(authority.issue_cert("127.0.0.1", "localhost"))
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        self.kafka = Kafka(folder / "kafka")
        # Where `deploy/services` looks whether it is there.
        self.ports["OPEN"] = int(self.kafka.servers.rpartition(":")[2])
        self.kafka.configure(self._guarded, scram={"jo": PASSWORD, "mo": PASSWORD})

    def dsn(self, listener, user="", **options):
        """The DSN of the topic by a listener."""
        scheme = "kafkas" if LISTENERS[listener].endswith("SSL") else "kafka"
        return self.at(listener, scheme, user, **options)

    def at(self, listener, scheme, user="", **options):
        """The same with a scheme of one's choice."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        who = f"{user}@" if user else ""
        return f"{scheme}://{who}127.0.0.1:{self.ports[listener]}/logs?{query}".rstrip("?")

    def _pem(self, name, authority):
        file = self.folder / f"{name}.pem"
        authority.cert_pem.write_to_path(file)
        return file

    def _pair(self, name, issued):
        cert, key = self.folder / f"{name}.cert.pem", self.folder / f"{name}.key.pem"
        issued.cert_chain_pems[0].write_to_path(cert)
        issued.private_key_pem.write_to_path(key)
        return cert, key

    def _keystore(self, issued):
        # Kafka reads keys as PKCS 8 alone.
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        raw = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        (self.folder / "broker.pem").write_bytes(raw + chain)

    def _guarded(self, text):
        """The settings of a broker with all listeners, instead of its single one."""
        places = ",".join(f"{name}://127.0.0.1:{port}" for name, port in self.ports.items())
        kinds = ",".join(f"{name}:{kind}" for name, kind in LISTENERS.items())
        text = re.sub(r"(?m)^listeners=PLAINTEXT[^,]*", f"listeners={places}", text)
        text = re.sub(r"(?m)^advertised.listeners=.*", f"advertised.listeners={places}", text)
        text = text.replace("protocol.map=PLAINTEXT:PLAINTEXT", f"protocol.map={kinds}")
        text += "inter.broker.listener.name=OPEN\n"
        for name in ("sasl", "both"):
            start = f"listener.name.{name}"
            text += f"{start}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n"
            users = f'user_jo="{PASSWORD}"'
            text += f"{start}.plain.sasl.jaas.config={JAAS}.plain.PlainLoginModule required "
            text += f"{users};\n"
            for size in (256, 512):
                text += f"{start}.scram-sha-{size}.sasl.jaas.config="
                text += f"{JAAS}.scram.ScramLoginModule required;\n"
        for store, file in (("keystore", "broker.pem"), ("truststore", "ca.pem")):
            text += f"ssl.{store}.type=PEM\nssl.{store}.location={self.folder / file}\n"
        text += f"authorizer.class.name={AUTHORIZER}\nsuper.users=User:ANONYMOUS;User:jo\n"
        text += "allow.everyone.if.no.acl.found=true\n"
        return f"{text}listener.name.mutual.ssl.client.auth=required\n"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    found = Guarded(tmp_path_factory.mktemp("guarded"))
    yield found
    found.kafka.kill()


def settings_of(tmp_path, dsn):
    return config.load(home=tmp_path / "home", transport=dsn, group="test")


def loghaul(settings, *args):
    environment = {**os.environ, **settings.environment()}
    return subprocess.run(
        [LOGHAUL, *args], env=environment, capture_output=True, timeout=60, check=False
    )


WAYS = {
    "PLAIN": ("SASL", {"mechanism": "PLAIN"}),
    "SCRAM-SHA-256": ("SASL", {"mechanism": "SCRAM-SHA-256"}),
    "SCRAM-SHA-512": ("SASL", {}),
    "TLS": ("TLS", {"ca": "ca"}),
    "mutual TLS": ("MUTUAL", {"ca": "ca", "cert": "cert", "key": "key"}),
    "SCRAM-SHA-512 over TLS": ("BOTH", {"ca": "ca"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_who_is_known_gets_in_from_setup_to_the_store(way, guarded, tmp_path):
    listener, options = WAYS[way]
    files = ("ca", "cert", "key")
    options = {n: getattr(guarded, v) if n in files else v for n, v in options.items()}
    user = f"jo:{QUOTED}" if LISTENERS[listener].startswith("SASL") else ""
    settings = settings_of(tmp_path, guarded.dsn(listener, user, **options))

    done = loghaul(settings, "setup", "--partitions", "1")
    assert done.returncode == 0, done.stderr
    assert QUOTED.encode() not in done.stdout
    line = f"let through by {way}\n".encode()
    writer = SpoolWriter(settings.spool, {"run.id": way})
    writer.append(writer.stream("stdout", "text", "out.txt"), line)
    writer.end("exit", {})
    writer.close()
    shipper.once(settings)
    group.once(settings)
    reader = open_reader(settings.store)
    (row,) = reader.streams(way)
    assert b"".join(head.length * b"." for head in reader.heads(row.facts.stream)) == b"." * len(
        line
    )
    reader.close()


JO = f"jo:{QUOTED}"
WRONG = {
    "no password": (lambda g: g.dsn("SASL"), "may want a user and a password"),
    "a wrong password, PLAIN": (
        lambda g: g.dsn("SASL", "jo:hu5h", mechanism="PLAIN"),
        "does not let 'jo' in with PLAIN",
    ),
    "a wrong password, SCRAM": (
        lambda g: g.dsn("SASL", "jo:hu5h"),
        "does not let 'jo' in with SCRAM-SHA-512",
    ),
    "an unknown user": (
        lambda g: g.dsn("SASL", "eve:hu5h", mechanism="SCRAM-SHA-256"),
        "does not let 'eve' in with SCRAM-SHA-256",
    ),
    "a wrong password over TLS": (
        lambda g: g.dsn("BOTH", "jo:hu5h", ca=g.ca),
        "does not let 'jo' in with SCRAM-SHA-512",
    ),
    "no authority": (lambda g: g.dsn("TLS"), "is not trusted: .*ca=/path.pem"),
    "a wrong authority": (lambda g: g.dsn("TLS", ca=g.wrong_ca), "is not trusted"),
    "an authority that is no file": (
        lambda g: g.dsn("TLS", ca="/none.pem"),
        "certificates of .* cannot be used .*none.pem",
    ),
    "no certificate of one's own": (
        lambda g: g.dsn("MUTUAL", ca=g.ca),
        "wants a certificate of yours: give it with [?]cert= and [?]key=",
    ),
    "a certificate of a stranger": (
        lambda g: g.dsn("MUTUAL", ca=g.ca, cert=g.wrong_cert, key=g.wrong_key),
        "does not take the certificate .*other.cert.pem",
    ),
    "plaintext to a TLS port": (lambda g: g.at("TLS", "kafka"), "wants TLS .*kafkas://"),
    "a password in plaintext to a TLS port": (
        lambda g: g.at("BOTH", "kafka", JO),
        "wants TLS .*kafkas://",
    ),
    "TLS to a plaintext port": (
        lambda g: g.at("OPEN", "kafkas", ca=g.ca),
        "kafka:// instead of kafkas://",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_who_is_not_is_told_why_in_one_sentence_within_seconds(mistake, guarded, tmp_path):
    make, said = WRONG[mistake]
    settings = settings_of(tmp_path, make(guarded))
    begun = time.monotonic()
    with pytest.raises(TransportRefused, match=said) as failure:
        shipper.once(settings)
    assert time.monotonic() - begun < 15
    assert not re.search(f"hu5h|{QUOTED}|{PASSWORD}", str(failure.value))
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("mistake", ["a wrong password, SCRAM", "a wrong authority"])
def test_every_command_says_it_and_the_script_is_untouched(mistake, guarded, tmp_path):
    make, said = WRONG[mistake]
    settings = settings_of(tmp_path, make(guarded))
    for command in (["ship"], ["setup", "--check"], ["ingest"]):
        done = loghaul(settings, *command)
        (line,) = done.stderr.decode().splitlines()
        assert (done.returncode, bool(re.search(said, line))) == (1, True), line
    done = loghaul(settings, "run", "--", "sh", "-c", "echo hello; exit 4")
    assert (done.returncode, done.stdout, done.stderr) == (4, b"hello\n", b"")


async def only_to_write(dsn, topic):
    """Take from everyone who is no super user the right to read a topic."""
    from aiokafka.protocol.admin import CreateAclsRequest

    async with admin(parse(dsn)) as client:
        # A topic, its name, literally; mo, from any host: to write it is allowed, so no more is.
        acl = (2, topic, 3, "User:mo", "*", 4, 3)
        (done,) = (await client._send_request(CreateAclsRequest(*acl))).creation_responses
        assert done[0] == 0, done


def test_who_may_not_read_the_topic_follows_the_store_and_is_told_so(guarded, tmp_path):
    dsn = guarded.dsn("SASL", JO).replace("/logs", "/guarded")
    settings = settings_of(tmp_path, dsn)
    assert loghaul(settings, "setup", "--partitions", "1").returncode == 0
    asyncio.run(only_to_write(dsn, "guarded"))
    writer = SpoolWriter(settings.spool, {"run.id": "r1"})
    writer.append(writer.stream("stdout", "text", "out.txt"), b"one\n")
    shipper.once(settings)
    group.once(settings)
    environment = {
        **settings.environment(),
        "LOGHAUL_HOME": str(tmp_path / "elsewhere"),
        "LOGHAUL_SPOOL": str(tmp_path / "elsewhere" / "spool"),
        "LOGHAUL_STORE": str(settings.store),
        "LOGHAUL_TRANSPORT": dsn.replace("jo:", "mo:"),
    }
    follower = subprocess.Popen(
        [LOGHAUL, "logs", "r1", "-f"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert follower.stdout.readline() == b"one\n"
    said = follower.stderr.readline().decode()
    assert re.search("/guarded may not be read; lines are shown when they are stored", said)
    writer.end("exit", {})
    writer.close()
    shipper.once(settings)
    group.once(settings)
    assert follower.communicate(timeout=30) == (b"", b"")
    assert follower.returncode == 0
