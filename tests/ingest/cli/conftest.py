"""Commands on the shelf's store, called in this process."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from loghaul_ingest.cli import loghaul


@pytest.fixture
def call(shelf, monkeypatch):
    """Call a command; gives code, out (bytes), err, and `json` or `ndjson` of the output."""
    monkeypatch.setenv("LOGHAUL_STORE", shelf.dsn)

    def run(*args, stdin=None):
        done = CliRunner().invoke(loghaul, list(args), input=stdin, prog_name="loghaul")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return SimpleNamespace(
            code=done.exit_code,
            out=done.stdout_bytes,
            text=done.stdout,
            err=done.stderr,
            json=lambda: json.loads(done.stdout_bytes),
            ndjson=lambda: [json.loads(line) for line in done.stdout_bytes.splitlines()],
        )

    return run
