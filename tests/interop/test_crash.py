"""kill -9 under load: nothing acknowledged is lost, and a successor owns its directory alone."""

import subprocess
import time

import pytest

from broker import BINARY

CYCLES = 100


@pytest.mark.timeout(300)
def test_a_hundred_kills_lose_nothing_acknowledged(brokers):
    from confluent_kafka import Producer

    broker = brokers(shards=1).start()
    broker.create("killed", 4)
    acknowledged = {}

    def delivered(error, message):
        if error is None:
            acknowledged[(message.partition(), message.offset())] = message.value()

    begun = time.monotonic()
    number = 0
    for cycle in range(CYCLES):
        # A fresh producer a cycle: what one has in flight at the kill dies with it, unacknowledged.
        producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0, "acks": "all",
                             "message.timeout.ms": 30000, "log_level": 0})
        until = time.monotonic() + 0.15
        seen = len(acknowledged)
        while time.monotonic() < until or len(acknowledged) == seen:
            for _ in range(50):
                producer.produce("killed", b"%d" % number, partition=number % 4, on_delivery=delivered)
                number += 1
            producer.poll(0.002)
        broker.kill()
        producer.poll(0)
        producer.purge()
        producer.poll(0)
        broker.start()
    took = time.monotonic() - begun
    read = {}
    for partition in range(4):
        done = broker.kcat("-C", "-t", "killed", "-p", str(partition), "-o", "beginning", "-e", "-q", "-f", "%o %s\\n")
        for row in done.stdout.splitlines():
            offset, value = row.split(b" ", 1)
            read[(partition, int(offset))] = value
    lost = [place for place, value in acknowledged.items() if read.get(place) != value]
    print(f"{CYCLES} kills in {took:.0f} s, {number} sent, {len(acknowledged)} acknowledged, {len(lost)} lost")
    assert not lost, lost[:5]
    assert len(acknowledged) > CYCLES * 50


def checksums(broker):
    files = sorted((broker.directory / "data").rglob("*.seg"))
    return {str(path): subprocess.run(["sha256sum", str(path)], capture_output=True).stdout.split()[0] for path in files}


@pytest.mark.timeout(120)
def test_a_successor_that_holds_the_lock_sees_no_late_write(brokers):
    from confluent_kafka import Producer

    broker = brokers(shards=1).start()
    broker.create("late", 96)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0, "batch.size": 60000})
    value = b"z" * 20000
    until = time.monotonic() + 2
    number = 0
    while time.monotonic() < until:
        try:
            producer.produce("late", value, partition=number % 96)
            number += 1
        except BufferError:
            pass
        producer.poll(0)
    broker.process.kill()
    # The lock's descriptor sits in the killed process's ring: who gets the lock sees a quiet directory.
    lock = next((broker.directory / "data").rglob("lock"))
    probe = subprocess.run(["flock", "--wait", "10", str(lock), "sh", "-c", "echo held"], capture_output=True)
    assert probe.stdout == b"held\n"
    before = checksums(broker)
    time.sleep(0.5)
    assert checksums(broker) == before
    broker.process.wait()
    producer.purge()
    broker.start()
    assert BINARY.exists()


@pytest.mark.timeout(120)
def test_a_full_disk_refuses_and_resumes(tmp_path):
    from broker import Broker

    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    subprocess.run(["truncate", "-s", "192M", str(image)], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    try:
        with Broker(mount) as broker:
            broker.create("full", 1, segment_bytes=8 << 20)
            broker.kcat("-P", "-t", "full", data=b"before\n")
            free = subprocess.run(["df", "--output=avail", "-B1", str(mount)], capture_output=True, text=True)
            ballast = int(free.stdout.split()[1]) - (24 << 20)
            subprocess.run(["fallocate", "-l", str(ballast), str(mount / "ballast")], check=True)
            line = b"x" * 9999 + b"\n"
            refused = broker.kcat("-P", "-t", "full", "-X", "message.timeout.ms=8000", data=line * 4000, check=False)
            assert refused.returncode != 0, "a full disk took 40 MB"
            stored = broker.kcat("-C", "-t", "full", "-o", "beginning", "-e", "-q", timeout=60).stdout
            assert stored.startswith(b"before\n"), "reads must go on"
            (mount / "ballast").unlink()
            begun = time.monotonic()
            broker.kcat("-P", "-t", "full", "-X", "message.timeout.ms=15000", data=b"after\n")
            took = time.monotonic() - begun
            print(f"resumed after {took:.1f} s")
            assert took < 6
            stored = broker.kcat("-C", "-t", "full", "-o", "beginning", "-e", "-q", timeout=60).stdout
            assert stored.endswith(b"after\n")
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
