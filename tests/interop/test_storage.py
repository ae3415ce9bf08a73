"""Cold reads, retention, roll, page cache: what lies on the disk and comes back from it."""

import contextlib
import hashlib
import subprocess
import time

import pytest

from broker import BINARY

MIB = 1 << 20


def on_disk(broker):
    """Bytes of all segments; one may go while they are looked at."""
    total = 0
    for path in segments(broker):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def segments(broker):
    return sorted((broker.directory / "data").rglob("*.seg"))


@pytest.mark.timeout(300)
def test_a_gibibyte_comes_back_cold_with_little_memory(brokers, tmp_path):
    broker = brokers(shards=1, config='[log]\nmemory_bytes_max = "64MiB"\n').start()
    broker.create("cold", 1)
    source = tmp_path / "source"
    line = lambda n: (b"%08d " % n) + hashlib.sha256(b"%d" % n).hexdigest().encode() * 15 + b"\n"
    with open(source, "wb") as file:
        written = number = 0
        while written < 1024 * MIB:
            written += file.write(line(number))
            number += 1
    broker.cli("produce", "cold", str(source), timeout=200)
    command = [str(BINARY), "consume", "cold", "--from",
               "beginning", "--no-follow", "--server", broker.server]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE)
    read = hashlib.sha256()
    while chunk := reader.stdout.read(MIB):
        read.update(chunk)
    assert reader.wait() == 0
    assert read.hexdigest() == hashlib.sha256(source.read_bytes()).hexdigest()
    cold = broker.metric("ringway_cold_read_bytes_total")
    print(f"cold bytes {cold / (1 << 30):.2f} GiB")
    assert cold >= 0.9 * (1 << 30)
    assert page_cache_bytes(broker) < MIB


def page_cache_bytes(broker):
    files = [str(path) for path in segments(broker)]
    done = subprocess.run(["fincore", "-b", "-n", "-o", "RES", *files], capture_output=True, text=True, check=True)
    return sum(int(word) for word in done.stdout.split())


@pytest.mark.timeout(200)
def test_retention_by_size_shrinks_the_directory_and_moves_the_start(broker, tmp_path):
    broker.create("short", 1, segment_bytes=16 * MIB, retention_bytes=64 * MIB)
    source = tmp_path / "source"
    source.write_bytes(b"".join(b"%010d " % n + b"x" * 1012 + b"\n" for n in range(512 * 1024)))
    broker.cli("produce", "short", str(source), timeout=150)
    deadline = time.monotonic() + 10
    while (size := on_disk(broker)) > 128 * MIB:
        assert time.monotonic() < deadline, f"{size / MIB:.0f} MiB after 10 s"
        time.sleep(0.1)
    first = broker.kcat("-C", "-t", "short", "-p", "0", "-o", "beginning", "-c", "1", "-f", "%o %s")
    offset, number = first.stdout.split()[:2]
    print(f"{size / MIB:.0f} MiB on disk, first offset {int(offset)}")
    assert int(offset) > 0 and int(number) == int(offset)


def test_segments_roll_by_time(broker):
    broker.create("hourly", 1, segment_ms=1000)
    for n in range(3):
        broker.kcat("-P", "-t", "hourly", data=b"%d\n" % n)
        time.sleep(1.1)
    assert len(broker.describe("hourly")["partitions"][0]["segments"]) >= 2
    read = broker.kcat("-C", "-t", "hourly", "-o", "beginning", "-e", "-q").stdout
    assert read.split() == [b"0", b"1", b"2"]


def test_a_damaged_batch_is_named_and_the_others_stay_readable(broker):
    broker.create("rotten", 1)
    for n in range(3):
        broker.kcat("-P", "-t", "rotten", data=b"batch-%d " % n + b"y" * 3000 + b"\n")
    assert broker.stop() == 0
    (segment,) = [path for path in segments(broker) if path.read_bytes().find(b"batch-1") >= 0]
    with open(segment, "r+b") as file:
        at = segment.read_bytes().find(b"batch-1") + 100
        file.seek(at)
        file.write(b"Z")
    verify = broker.cli_offline("log", "verify", str(broker.directory / "data"))
    assert verify.returncode == 1 and b"offset" in verify.stdout + verify.stderr
    broker.start()
    read = broker.kcat("-C", "-t", "rotten", "-p", "0", "-o", "2", "-e", "-q").stdout
    assert read.startswith(b"batch-2")
    damaged = broker.kcat("-C", "-t", "rotten", "-p", "0", "-o", "1", "-c", "1", "-q", "-e", check=False,
                          timeout=30)
    assert b"batch-1" not in damaged.stdout
