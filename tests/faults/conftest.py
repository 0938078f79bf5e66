"""What the fault tests share."""

import pytest

from ledger import Ledger
from loghaul import config


@pytest.fixture
def ledger_on(tmp_path):
    """A function: DSN of a topic, settings -> a ledger of a home of its own."""
    made = []

    def make(dsn, **settings):
        found = config.load(home=tmp_path / "home", transport=dsn, group="test", **settings)
        found.spool.mkdir(parents=True)
        made.append(Ledger(found))
        return made[-1]

    yield make
    for ledger in made:
        ledger.close()
