"""Cut connections under an idempotent producer: everything stored once."""

import os
import subprocess
import time

import pytest

from broker import ROOT, Broker
from host import file_system

RECORDS = 100_000
MIB = 1 << 20


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


def producer(broker, refused=None, **settings):
    """One batch per record, five of them on their way: what a refusal of the first one meets."""
    from confluent_kafka import Producer

    fatal = lambda error: error.fatal() and refused is not None and refused.append(error)  # noqa: E731
    return Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "linger.ms": 0,
                     "batch.num.messages": 1, "retry.backoff.ms": 20, "log_level": 0, "error_cb": fatal, **settings})


@pytest.mark.timeout(60)
def test_what_follows_a_batch_that_is_refused_for_good_keeps_its_order(broker):
    broker.create("limited", 1, max_message_bytes=2000)
    refused, fatal = [], []
    for round_ in range(5):
        one = producer(broker, fatal)
        for number in range(12):
            value = b"%d" % (round_ * 100 + number)
            # The first batch is too large for the topic; the others are on their way behind it.
            one.produce("limited", value.ljust(5000) if number == 0 else value,
                        on_delivery=lambda error, message: error and refused.append(int(message.value())))
        assert one.flush(20) == 0
    assert not fatal, fatal[:3]
    assert refused == [round_ * 100 for round_ in range(5)]
    stored = broker.kcat("-C", "-t", "limited", "-e", "-q").stdout.split()
    assert [int(value) for value in stored] == [n for n in range(500) if 0 < n % 100 < 12]


@pytest.mark.timeout(120)
def test_first_batches_refused_by_a_full_disk_come_first_when_there_is_room(tmp_path):
    with file_system(tmp_path, "64M") as (mount, _), Broker(mount) as broker:
        broker.create("full", 1)
        ballast = mount / "ballast"
        space = os.statvfs(mount)
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - 2 * MIB)
        filler, codes = producer(broker, **{"enable.idempotence": False, "message.timeout.ms": 1000}), []
        for _ in range(300):
            filler.produce("full", b"0" * 9000, on_delivery=lambda error, _: codes.append(error))
        filler.flush(20)
        assert any(codes), "the disk is full"
        fatal, failed = [], []
        producers = [producer(broker, fatal) for _ in range(8)]
        for number in range(40):
            for index, one in enumerate(producers):
                one.produce("full", (b"%d" % (1000 * (index + 1) + number)).ljust(9000),
                            on_delivery=lambda error, _: error and failed.append(error))
        wanted = broker.metric("ringway_produce_refused_batches_total") + 200
        deadline = time.monotonic() + 30
        while broker.metric("ringway_produce_refused_batches_total") < wanted:
            assert time.monotonic() < deadline, "the producers of unknown ids are not refused"
            [one.poll(0.01) for one in producers]
        ballast.unlink()
        assert sum(one.flush(40) for one in producers) == 0
        assert not fatal and not failed, (fatal + failed)[:3]
        values = [int(line.split()[0]) for line in
                  broker.kcat("-C", "-t", "full", "-e", "-q").stdout.splitlines() if not line.startswith(b"0")]
        for index in range(8):
            first = 1000 * (index + 1)
            own = [value for value in values if first <= value < first + 1000]
            assert own == list(range(first, first + 40)), f"producer {index}: {own}"
