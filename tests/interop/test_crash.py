"""kill -9 under load: nothing acknowledged is lost, and a successor owns its directory alone."""

import contextlib
import fcntl
import hashlib
import json
import os
import random
import time
from pathlib import Path

import host
import pytest

from broker import Broker
from load import PARTITIONS, Load, judge

CYCLES = int(os.environ.get("RINGWAY_KILLS", 100))
SEED = os.environ.get("RINGWAY_SEED", "1")
# One load lives as long as a round, whose end waits for stragglers: few of them, and none longer than its kills need.
ROUND_SECONDS_MAX = 40
KILL_SECONDS = 0.3


def everything(broker, topic):
    """All records of a topic, by partition and offset."""
    done = broker.kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%p %o %s\\n")
    rows = (row.split(b" ", 2) for row in done.stdout.splitlines())
    return {(int(partition), int(offset)): value for partition, offset, value in rows}


class Idempotent:
    """A librdkafka producer that lives through every kill and sends again what was not acknowledged."""

    def __init__(self, broker, topic, file, **settings):
        from confluent_kafka import Producer

        self.topic, self.file, self.number, self.failed = topic, open(file, "w"), 0, []
        self.producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "linger.ms": 1,
                                  "message.timeout.ms": 60000, "retry.backoff.ms": 50, "log_level": 0,
                                  "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, **settings})

    def tell(self, op, partition, number, offset):
        row = {"op": op, "topic": self.topic, "partition": partition, "producer": 0, "seq": number,
               "offset": offset, "t_us": 0}
        self.file.write(json.dumps(row) + "\n")

    def send(self, count):
        for _ in range(count):
            number, partition = self.number, self.number % PARTITIONS
            self.tell("send", partition, number, -1)

            def delivered(error, message, number=number, partition=partition):
                if error is None:
                    self.tell("ack", partition, number, message.offset())
                else:
                    self.failed.append(str(error))

            self.producer.produce(self.topic, b"%d" % number, partition=partition, on_delivery=delivered)
            self.number += 1
        self.producer.poll(0)

    def flush(self, seconds):
        """Waits for every acknowledgement."""
        left = self.producer.flush(seconds)
        assert left == 0 and not self.failed, f"{left} not acknowledged after {seconds} s, {self.failed[:3]}"

    def end(self, broker):
        """Waits for every acknowledgement, reads all of it back, and judges."""
        self.flush(60)
        for (partition, offset), number in everything(broker, self.topic).items():
            self.tell("poll", partition, int(number), offset)
        self.file.close()
        found = judge(Path(self.file.name))
        assert found["acked"] == found["polled"] == self.number, found
        return found


@pytest.mark.timeout(200 + CYCLES)
def test_a_hundred_kills_lose_nothing_acknowledged(brokers, tmp_path):
    random.seed(SEED)
    broker = brokers(shards=1).start()
    broker.create("retried", PARTITIONS)
    retried = Idempotent(broker, "retried", tmp_path / "retried.history")
    loads, kills, longest, each = [], 0, 0, KILL_SECONDS
    begun = time.monotonic()
    while kills < CYCLES:
        seconds = min(ROUND_SECONDS_MAX, (CYCLES - kills) * each + 1)
        targets = {"kafka": broker.bootstrap, "native": broker.server}
        live = [Load(f"{door}://{at}", f"killed-{door}-{len(loads)}", tmp_path, seconds)
                for door, at in targets.items()]
        loads += live
        for load in live:
            load.begin()
        round_begun, kills_before = time.monotonic(), kills
        while time.monotonic() < round_begun + seconds and kills < CYCLES:
            for load in live:
                assert load.running(), load.words()
            retried.send(20)
            time.sleep(random.uniform(0.02, 0.2))
            broker.kill()
            restarted = time.monotonic()
            broker.start()
            longest = max(longest, time.monotonic() - restarted)
            kills += 1
        each = (time.monotonic() - round_begun) / (kills - kills_before)
        for load in live:
            load.end()
    took = time.monotonic() - begun
    found = [judge(load.history, load.read_again()) for load in loads]
    once = retried.end(broker)
    total = {name: sum(one[name] for one in found) for name in found[0]}
    print(f"{kills} kills in {took:.0f} s, longest start {longest:.2f} s; {total}; idempotent {once}")
    assert total["acked"] > kills * 100 and total["polled"] > 1.5 * total["acked"]


def checksums(broker):
    files = sorted((broker.directory / "data").rglob("*.seg"))
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in files}


WRITES_IN_FLIGHT_MIN = 64


@pytest.mark.timeout(120)
def test_a_successor_that_holds_the_lock_sees_no_late_write(tmp_path):
    from confluent_kafka import Producer

    with contextlib.ExitStack() as undo:
        mount, device = undo.enter_context(host.file_system(tmp_path))
        broker = undo.enter_context(Broker(mount))
        broker.create("late", 96, segment_bytes=1 << 20)
        undo.enter_context(host.slow_writes(device, broker.process.pid, per_second=80))
        acknowledged = {}

        def delivered(error, message):
            if error is None:
                acknowledged[(message.partition(), message.offset())] = message.value()

        producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0, "batch.size": 30000, "log_level": 0})
        number, in_flight = 0, 0
        until = time.monotonic() + 20
        while in_flight < WRITES_IN_FLIGHT_MIN or not acknowledged:
            assert time.monotonic() < until, f"{in_flight} writes in flight at most"
            for _ in range(96):
                producer.produce("late", b"%08d" % number * 1000, partition=number % 96, on_delivery=delivered)
                number += 1
            producer.poll(0.02)
            in_flight = broker.metric("ringway_disk_in_flight")
        killed = time.monotonic()
        broker.process.kill()
        at_kill = checksums(broker)
        # The lock's descriptor sits in the killed process's ring: who gets the lock sees a quiet directory.
        lock = next((broker.directory / "data").rglob("lock"))
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            waited = time.monotonic() - killed
            before = checksums(broker)
            time.sleep(0.5)
            after = checksums(broker)
        late = sum(before[path] != digest for path, digest in at_kill.items())
        print(f"{in_flight:.0f} writes in flight at the kill, lock after {waited:.2f} s, {late} segments changed before it, "
              f"{sum(before[path] != after[path] for path in before)} after it")
        assert late > 0, "no write was late: the test proves nothing"
        assert after == before
        broker.process.wait()
        producer.poll(0)
        producer.purge()
        broker.start()
        read = everything(broker, "late")
        assert all(read.get(place) == value for place, value in acknowledged.items())
