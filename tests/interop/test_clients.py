"""Stock Python clients with their defaults: produce 100k, consume 100k by subscribe, in order."""

import asyncio
import collections

import pytest

RECORDS = 100_000
PARTITIONS = 4


def check(read):
    """read: (partition, key, value) in order of arrival."""
    assert len(read) == RECORDS
    last = collections.defaultdict(lambda: -1)
    for _, key, value in read:
        number = int(value)
        assert number > last[key], f"key {key}: {number} after {last[key]}"
        last[key] = number
    assert {int(value) for _, _, value in read} == set(range(RECORDS))


def key_of(number):
    return b"key-%d" % (number % 31)


@pytest.mark.timeout(180)
def test_confluent_kafka(broker):
    from confluent_kafka import Consumer, Producer

    broker.create("confluent", PARTITIONS)
    failed = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
    for number in range(RECORDS):
        while True:
            try:
                producer.produce("confluent", b"%d" % number, key_of(number),
                                 on_delivery=lambda error, _: error and failed.append(error))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert not failed, failed[:3]
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "confluent-readers",
                         "auto.offset.reset": "earliest"})
    consumer.subscribe(["confluent"])
    read = []
    while len(read) < RECORDS:
        batch = consumer.consume(5000, 20)
        assert batch, f"only {len(read)} records came"
        for message in batch:
            assert message.error() is None, message.error()
            read.append((message.partition(), message.key(), message.value()))
    consumer.close()
    check(read)


@pytest.mark.timeout(180)
def test_kafka_python(broker):
    from kafka import KafkaConsumer, KafkaProducer

    broker.create("kafka-python", PARTITIONS)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    sent = [producer.send("kafka-python", value=b"%d" % n, key=key_of(n)) for n in range(RECORDS)]
    producer.flush(60)
    assert all(one.succeeded() for one in sent)
    producer.close()
    consumer = KafkaConsumer("kafka-python", bootstrap_servers=broker.bootstrap, group_id="kp-readers",
                             auto_offset_reset="earliest", consumer_timeout_ms=20000)
    read = []
    for record in consumer:
        read.append((record.partition, record.key, record.value))
        if len(read) == RECORDS:
            break
    consumer.close()
    check(read)


@pytest.mark.timeout(180)
def test_aiokafka(broker):
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    broker.create("aiokafka", PARTITIONS)

    async def run():
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, enable_idempotence=True)
        await producer.start()
        pending = []
        for number in range(RECORDS):
            pending.append(await producer.send("aiokafka", b"%d" % number, key_of(number)))
            if len(pending) == 5000:
                await asyncio.gather(*pending)
                pending.clear()
        await asyncio.gather(*pending)
        await producer.stop()
        consumer = AIOKafkaConsumer("aiokafka", bootstrap_servers=broker.bootstrap, group_id="aio-readers",
                                    auto_offset_reset="earliest")
        await consumer.start()
        read = []
        while len(read) < RECORDS:
            batches = await asyncio.wait_for(consumer.getmany(timeout_ms=20000), 30)
            assert batches, f"only {len(read)} records came"
            for records in batches.values():
                read += [(one.partition, one.key, one.value) for one in records]
        await consumer.stop()
        return read

    check(asyncio.run(run()))


@pytest.mark.timeout(120)
def test_group_offsets_survive_a_kill(broker):
    from confluent_kafka import Consumer, TopicPartition

    broker.create("committed", 1)
    broker.kcat("-P", "-t", "committed", data=b"".join(b"%d\n" % n for n in range(100)))
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": "survivors",
                "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer(settings)
    consumer.subscribe(["committed"])
    read = []
    while len(read) < 60:
        read += consumer.consume(60 - len(read), 20)
    consumer.commit(offsets=[TopicPartition("committed", 0, 60)], asynchronous=False)
    broker.restart(kill=True)
    consumer.close()
    again = Consumer(settings)
    again.subscribe(["committed"])
    message = again.poll(30)
    assert message is not None and message.error() is None
    assert message.offset() == 60
    again.close()
