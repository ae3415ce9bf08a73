"""Damage that reaches up to the log's end: nothing readable follows, and every reader gets past it all the same."""

import asyncio
import json
import subprocess

import pytest

from broker import BINARY

RECORDS = 200
BLOCK = 4096
NODE = '[kafka]\nadvertise = "node"\n'


def lines(first, count=RECORDS):
    return b"".join(b"%d\n" % n for n in range(first, first + count))


def segments(broker, partition):
    found = broker.directory.glob(f"data/**/t/*/p/{partition}/*.seg")
    return sorted(found, key=lambda path: path.name)


def cut_off(broker, *settings, least=0):
    """Topic `t`: partition 1 is whole, of partition 0 every byte is gone from the first batch on that begins at
    `least` or later; the offset at which that is."""
    broker.cli("topic", "create", "t", "--partitions", "2", *settings)
    for partition in (0, 1):
        for first in (0, RECORDS // 2):
            broker.kcat("-P", "-t", "t", "-p", str(partition), data=lines(1000 * partition + first, RECORDS // 2))
    assert broker.stop() == 0
    (path,) = segments(broker, 0)
    data = path.read_bytes()
    places = [at for at in range(0, len(data), BLOCK) if data[at:at + 3] == b"V2\x02"]
    bases = [int.from_bytes(data[at + 67:at + 75], "big") for at in places]
    at, lost = next((at, base) for at, base in zip(places, bases) if base >= least)
    with open(path, "r+b") as file:
        file.truncate(at)
    return lost


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


def positions_of_kafka_python(broker, group):
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=f"{group}-kp", auto_offset_reset="earliest",
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


async def positions_of_aiokafka(broker, group):
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=f"{group}-aio", auto_offset_reset="earliest",
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


def every_reader_gets_past(broker, lost, group):
    """… the offsets from `lost` on of partition 0, from before and from among them."""
    kept = lines(0, lost)
    whole = sorted((kept + lines(1000)).splitlines())
    for arguments in (("-C", "-t", "t", "-p", "0"), ("-C", "-t", "t")):
        read = broker.kcat(*arguments, "-o", "beginning", "-e", "-q", timeout=20).stdout
        assert read == kept if "-p" in arguments else sorted(read.splitlines()) == whole
    for place in ("beginning", "offset:150"):
        read = broker.cli("consume", "t", "--from", place, "--no-follow", timeout=20).stdout
        assert sorted(read.splitlines()) == (whole if place == "beginning" else lines(1150, 50).splitlines())
    assert sorted(read_by_confluent(broker, group)) == whole
    both = [RECORDS, RECORDS]
    assert positions_of_kafka_python(broker, group) == (len(whole), both, both)
    assert asyncio.run(positions_of_aiokafka(broker, group)) == (len(whole), both, both)
    assert ends(broker) == RECORDS


def goes_on_behind(broker, lost):
    """The next record is the first one readable there, for those who come and for those who wait."""
    waiting = subprocess.Popen(["kcat", "-b", broker.bootstrap, "-C", "-t", "t", "-p", "0", "-o", str(lost), "-c", "1",
                                "-q", "-u", "-f", "%o %s"], stdout=subprocess.PIPE)
    broker.kcat("-P", "-t", "t", "-p", "0", data=b"next\n")
    assert waiting.communicate(timeout=20)[0] == b"%d next" % RECORDS
    read = broker.cli("consume", "t", "-p", "0", "--from", f"offset:{lost}", "--no-follow", "-o", "json").stdout
    assert json.loads(read)["offset"] == RECORDS


@pytest.mark.parametrize("shards, config", [(1, ""), (2, NODE)])
def test_a_damaged_end_is_skipped_to_the_end(brokers, shards, config):
    broker = brokers(shards=shards, config=config).start()
    lost = cut_off(broker, "--config", "on_quarantine=skip")
    assert lost == 0
    broker.start()
    assert f"offsets 0 to {RECORDS} are quarantined" in broker.tail()
    every_reader_gets_past(broker, lost, "all")
    skipped = broker.metric("ringway_quarantine_skipped_records_total")
    # Two of kcat, one of consume, three consumers; and one from among them.
    assert skipped >= 6 * RECORDS, skipped
    goes_on_behind(broker, lost)


@pytest.mark.parametrize("shards, config", [(1, ""), (2, NODE)])
def test_offsets_that_a_repair_gave_up_at_the_end_stop_nobody(brokers, shards, config):
    broker = brokers(shards=shards, config=config).start()
    lost = cut_off(broker, least=50)
    assert 50 <= lost < 150
    command = [str(BINARY), "log", "repair", str(broker.directory / "data")]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == 0 and b"1 repaired" in done.stderr, done.stderr
    broker.start()
    for kill in (True, False):
        every_reader_gets_past(broker, lost, f"killed-{kill}")
        assert broker.describe("t")["partitions"][0]["quarantined"] == []
        broker.restart(kill=kill)
    assert broker.metric("ringway_quarantine_skipped_records_total") == 0
    assert broker.describe("t")["partitions"][0]["quarantined"] == []
    goes_on_behind(broker, lost)
