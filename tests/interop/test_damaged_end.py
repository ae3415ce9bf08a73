"""Damage that reaches up to the log's end: nothing readable follows, and every reader gets past it all the same."""

import asyncio
import json
import subprocess

import pytest

RECORDS = 200
NODE = '[kafka]\nadvertise = "node"\n'


def lines(first, count=RECORDS):
    return b"".join(b"%d\n" % n for n in range(first, first + count))


def segments(broker, partition):
    found = broker.directory.glob(f"data/**/t/*/p/{partition}/*.seg")
    return sorted(found, key=lambda path: path.name)


def cut_off(broker, *settings):
    """Topic `t`: of partition 0 every byte is gone, partition 1 is whole."""
    broker.cli("topic", "create", "t", "--partitions", "2", *settings)
    for partition in (0, 1):
        broker.kcat("-P", "-t", "t", "-p", str(partition), data=lines(1000 * partition))
    assert broker.stop() == 0
    for path in segments(broker, 0):
        with open(path, "r+b") as file:
            file.truncate(0)
    broker.start()


def ends(broker):
    told = broker.kcat("-Q", "-t", "t:0:-1").stdout.decode()
    return int(told.rsplit("offset", 1)[1])


def read_by_confluent(broker, group):
    """All values up to the end of both partitions."""
    from confluent_kafka import Consumer, KafkaError

    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "enable.partition.eof": True})
    consumer.subscribe(["t"])
    values, ended = [], set()
    while len(ended) < 2:
        message = consumer.poll(20)
        assert message is not None, f"{len(values)} records, ends of {ended}"
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            ended.add(message.partition())
        else:
            values.append(message.value())
    consumer.close()
    return values


def positions_of_kafka_python(broker):
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id="kp", auto_offset_reset="earliest",
                             enable_auto_commit=False)
    both = [TopicPartition("t", partition) for partition in (0, 1)]
    consumer.assign(both)
    read = 0
    for _ in range(200):
        read += sum(map(len, consumer.poll(timeout_ms=100).values()))
        if [consumer.position(one) for one in both] == [RECORDS, RECORDS]:
            break
    consumer.commit()
    at = [consumer.position(one) for one in both], [consumer.committed(one) for one in both]
    consumer.close()
    return read, *at


async def positions_of_aiokafka(broker):
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, group_id="aio", auto_offset_reset="earliest",
                                enable_auto_commit=False)
    await consumer.start()
    both = [TopicPartition("t", partition) for partition in (0, 1)]
    consumer.assign(both)
    read = 0
    for _ in range(200):
        read += sum(map(len, (await consumer.getmany(timeout_ms=100)).values()))
        if [await consumer.position(one) for one in both] == [RECORDS, RECORDS]:
            break
    await consumer.commit()
    at = [await consumer.position(one) for one in both], [await consumer.committed(one) for one in both]
    await consumer.stop()
    return read, *at


def every_reader_gets_past(broker):
    whole = lines(1000)
    for arguments in (("-C", "-t", "t", "-p", "0"), ("-C", "-t", "t")):
        read = broker.kcat(*arguments, "-o", "beginning", "-e", "-q", timeout=20).stdout
        assert read == (b"" if "-p" in arguments else whole)
    for place in ("beginning", "offset:100"):
        read = broker.cli("consume", "t", "--from", place, "--no-follow", timeout=20).stdout
        assert read == (whole if place == "beginning" else lines(1100, 100))
    assert b"\n".join(read_by_confluent(broker, "confluent")) + b"\n" == whole
    both = [RECORDS, RECORDS]
    assert positions_of_kafka_python(broker) == (RECORDS, both, both)
    assert asyncio.run(positions_of_aiokafka(broker)) == (RECORDS, both, both)
    assert ends(broker) == RECORDS


def goes_on_behind(broker):
    """The next record is the first one readable, for those who come and for those who wait."""
    waiting = subprocess.Popen(["kcat", "-b", broker.bootstrap, "-C", "-t", "t", "-p", "0", "-o", "beginning", "-c", "1",
                                "-q", "-u", "-f", "%o %s"], stdout=subprocess.PIPE)
    broker.kcat("-P", "-t", "t", "-p", "0", data=b"next\n")
    assert waiting.communicate(timeout=20)[0] == b"%d next" % RECORDS
    read = broker.cli("consume", "t", "-p", "0", "--from", "beginning", "--no-follow", "-o", "json").stdout
    assert json.loads(read)["offset"] == RECORDS


@pytest.mark.parametrize("shards, config", [(1, ""), (2, NODE)])
def test_a_damaged_end_is_skipped_to_the_end(brokers, shards, config):
    broker = brokers(shards=shards, config=config).start()
    cut_off(broker, "--config", "on_quarantine=skip")
    assert f"offsets 0 to {RECORDS} are quarantined" in broker.tail()
    every_reader_gets_past(broker)
    skipped = broker.metric("ringway_quarantine_skipped_records_total")
    # Two of kcat, consume from 0 and from 100, three consumers.
    assert skipped >= 5 * RECORDS, skipped
    goes_on_behind(broker)
