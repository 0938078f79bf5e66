"""Kafka and OpenSearch for real, everything killed at random: the ledger balances.

Writers, shipper, workers, broker and OpenSearch are killed with SIGKILL, or stopped for a while,
under load in a seeded order. Afterwards every stream is compared as a whole, what a script noted as
printed is there, and search counts every line.
"""

import pytest

from engines import OpenSearch
from field import Field


@pytest.fixture
def field(tmp_path, fragile_kafka):
    made = []

    def make(seed):
        opensearch = OpenSearch(tmp_path / "opensearch", "2.19", 1)
        made.append(opensearch.kill)
        field = Field(tmp_path, fragile_kafka(1), opensearch, seed=seed)
        made.append(field.close)
        return field

    yield make
    for end in reversed(made):
        end()


def strike_and_settle(field, strikes):
    for _ in range(strikes):
        field.strike()
    field.settle()


@pytest.mark.timeout(600)
def test_the_ledger_balances_after_twenty_kills_of_everything(field):
    strike_and_settle(field(seed=1), strikes=20)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_the_ledger_balances_after_two_hundred_kills_of_everything(field, seed):
    """Fifty for each seed, so that each takes minutes."""
    strike_and_settle(field(seed), strikes=50)
