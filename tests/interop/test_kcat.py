"""Debian's kcat: every codec, identical bytes through kill, restart and another shard count."""

import hashlib
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

LINES = 1_000_000
PARTITIONS = 8
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ATTRIBUTE_CODEC = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def partition_bytes(broker, topic, partition):
    done = broker.kcat("-C", "-t", topic, "-p", str(partition), "-o", "beginning", "-e", "-q")
    return done.stdout


def all_bytes(broker, topic):
    """By partition; two readers at a time."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda partition: partition_bytes(broker, topic, partition), range(PARTITIONS)))


def hashes(parts):
    return [hashlib.sha256(part).hexdigest() for part in parts]


@pytest.mark.timeout(400)
def test_a_million_lines_come_back_identical_through_kill_restart_and_shard_changes(brokers, tmp_path):
    source = tmp_path / "lines"
    with open(source, "w") as file:
        file.writelines(f"{n:07d} metric host-{n % 97} value={n * 7919 % 100003}\n" for n in range(LINES))
    sent = source.read_bytes().splitlines()
    broker = brokers(shards=1).start()
    expected = {}
    for codec in CODECS:
        topic = f"lines-{codec}"
        broker.create(topic, PARTITIONS)
        broker.kcat("-P", "-t", topic, "-z", codec, "-l", str(source), timeout=200)
        parts = all_bytes(broker, topic)
        lines = [part.splitlines() for part in parts]
        assert sum(map(len, lines)) == LINES
        assert all(part == sorted(part) for part in lines), "order inside a partition is lost"
        assert sorted(line for part in lines for line in part) == sent
        expected[codec] = hashes(parts)
    states = [("kill -9", True, 1), ("clean restart", False, 1), ("two shards", False, 2), ("one shard", True, 1)]
    for name, kill, shards in states:
        broker.restart(kill=kill, shards=shards)
        for codec in CODECS:
            assert hashes(all_bytes(broker, f"lines-{codec}")) == expected[codec], f"{codec} after {name}"
        print(f"{name}: {len(CODECS)} codecs × {PARTITIONS} partitions identical")


@pytest.mark.parametrize("codec", CODECS)
def test_the_codec_asked_for_is_the_codec_stored(broker, codec):
    broker.create("codec", 1)
    broker.kcat("-P", "-t", "codec", "-z", codec, data=b"a line that repeats\n" * 1000)
    segments = list(broker.directory.glob("data/t/*/p/0/*.seg")) + list(
        broker.directory.glob("data/*/t/*/p/0/*.seg"))
    stored = set()
    for segment in segments:
        text = segment.read_bytes()
        for match in re.finditer(rb"V2\x02", text):
            header = text[match.start():match.start() + 128]
            if len(header) == 128 and header[83] == 2:
                stored.add(int.from_bytes(header[88:90], "big") & 7)
    assert stored == {ATTRIBUTE_CODEC[codec]}


def test_a_group_of_kcat_continues_where_it_committed(broker):
    broker.create("grouped", 2)
    broker.kcat("-P", "-t", "grouped", data=b"".join(b"%d\n" % n for n in range(1000)))
    first = broker.kcat("-G", "readers", "-e", "-q", "grouped", "-X", "auto.offset.reset=earliest", timeout=60)
    assert sorted(map(int, first.stdout.split())) == list(range(1000))
    broker.kcat("-P", "-t", "grouped", data=b"".join(b"%d\n" % n for n in range(1000, 1100)))
    second = broker.kcat("-G", "readers", "-e", "-q", "grouped", "-X", "auto.offset.reset=earliest", timeout=60)
    assert sorted(map(int, second.stdout.split())) == list(range(1000, 1100))


def test_headers_keys_and_time_queries(broker):
    broker.create("shaped", 1)
    broker.kcat("-P", "-t", "shaped", "-K", ":", "-H", "a=1", "-H", "a=2", data=b"k:v\n")
    done = broker.kcat("-C", "-t", "shaped", "-o", "beginning", "-e", "-q", "-f", "%k|%s|%h|%T\\n")
    key, value, headers, stamp = done.stdout.decode().strip().split("|")
    assert (key, value, headers) == ("k", "v", "a=1,a=2")
    broker.kcat("-P", "-t", "shaped", data=b"later\n")
    found = broker.kcat("-Q", "-t", f"shaped:0:{stamp}").stdout.decode()
    assert "offset 0" in found, found


def test_two_shards_are_two_brokers_and_nothing_is_foreign(brokers):
    broker = brokers(shards=2).start()
    broker.create("spread", 8)
    broker.kcat("-P", "-t", "spread", data=b"".join(b"%d\n" % n for n in range(20000)))
    assert len(broker.kcat("-C", "-t", "spread", "-o", "beginning", "-e", "-q").stdout.split()) == 20000
    assert "2 brokers:" in broker.kcat("-L").stdout.decode()
    assert broker.metric("ringway_kafka_foreign_requests_total") == 0
    pid = broker.process.pid
    names = subprocess.run(["sh", "-c", f"grep -H . /proc/{pid}/task/*/comm"], capture_output=True, text=True).stdout
    shards = re.findall(r"task/(\d+)/comm:shard-(\d+)$", names, re.M)
    # The executor's helper threads inherit the name; they may not roam either.
    assert {number for _, number in shards} == {"0", "1"}, names
    for task, _ in shards:
        status = open(f"/proc/{pid}/task/{task}/status").read()
        allowed = re.search(r"Cpus_allowed_list:\s*(\S+)", status).group(1)
        assert re.fullmatch(r"\d+", allowed), f"shard thread may run on {allowed}"


def test_node_mode_hides_the_shards_and_serves_the_same_bytes(brokers):
    broker = brokers(shards=2, config='[kafka]\nadvertise = "node"\n').start()
    broker.create("hidden", 8)
    lines = b"".join(b"%d\n" % n for n in range(20000))
    broker.kcat("-P", "-t", "hidden", data=lines)
    read = broker.kcat("-C", "-t", "hidden", "-o", "beginning", "-e", "-q").stdout
    assert sorted(read.splitlines()) == sorted(lines.splitlines())
    assert "1 brokers:" in broker.kcat("-L").stdout.decode()
    assert broker.metric("ringway_kafka_foreign_requests_total") > 0
