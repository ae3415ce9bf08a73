"""Bytes from strangers: a defined end for each, and the broker lives on."""

import os
import random
import socket
import struct

import pytest


def exchange(port, data, seconds=3):
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as one:
        try:
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            while chunk := one.recv(65536):
                got += chunk
        except OSError:
            # Reset, closed before the shutdown, or silent: each is an end the broker may choose.
            pass
    return got


def kafka(key, version, body, correlation=1):
    head = struct.pack(">hhi", key, version, correlation) + struct.pack(">h", 4) + b"evil"
    return struct.pack(">i", len(head) + len(body)) + head + body


# Frames with which a plain decoder of this protocol asks for gigabytes (counts from the wire).
BOMBS = [
    kafka(3, 12, b"\x00\xff\xff\xff\xff\x7f"),
    kafka(0, 9, b"\x00\x00\x01\x00\x00\x00\x00\xff\xff\xff\xff\x7f"),
    kafka(18, 3, b"\xff\xff\xff\xff\x7f"),
    struct.pack(">i", 0x7FFFFFFF),
    struct.pack(">i", -1),
    struct.pack(">i", 3) + b"abc",
    kafka(0, 2, b""),
    kafka(99, 0, b""),
    b"GET / HTTP/1.0\r\n\r\n",
    b"V2\x09" + b"\x00" * 125,
    b"V2\x02" + os.urandom(125),
    b"\x16\x03\x01" + b"\x00" * 64,
]


@pytest.mark.timeout(120)
def test_garbage_on_every_port_ends_its_connection_only(broker):
    ports = [broker.kafka, broker.native, broker.shard_base, broker.http]
    draw = random.Random(5)
    for port in ports:
        for bomb in BOMBS:
            exchange(port, bomb)
        for _ in range(200):
            exchange(port, draw.randbytes(draw.randrange(1, 400)))
        for bomb in BOMBS:
            exchange(port, bomb[: draw.randrange(len(bomb))])
    assert broker.process.poll() is None, broker.tail()
    broker.kcat("-P", "-t", "alive", data=b"yes\n")
    assert broker.kcat("-C", "-t", "alive", "-o", "beginning", "-e", "-q").stdout == b"yes\n"


def test_mutated_real_requests_never_stop_the_broker(broker):
    broker.kcat("-P", "-t", "mutated", data=b"seed\n")
    draw = random.Random(9)
    good = kafka(3, 1, struct.pack(">i", 1) + struct.pack(">h", 7) + b"mutated")
    for _ in range(2000):
        frame = bytearray(good)
        for _ in range(draw.randrange(1, 4)):
            frame[draw.randrange(4, len(frame))] = draw.randrange(256)
        exchange(broker.kafka, bytes(frame), 1)
    assert broker.process.poll() is None, broker.tail()
    assert broker.ready()


def test_refusals_have_kafka_s_codes(broker):
    from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

    broker.create("strict", 1, max_message_bytes=2000)
    failed = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.max.bytes": 10_000_000})
    producer.produce("strict", b"x" * 5000, on_delivery=lambda error, _: failed.append(error))
    producer.flush(10)
    assert failed[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    producer.produce("strict", b"small")
    producer.flush(10)
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "x", "auto.offset.reset": "error"})
    consumer.assign([TopicPartition("strict", 0, 5000)])
    message = consumer.poll(10)
    assert message.error().code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
    consumer.close()
    unknown = broker.cli("topic", "describe", "absent", check=False)
    assert unknown.returncode == 1 and b"absent" in unknown.stderr
