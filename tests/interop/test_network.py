"""Networks that cut, stall and part: every answer or a closed connection, and a retry is stored once."""

import json
import os
import random
import socket
import struct
import subprocess
import time
import zlib

import pytest
from broker import ROOT, Broker
from host import Link
from kafka.record.default_records import DefaultRecordBatchBuilder
from load import Load, judge
from test_crash import Idempotent
from test_hostile import kafka

# Longer than any answer takes here; what hangs runs into it.
ANSWER_SECONDS_MAX = 10
TOPIC = b"cut"


def read(sock, count):
    got = b""
    while len(got) < count:
        chunk = sock.recv(count - len(got))
        if not chunk:
            raise ConnectionError(f"closed after {len(got)} of {count} bytes")
        got += chunk
    return got


def record_batch(producer, sequence):
    """One record with its sequence as value, of an idempotent producer."""
    producer_id, epoch = producer
    builder = DefaultRecordBatchBuilder(2, 0, False, producer_id, epoch, sequence, 1 << 16)
    builder.append(0, 1_700_000_000_000, None, b"%d" % sequence, [])
    batch = bytearray(builder.build())
    batch[12:16] = struct.pack(">i", -1)  # partitionLeaderEpoch, outside the checksum
    return bytes(batch)


class KafkaDoor:
    """ApiVersions, Metadata, Produce."""

    def __init__(self, broker, producer):
        self.port, self.producer = broker.kafka, producer

    def requests(self, sequence):
        name = struct.pack(">h", len(TOPIC)) + TOPIC
        batch = record_batch(self.producer, sequence)
        produce = (struct.pack(">hhii", -1, -1, 5000, 1) + name
                   + struct.pack(">iii", 1, 0, len(batch)) + batch)
        return kafka(18, 0, b"") + kafka(3, 1, struct.pack(">i", 1) + name) + kafka(0, 3, produce)

    @staticmethod
    def reply(sock):
        length = read(sock, 4)
        return length + read(sock, struct.unpack(">i", length)[0])

    @staticmethod
    def offset(reply):
        at = 4 + 4 + 4 + 2 + len(TOPIC) + 4 + 4
        code, offset = struct.unpack(">hq", reply[at:at + 10])
        assert code == 0, f"produce refused with {code}"
        return offset


class NativeDoor:
    """Hello, Metadata, a batch frame."""

    def __init__(self, broker, producer):
        self.port, self.producer = broker.native, producer
        self.topic_id = broker.describe(TOPIC.decode())["topic_id"]

    @staticmethod
    def envelope(name, correlation, body):
        payload = json.dumps(body).encode()
        return struct.pack(">2sBBBB2sI32s32s32s20s", b"V2", 1, 0, 0, 0, b"", len(payload), name, b"test",
                           b"broker", correlation) + payload

    def requests(self, sequence):
        batch = record_batch(self.producer, sequence)
        frame = bytearray(struct.pack("<2sBBBB2sIIQQIIIIQQ3s", b"V2", 2, 3, 0, 0, b"", 67 + len(batch), 0, 0,
                                      self.topic_id, 0, 0, 0, 0, 0, sequence, b"")) + batch
        frame[12:16] = struct.pack("<I", zlib.crc32(frame[16:128], zlib.crc32(frame[:12])))
        hello = self.envelope(b"Hello", b"1", {"version": 1, "client": "test", "compression": []})
        return hello + self.envelope(b"Metadata", b"2", {"topics": [TOPIC.decode()]}) + bytes(frame)

    @staticmethod
    def reply(sock):
        header = read(sock, 128)
        rest = struct.unpack(">I", header[8:12])[0] if header[2] == 1 else struct.unpack("<I", header[8:12])[0] - 128
        return header + read(sock, rest)

    @staticmethod
    def offset(reply):
        assert reply[2] == 2 and reply[4] == 1, f"produce refused: {reply[128:]!r}"
        return struct.unpack(">q", reply[67:75])[0]


def connect(door):
    return socket.create_connection(("127.0.0.1", door.port), timeout=ANSWER_SECONDS_MAX)


def reset(sock):
    """RST, not FIN: what is on its way to us is lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def whole(door, sequence):
    """The exchange undisturbed: the three replies."""
    with connect(door) as sock:
        sock.sendall(door.requests(sequence))
        return [door.reply(sock) for _ in range(3)]


def new_producer(broker):
    with socket.create_connection(("127.0.0.1", broker.kafka), timeout=ANSWER_SECONDS_MAX) as sock:
        sock.sendall(kafka(22, 0, struct.pack(">hi", -1, 60_000)))
        code, producer_id, epoch = struct.unpack(">hqh", KafkaDoor.reply(sock)[12:24])
        assert code == 0
        return producer_id, epoch


@pytest.mark.parametrize("dialect", [KafkaDoor, NativeDoor])
def test_reset_at_every_byte_of_three_requests_and_their_replies(broker, dialect):
    broker.create(TOPIC.decode(), 1)
    door = dialect(broker, new_producer(broker))
    replies = whole(door, 0)
    assert door.offset(replies[2]) == 0
    sequence, arrived = 1, 0
    asked, answered = len(door.requests(1)), sum(map(len, replies))
    cuts = [(sent, 0) for sent in range(1, asked + 1)] + [(None, got) for got in range(1, answered + 1)]
    for sent, got in cuts:
        with connect(door) as sock:
            sock.sendall(door.requests(sequence)[:sent])
            if got:
                read(sock, min(got, answered))
            reset(sock)
        offset = door.offset(whole(door, sequence)[2])
        assert offset == sequence, f"reset after {sent} sent, {got} read: the retry is at {offset}"
        sequence += 1
    values = broker.cli("consume", TOPIC.decode(), "--from", "beginning", "--no-follow").stdout.split()
    assert values == [b"%d" % number for number in range(sequence)]
    print(f"{asked} resets in requests, {answered} in replies, {sequence} stored once")


def test_a_fifth_of_all_chunks_late(broker):
    """Requests and replies in pieces of 4 KiB, one in five up to 200 ms late: slow, but whole and once."""
    from confluent_kafka import Producer

    proxy = subprocess.Popen(
        [str(ROOT / "tests/proxy"), "--listen", "127.0.0.1:0", "--to", broker.bootstrap, "--seed", "3",
         "--chunk", "4096", "--delay-ms", "0..200", "--late", "20"], stdout=subprocess.PIPE, text=True)
    through = proxy.stdout.readline().split()[1]
    broker.config = f'[kafka]\nadvertise = "node"\nadvertised = "{through}"\n'
    broker.restart()
    broker.create("late", 2)
    failed = []
    producer = Producer({"bootstrap.servers": through, "enable.idempotence": True, "linger.ms": 5,
                         "delivery.timeout.ms": 60_000})
    for number in range(20_000):
        producer.produce("late", b"%d" % number, on_delivery=lambda error, _: error and failed.append(error))
        producer.poll(0)
    assert producer.flush(60) == 0
    assert not failed, failed[:3]
    proxy.terminate()
    proxy.wait()
    stored = [int(line) for line in broker.cli("consume", "late", "--from", "beginning", "--no-follow").stdout.split()]
    assert sorted(stored) == list(range(20_000))


PARTITIONS_OF_THE_NETWORK = int(os.environ.get("RINGWAY_PARTITIONS", 8))
SEED = os.environ.get("RINGWAY_SEED", "1")
# A load lives so many partitions; one in so many outlasts the time limits of requests and members.
ROUND = 100
LONG_EVERY, LONG_SECONDS = 50, 12
# TCP sends what was on its way again later each time, and may meet one partition after the other: clients open new
# connections before that.
CLIENT = {"socket.timeout.ms": 5_000, "message.timeout.ms": 300_000}
HEALED_SECONDS_MAX = 30


@pytest.mark.timeout(120 + 8 * PARTITIONS_OF_THE_NETWORK)
def test_partitions_of_the_network_lose_nothing_and_double_nothing(tmp_path):
    """The broker in a network of its own; packets to it, from it or both vanish for a while, again and again."""
    rng = random.Random(SEED)
    done, totals, longest = 0, {}, 0.0
    begun = time.monotonic()
    with Link() as link, Broker(tmp_path, wrap=link.wrap, host=link.far, flags=["--allow-anonymous"]) as broker:
        broker.create("retried", 4)
        retried = Idempotent(broker, "retried", tmp_path / "retried.history", **CLIENT)
        while done < PARTITIONS_OF_THE_NETWORK:
            count = min(ROUND, PARTITIONS_OF_THE_NETWORK - done)
            spans = [LONG_SECONDS if (done + n + 1) % LONG_EVERY == 0 else rng.uniform(0.05, 1.5) for n in range(count)]
            rests = [rng.uniform(0.2, 1.0) for _ in spans]
            targets = {"kafka": broker.bootstrap, "native": broker.server}
            loads = [Load(f"{door}://{at}", f"parted-{door}-{done}", tmp_path, sum(spans) + sum(rests) + 3, drain=20).begin()
                     for door, at in targets.items()]
            for span, rest in zip(spans, rests):
                for load in loads:
                    assert load.running(), load.words()
                retried.send(20)
                time.sleep(rest)
                with link.cut(rng.choice(sorted(Link.HOOKS))):
                    with pytest.raises(TimeoutError):
                        socket.create_connection((broker.host, broker.kafka), timeout=0.02)
                    retried.send(20)
                    time.sleep(span)
            healed = time.monotonic()
            retried.flush(HEALED_SECONDS_MAX)
            longest = max(longest, time.monotonic() - healed)
            for load in loads:
                load.end()
                for name, number in judge(load.history, load.read_again()).items():
                    totals[name] = totals.get(name, 0) + number
            done += count
        once = retried.end(broker)
    took = time.monotonic() - begun
    print(f"{done} partitions of the network in {took:.0f} s, all acknowledged {longest:.1f} s after them; {totals}; "
          f"idempotent {once}")
    assert totals["acked"] > done * 100 and totals["polled"] > 1.5 * totals["acked"], totals
