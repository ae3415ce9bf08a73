import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from broker import Broker  # noqa: E402


@pytest.fixture
def broker(tmp_path):
    """A started broker with one shard and default settings."""
    with Broker(tmp_path) as started:
        yield started


@pytest.fixture
def brokers(tmp_path):
    """Makes brokers with settings of their own; all are ended after the test."""
    made = []

    def make(**settings):
        one = Broker(tmp_path / str(len(made)), **settings)
        made.append(one)
        return one

    yield make
    for one in made:
        one.__exit__()
