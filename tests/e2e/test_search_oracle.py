"""Every answer of `loghaul search` on a known corpus is what grep says of the same bytes.

60,000 lines go through the whole pipeline: printed by a run, captured, spooled, stored. The oracle
is GNU grep in the C locale. It sees what a reader sees as a line: a state of a progress bar is one,
and colours are spaces.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from loghaul_ingest.cli import loghaul

LINES = 60_000
#: More hits than this are counted only, except for a few.
LISTED = 3_000
HERE = Path(__file__).parent
PRINT = "import shutil, sys; shutil.copyfileobj(open(sys.argv[1], 'rb'), sys.stdout.buffer, 65000)"
COLOURED = (
    b"\x1b[31mERROR\x1b[0m: colo\x1b[1mured\x1b[0m words in 3\xc2\xb5s\n",
    b"caf\xc3\xa9 na\xefve under_score x_y 0x1F done.\r\n",
    b"A-Z: [brackets] {braces} a=b;c=d 50%|50/100\n",
    b"nul \x00 in the middle\n",
    b" 10%|# | 1/10\r 20%|## | 2/10\r100%|##########| 10/10\n",
    b"\n",
    b"w" * 100 + b"ord " + b"x" * 300 + b" end\n",
)

pytestmark = pytest.mark.skipif(shutil.which("grep") is None, reason="the oracle is grep")


class Shelf:
    """A home with one run that printed the corpus, and the corpus as the oracle sees it."""

    def __init__(self, folder):
        self.home, self.seen = folder / "home", folder / "seen"
        printed = folder / "printed"
        maker = subprocess.run(
            [sys.executable, str(HERE.parent / "bench" / "corpus.py"), str(LINES)],
            stdout=subprocess.PIPE,
            check=True,
        )
        lines = maker.stdout.splitlines(keepends=True)
        for number, line in enumerate(COLOURED * 40):
            lines.insert(1_000 + 173 * number, line)
        data = b"".join(lines)
        printed.write_bytes(data)
        # Of equal length, so that places are places in what was printed.
        blanked = re.sub(rb"\x1b\[[0-9;]*m", lambda found: b" " * len(found[0]), data)
        self.seen.write_bytes(re.sub(rb"\r(?!\n)", b"\n", blanked))
        command = [
            str(Path(sys.executable).with_name("loghaul")),
            "run",
            "-q",
            "--run-id",
            "corpus",
        ]
        with (folder / "out").open("wb") as out:
            subprocess.run(
                [*command, "--", sys.executable, "-c", PRINT, str(printed)],
                env={**os.environ, "LOGHAUL_HOME": str(self.home), "LOGHAUL_BACKGROUND": "0"},
                stdout=out,
                timeout=60,
                check=True,
            )
        assert (folder / "out").read_bytes() == data
        self.words = sorted(set(re.findall(rb"[a-z0-9_]+", self.seen.read_bytes().lower())))

    def grep(self, *filters):
        """Byte offsets of the lines that pass every filter (arguments of grep)."""
        first, *others = filters
        command = [["grep", "-ab", *first], *(["grep", "-a", *other] for other in others)]
        data, environment = self.seen.read_bytes(), {**os.environ, "LC_ALL": "C"}
        for one in command:
            data = subprocess.run(one, input=data, stdout=subprocess.PIPE, env=environment).stdout
        return [int(line.partition(b":")[0]) for line in data.split(b"\n")[:-1]]

    def search(self, *args):
        done = CliRunner().invoke(loghaul, ["search", *args], prog_name="loghaul")
        assert done.exit_code == 0, (args, done.output)
        return done.stdout_bytes

    def check(self, query, *filters):
        """Count and, where there are not too many, all hits with their places."""
        expected = self.grep(*filters)
        scope = (query, "--run", "corpus")
        query_of_stream = (f"({query}) file:*70_driver_log.txt", *scope[1:])
        assert len(expected) == int(self.search(*query_of_stream, "--count")), query
        if not 0 < len(expected) <= LISTED:
            return len(expected)
        found = self.search(*query_of_stream, "--limit", str(LISTED + 1), "-o", "ndjson")
        hits = [json.loads(line)["log.offset"] for line in found.splitlines()]
        assert expected == sorted(hits), query
        return len(expected)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def home(corpus, monkeypatch):
    monkeypatch.setenv("LOGHAUL_HOME", str(corpus.home))


def word(text):
    return ("-wi", "-e", text)


def phrase(text):
    """Words in sequence, whatever stands between them that is no word."""
    return ("-Ewi", "-e", "[^a-zA-Z0-9_]+".join(text.split()))


def test_words_of_every_frequency(corpus):
    chance = random.Random(3)
    rare = chance.sample([text for text in corpus.words if len(text) < 30], 40)
    common = ["info", "debug", "error", "request", "loss", "step", "x_ms_version", "of", "1", "0"]
    own = ["colo", "caf", "ve", "under_score", "score", "x_y", "0x1f", "done", "50", "nul"]
    counts = [
        corpus.check(text, word(text))
        for text in [*(text.decode() for text in rare), *common, *own]
    ]
    assert sum(counts) > 10_000


def test_words_longer_than_the_index_keeps(corpus):
    for text in ("w" * 100 + "ord", "x" * 300, "x" * 299, "x" * 128):
        corpus.check(text, word(text))


@pytest.mark.parametrize(
    "text",
    [
        "request url",
        "no body was",
        "out of memory",
        "10 10",
        "braces a b",
        "in the middle",
        "x end",
    ],
)
def test_phrases(corpus, text):
    corpus.check(f'"{text}"', phrase(text))


@pytest.mark.parametrize(
    ("query", "filters"),
    [
        ("request url", (word("request"), word("url"))),
        ("error -request", (word("error"), ("-wiv", "-e", "request"))),
        ("colo OR café", (("-Ei", "-e", "(^|[^a-z0-9_])(colo|café)"),)),
        ("(loss OR nan) step", (("-Ewi", "-e", "loss|nan"), word("step"))),
        ("check*", (("-Ei", "-e", "(^|[^a-z0-9_])check"),)),
        ("reque*", (("-Ei", "-e", "(^|[^a-z0-9_])reque"),)),
        ("*point*", (("-Fi", "-e", "point"),)),
        ("*ou*", (("-Fi", "-e", "ou"),)),
        ("/loss=[0-9]+\\.[0-9]+/", (("-E", "-e", "loss=[0-9]+\\.[0-9]+"),)),
        ("/step [0-9]*7 /", (("-E", "-e", "step [0-9]*7 "),)),
        ("*", (("-e", ""),)),
    ],
)
def test_the_rest_of_the_language(corpus, query, filters):
    corpus.check(query, *filters)


def test_nothing_is_found_where_there_is_nothing(corpus):
    for text in ("nosuchwordanywhere", "coloured", "colo coloured"):
        assert corpus.check(text, word(text)) == 0


def test_hits_of_one_file_come_in_its_order(corpus):
    found = corpus.search("colo ured", "--limit", "1000", "-o", "ndjson")
    places = [json.loads(line)["log.offset"] for line in found.splitlines()]
    assert len(places) == 40
    assert places == sorted(places)
