"""Cut connections under an idempotent producer: everything stored once."""

import subprocess

import pytest

from broker import ROOT

RECORDS = 100_000


@pytest.mark.timeout(240)
def test_cut_connections_leave_no_duplicate_and_no_gap(brokers):
    from confluent_kafka import Producer

    broker = brokers(shards=1)
    proxy = subprocess.Popen(
        [str(ROOT / "tests/proxy"), "--listen", "127.0.0.1:0", "--to", broker.bootstrap, "--seed", "11",
         "--reset-at", "30000", "--share", "50", "--chunk", "16384"], stdout=subprocess.PIPE, text=True)
    through = proxy.stdout.readline().split()[1]
    broker.config = f'[kafka]\nadvertise = "node"\nadvertised = "{through}"\n'
    broker.start()
    broker.create("exact", 4)
    failed = []
    settings = {"bootstrap.servers": through, "enable.idempotence": True, "linger.ms": 1,
                "batch.num.messages": 200, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50}
    # Twenty producers, each with a connection or two: a fifth of them is cut while it sends.
    producers = [Producer(settings) for _ in range(20)]
    for number in range(RECORDS):
        producer = producers[number % len(producers)]
        while True:
            try:
                producer.produce("exact", b"%d" % number, b"%d" % (number % 17),
                                 on_delivery=lambda error, _: error and failed.append(error))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert sum(one.flush(120) for one in producers) == 0
    assert not failed, failed[:3]
    proxy.terminate()
    connections, resets = [int(word) for word in proxy.stdout.read().split()[1::2]]
    proxy.wait()
    assert resets * 5 >= connections, f"{resets} of {connections}: less than a fifth was cut"
    stored = broker_values(broker)
    print(f"{connections} connections, {resets} resets, {len(stored)} stored")
    assert len(stored) == RECORDS
    assert len(set(stored)) == RECORDS


def broker_values(broker):
    """Reads by the native door: the advertised Kafka address leads through the proxy, which is gone."""
    done = broker.cli("consume", "exact", "--from", "beginning", "--no-follow")
    return [int(line) for line in done.stdout.split()]
