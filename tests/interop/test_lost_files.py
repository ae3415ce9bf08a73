"""Files of the data directory that are gone: what they held is named or refused, never passed over in silence."""

import re
import shutil
import subprocess
import time

import pytest

RECORDS = 10


def filled(broker):
    broker.create("t")
    for n in range(RECORDS):
        broker.kcat("-P", "-t", "t", "-p", "0", data=b"record-%d\n" % n)
    assert broker.stop() == 0
    return broker


def named(broker):
    return [(hole["from"], hole["to"]) for hole in broker.describe("t")["partitions"][0]["quarantined"]]


def test_a_lost_partition_directory_is_named_and_gives_no_offset_twice(broker):
    directory = filled(broker).directory / "data"
    for round_, lost in enumerate(["t/1/p/0", "t"]):
        shutil.rmtree(directory / lost)
        broker.start()
        end = RECORDS + round_
        assert named(broker) == [(0, end)], broker.tail()
        assert f"offsets 0 to {end} are quarantined" in broker.tail()
        assert (directory / "t/1/p/0/partition.meta").exists()
        broker.kcat("-P", "-t", "t", "-p", "0", data=b"after-%d\n" % round_)
        read = broker.kcat("-C", "-t", "t", "-p", "0", "-o", str(end), "-c", "1", "-q", "-f", "%o %s")
        assert read.stdout == b"%d after-%d" % (end, round_)
        time.sleep(1.5)  # a checkpoint of this life
        broker.restart(kill=True)
        assert named(broker) == [(0, end)], "and every later start says the same"
        assert broker.stop() == 0


def idempotent(broker, first, count):
    from confluent_kafka import Producer

    failed = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
    for n in range(first, first + count):
        producer.produce("t", b"record-%d" % n, partition=0, on_delivery=lambda error, _: error and failed.append(error))
    assert producer.flush(20) == 0 and not failed, failed


def consumed(broker, count):
    """What a group reads on from where it was; it commits all of it."""
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "readers", "auto.offset.reset": "earliest",
                         "enable.auto.commit": False})
    consumer.subscribe(["t"])
    records = []
    deadline = time.monotonic() + 20
    while len(records) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            records.append(message.value())
    consumer.commit(asynchronous=False)
    consumer.close()
    return records


def records(first, count):
    return [b"record-%d" % n for n in range(first, first + count)]


def producer_ids(broker):
    done = broker.cli_offline("log", "inspect", str(broker.directory / "data"), "--topic", "t", "--from-offset", "0",
                              "-o", "json")
    return [int(word) for word in re.findall(rb'"producer_id": ?(\d+)', done.stdout)]


@pytest.mark.parametrize("loss", ["missing", "damaged"])
def test_a_lost_metadata_store_is_refused_and_made_anew(broker, loss):
    broker.create("t", 2, retention_ms=3_600_000)
    broker.create("other", 3)
    idempotent(broker, 0, RECORDS)
    assert consumed(broker, RECORDS) == records(0, RECORDS)
    uuid = broker.describe("t").get("topic_id")
    assert broker.stop() == 0
    data = broker.directory / "data"
    store = data / "metastore.redb"
    before = producer_ids(broker)
    if loss == "missing":
        store.unlink()
    else:
        store.write_bytes(b"\xa5" * 8192)
    logs = len(list(data.glob("t/*/p/*")))

    refused = subprocess.run(broker.command(), capture_output=True, timeout=20)
    said = refused.stdout + refused.stderr
    assert refused.returncode == 78, said
    assert b"metastore.redb" in said and b"ringway log repair" in said and b"--metadata" in said, said
    assert loss == "damaged" or b"%d logs are there" % logs in said, said

    old = store.read_bytes() if store.exists() else None
    dry = broker.cli_offline("log", "repair", str(data), "--metadata", "--dry-run")
    assert dry.returncode == 0 and b"would be made anew: 3 topics" in dry.stderr, dry.stderr
    assert (store.read_bytes() if store.exists() else None) == old
    done = broker.cli_offline("log", "repair", str(data), "--metadata")
    assert done.returncode == 0, done.stderr
    for line in (b"topic t: number 1, 2 partitions, DEFAULT settings", b"topic other: number 2, 3 partitions",
                 b"topic __consumer_offsets: number 3", b"a new cluster id", b"Retention"):
        assert line in done.stderr, done.stderr
    kept = list(data.glob("metastore.redb.damaged-*"))
    assert [one.read_bytes() for one in kept] == ([] if old is None else [old])
    again = broker.cli_offline("log", "repair", str(data), "--metadata")
    assert b"nothing to do" in again.stderr

    broker.start()
    assert broker.describe("t").get("topic_id") == uuid
    idempotent(broker, RECORDS, RECORDS)
    assert consumed(broker, RECORDS) == records(RECORDS, RECORDS), "the group goes on where it was"
    read = broker.kcat("-C", "-t", "t", "-p", "0", "-o", "beginning", "-e", "-q").stdout
    assert read.split(b"\n")[:-1] == records(0, 2 * RECORDS)
    broker.create("next")
    assert any(path.name == "4" for path in (data / "t").iterdir()), "no number is used twice"
    assert broker.stop() == 0
    assert before and max(producer_ids(broker)) > 1 << 56 > max(before), "no producer id is given twice"
    assert broker.cli_offline("log", "verify", str(data)).returncode == 0
