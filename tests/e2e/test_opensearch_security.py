"""An OpenSearch that wants a password, and speaks TLS with a certificate of one's own authority.

The engine here has no security of its own: a server in front of it has.
"""

import os
import re
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trustme

from between import Between
from loghaul import config, shipper
from loghaul.spool import SpoolWriter
from loghaul_ingest.errors import StoreError
from loghaul_ingest.stores import open_reader, open_writer

LOGHAUL = str(Path(sys.executable).with_name("loghaul"))
PASSWORD, QUOTED = "p@ss/word?", "p%40ss%2Fword%3F"


@pytest.fixture
def certificates(tmp_path):
    """The context of a server, the file of its authority, and that of another one."""
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    files = tmp_path / "ca.pem", tmp_path / "stranger.pem"
    for file, one in zip(files, (authority, stranger), strict=True):
        one.cert_pem.write_to_path(file)
    return context, *files


@pytest.fixture
def guarded(opensearch_stores, certificates):
    """(the engine behind a password and TLS, the direct DSN)."""
    store = opensearch_stores("2.19")()
    context = certificates[0]
    with Between(store.split("/")[2], known=("jo", PASSWORD), context=context) as between:
        yield between, store


def dsn(guarded, user="", **options):
    between, store = guarded
    return between.dsn(store, **options).replace("://", f"://{user}@" if user else "://")


def loghaul(settings, *args):
    environment = {**os.environ, **settings.environment()}
    return subprocess.run(
        [LOGHAUL, *args], env=environment, capture_output=True, timeout=60, check=False
    )


def test_who_is_known_gets_in_from_setup_to_search(guarded, certificates, kafka, tmp_path):
    store = dsn(guarded, f"jo:{QUOTED}", ca=certificates[1])
    settings = config.load(
        home=tmp_path / "home", transport=kafka.dsn(1), store=store, group=tmp_path.name
    )
    done = loghaul(settings, "setup")
    assert done.returncode == 0, done.stderr
    writer = SpoolWriter(settings.spool, {"run.id": "guarded"})
    writer.append(writer.stream("stdout", "text", "out.txt"), b"behind a password\n")
    writer.end("exit", {})
    writer.close()
    shipper.once(settings)
    assert loghaul(settings, "ingest", "--once").returncode == 0
    found = loghaul(settings, "search", "password", "-o", "ndjson")
    assert (found.returncode, b"behind a password" in found.stdout) == (0, True), found.stderr
    for said in (done, found):
        assert QUOTED.encode() not in said.stdout + said.stderr


WRONG = {
    "a wrong password": (
        lambda guarded, files: dsn(guarded, "jo:hu5h", ca=files[1]),
        "refuses user 'jo' or the password: put the right ones into the DSN",
    ),
    "no password": (
        lambda guarded, files: dsn(guarded, ca=files[1]),
        "refuses requests without user: put the right ones into the DSN",
    ),
    "a wrong authority": (
        lambda guarded, files: dsn(guarded, f"jo:{QUOTED}", ca=files[2]),
        r"no TLS with .*certificate.*[?]ca=FILE",
    ),
    "no authority": (
        lambda guarded, files: dsn(guarded, f"jo:{QUOTED}"),
        r"no TLS with .*certificate.*[?]ca=FILE",
    ),
    "an authority that is no file": (
        lambda guarded, files: dsn(guarded, f"jo:{QUOTED}", ca="/none.pem"),
        "/none.pem cannot be read: give with .ca= the file of the authority",
    ),
    "plaintext to a TLS port": (
        lambda guarded, files: dsn(guarded, f"jo:{QUOTED}").replace("+https", ""),
        r"breaks off at the first request: if it wants TLS, write opensearch\+https://",
    ),
    "TLS to a plaintext port": (
        lambda guarded, files: guarded[1].replace("opensearch:", "opensearch+https:"),
        "for a server without TLS opensearch://",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_who_is_not_is_told_why_in_one_sentence_within_seconds(mistake, guarded, certificates):
    make, said = WRONG[mistake]
    store = make(guarded, certificates)
    for ask in (open_writer, lambda dsn: open_reader(dsn).runs()):
        begun = time.monotonic()
        with pytest.raises(StoreError, match=said) as failure:
            ask(store)
        assert time.monotonic() - begun < 15
        assert not re.search(f"\n|hu5h|{QUOTED}|{re.escape(PASSWORD)}", str(failure.value))


@pytest.mark.parametrize("mistake", ["a wrong password", "a wrong authority"])
def test_every_command_says_it_and_the_script_is_untouched(
    mistake, guarded, certificates, kafka, tmp_path
):
    make, said = WRONG[mistake]
    settings = config.load(
        home=tmp_path / "home",
        transport=kafka.dsn(1),
        store=make(guarded, certificates),
        group=tmp_path.name,
    )
    for command in (["setup", "--check"], ["ingest"], ["search", "word"]):
        done = loghaul(settings, *command)
        (line,) = done.stderr.decode().splitlines()
        assert (done.returncode, bool(re.search(said, line))) == (1, True), (command, line)
        assert "hu5h" not in line
    done = loghaul(settings, "run", "--", "sh", "-c", "echo hello; exit 4")
    assert (done.returncode, done.stdout, done.stderr) == (4, b"hello\n", b"")
