"""Kafka and OpenSearch for real, everything killed at random: the ledger balances.

Shipper, workers, broker and OpenSearch are killed with SIGKILL, or stopped for a while, under load
in a seeded order. Afterwards every stream is compared as a whole, and search counts every line.
"""

import os
import random
import signal
import time

import pytest

from engines import exported, services
from ledger import Ledger
from loghaul import config
from loghaul_ingest.query import parse
from loghaul_ingest.search import count
from loghaul_ingest.stores import open_reader


class OpenSearch:
    """A node of its own, to be killed."""

    def __init__(self, home):
        self.home = home
        self.start()

    def start(self):
        arguments = ["start", "opensearch", "--home", self.home, "--heap", "512m"]
        self.store = exported(services(*arguments), "LOGHAUL_STORE")

    def kill(self):
        services("kill", "opensearch", "--home", self.home)

    def pids(self):
        return [int(file.read_text()) for file in self.home.glob("opensearch-*/pid")]


class Field:
    """The whole pipeline on one machine, and what can be done to it."""

    def __init__(self, ledger, kafka, opensearch, seed):
        self.ledger, self.random = ledger, random.Random(seed)
        self.engines = [kafka, opensearch]
        self.children = {name: self._start(name) for name in ("ship", "ingest", "ingest-2")}

    def _start(self, name):
        return self.ledger.start(name.partition("-")[0])

    def strike(self):
        """Kill or stop something; whatever was killed is started again."""
        if self.random.random() < 0.15:
            engine = self.random.choice(self.engines)
            engine.kill()
            self.write(5)
            engine.start()
        elif self.random.random() < 0.2:
            self._freeze(self.random.uniform(1, 5))
        else:
            name = self.random.choice(list(self.children))
            self.children[name].kill()
            self.children[name].wait()
            self.children[name] = self._start(name)
        self.write(self.random.randint(1, 10))

    def _freeze(self, seconds):
        pids = [child.pid for child in self.children.values()]
        pids += [pid for engine in self.engines for pid in engine.pids()]
        pid = self.random.choice(pids)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    def write(self, rounds):
        for _ in range(rounds):
            for scribe in self.ledger.scribes:
                scribe.write(50)
            time.sleep(0.1)


@pytest.fixture
def field(tmp_path, fragile_kafka):
    made = []

    def make(seed, writers=3):
        kafka = fragile_kafka(1)
        opensearch = OpenSearch(tmp_path / "opensearch")
        made.append(opensearch)
        dsn, store = kafka.dsn(partitions=4), f"{opensearch.store}?fresh_seconds=0"
        settings = config.load(home=tmp_path / "home", transport=dsn, store=store, group="killed")
        settings.spool.mkdir(parents=True)
        ledger = Ledger(settings)
        made.append(ledger)
        for _ in range(writers):
            ledger.scribe()
        return Field(ledger, kafka, opensearch, seed)

    yield make
    for one in made:
        one.close() if isinstance(one, Ledger) else one.kill()


@pytest.mark.timeout(600)
def test_the_ledger_balances_after_twenty_kills_of_everything(field):
    strike_and_check(field(seed=1), strikes=20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_ledger_balances_after_two_hundred_kills_of_everything(field):
    strike_and_check(field(seed=2), strikes=200)


def strike_and_check(field, strikes):
    for _ in range(strikes):
        field.strike()
    for scribe in field.ledger.scribes:
        scribe.end()
    # A worker that was killed keeps its place in the group for the time of a session.
    field.ledger.wait_until_stored(150)
    field.ledger.wait_until_ended()
    field.ledger.check()
    reader = open_reader(field.ledger.settings.store)
    try:
        written = sum(len(s.handles) * s.lines for s in field.ledger.scribes)
        assert count(reader, parse("*"), [field.ledger.run]).total == written
        assert count(reader, parse("stdout"), [field.ledger.run]).total == written // 2
    finally:
        reader.close()
