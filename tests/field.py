"""The whole pipeline on one machine, to be broken: writers, shipper, workers, broker, OpenSearch.

field = Field(folder, kafka, opensearch)
field.write(10); field.strike()       # kill something, at random by the seed
field.settle()                        # everything that was accepted is there, once
"""

import os
import random
import signal
import time
import uuid

from ledger import Ledger
from loghaul import config
from loghaul_ingest.query import parse
from loghaul_ingest.search import count
from loghaul_ingest.stores import open_reader
from scripts import ROLES, Script


class Field:
    """Processes of the pipeline, and what can be done to them.

    transport, store   DSNs; default: those of the engines, direct
    scripted           whether a script under `loghaul run` is among the writers
    """

    def __init__(
        self,
        folder,
        kafka=None,
        opensearch=None,
        *,
        seed=0,
        partitions=4,
        workers=2,
        writers=3,
        transport=None,
        store=None,
        scripted=True,
    ):
        self.kafka, self.opensearch, self.random = kafka, opensearch, random.Random(seed)
        dsn = transport or kafka.dsn(partitions=partitions)
        if store is None:
            store = f"{opensearch.dsn.rpartition('/')[0]}/test-{uuid.uuid4().hex[:12]}"
            store += "?fresh_seconds=0"
        self._folder = folder
        self.settings = config.load(
            home=folder / "home", transport=dsn, store=store, group=dsn.rpartition("/")[2]
        )
        self.settings.spool.mkdir(parents=True)
        self.ledger = Ledger(self.settings)
        for _ in range(writers):
            self.ledger.scribe()
        self.scripts = []
        self._scripted = scripted
        names = ["ship", *(f"ingest-{number}" for number in range(workers))]
        self.children = {name: self._start(name) for name in names}
        if scripted:
            self.begin_script()

    def _start(self, name):
        return self.ledger.start(name.partition("-")[0])

    def begin_script(self):
        """Start a script; it is a run of its own."""
        run = f"script-{len(self.scripts)}"
        self.scripts.append(Script(self._folder, self.settings, run))

    def strike(self):
        """Kill or stop something; whatever was killed is started again."""
        chance = self.random.random()
        if chance < 0.15:
            engine = self.random.choice([self.kafka, self.opensearch])
            engine.kill()
            self.write(5)
            engine.start()
        elif chance < 0.3:
            self.freeze(self.random.choice(self.victims()), self.random.uniform(1, 5))
        elif chance < 0.5 and self._scripted:
            self.scripts[-1].kill(self.random.choice(ROLES))
            self.scripts[-1].end()
            self.begin_script()
        else:
            self.replace(self.random.choice(list(self.children)))
        self.write(self.random.randint(1, 10))

    def replace(self, name, number=signal.SIGKILL):
        """End a child by a signal, and start another in its place."""
        self.children[name].send_signal(number)
        code = self.children[name].wait(60)
        assert code in (0, -number), self.children[name].stderr.read().decode()
        self.children[name] = self._start(name)

    def victims(self):
        """Return the process ids of everything that can be stopped."""
        pids = [child.pid for child in self.children.values()]
        pids += [*self.kafka.pids(), *self.opensearch.pids()]
        return pids + (list(self.scripts[-1].pids().values()) if self.scripts else [])

    def freeze(self, pid, seconds):
        """Stop a process for a while."""
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    def write(self, rounds, pause_seconds=0.1):
        """Let every scribe write, so many times."""
        for _ in range(rounds):
            for scribe in self.ledger.scribes:
                scribe.write(50)
            time.sleep(pause_seconds)

    def settle(self, seconds=150):
        """End all writers, wait until all is stored, and compare bytes, hits and counts.

        A worker that was killed keeps its place in the group for the time of a session.
        """
        for scribe in self.ledger.scribes:
            scribe.end()
        for script in self.scripts:
            script.end()
        self.ledger.wait_until_stored(seconds)
        self.ledger.wait_until_ended()
        self.ledger.check()
        for script in self.scripts:
            script.check()
        self._count()

    def _count(self):
        reader = open_reader(self.settings.store)
        try:
            written = sum(len(s.handles) * s.lines for s in self.ledger.scribes)
            assert count(reader, parse("*"), [self.ledger.run]).total == written
            assert count(reader, parse("stdout"), [self.ledger.run]).total == written // 2
        finally:
            reader.close()

    def close(self):
        """End everything that still runs."""
        for script in self.scripts:
            script.kill(("guard", "pump", "script"))
            script.guard.wait()
        self.ledger.close()
