"""Disks that fail and disks that fill up, under real file systems (R7, R8; D8, P11-P16)."""

import json
import os
import random
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from broker import LOADGEN, Broker
from fault_disk import EVER, FaultDisk, home
from host import file_system

STORAGE_ERROR = 56
MIB = 1 << 20
SEED = os.environ.get("RINGWAY_SEED", "1")
WINDOWS = 3
# Below it a p99 on a shared host says nothing about us.
P99_FLOOR_MS = 25


class Load:
    """One producer at work on one partition; every outcome with its time, in order."""

    def __init__(self, broker, topic, value_bytes=200, rate=2000):
        from confluent_kafka import Producer

        # No retries: the error itself is what is looked at. It is retriable, so clients do retry by default.
        self.producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 1, "acks": "all", "retries": 0,
                                  "message.timeout.ms": 10000, "log_level": 0, "enable.idempotence": False})
        self.topic, self.filler, self.pause = topic, b"x" * value_bytes, 20 / rate
        self.outcomes = []
        self.number = 0
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def work(self):
        while not self.ends.is_set():
            for _ in range(20):
                value = b"%08d " % self.number + self.filler
                self.number += 1
                try:
                    self.producer.produce(self.topic, value, partition=0, on_delivery=self.delivered)
                except BufferError:
                    break
            self.producer.poll(self.pause)
        self.producer.flush(10)

    def delivered(self, error, message):
        code = 0 if error is None else error.code()
        self.outcomes.append((time.monotonic(), code, message.offset(), message.value()))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join(30)

    def acknowledged(self):
        return {offset: value for _, code, offset, value in self.outcomes if code == 0}

    def wait(self, what, seconds=10):
        deadline = time.monotonic() + seconds
        while not what(self.outcomes):
            assert time.monotonic() < deadline, f"nothing of the kind in {seconds} s: {self.outcomes[-3:]}"
            time.sleep(0.005)


def readyz(broker):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{broker.http}/readyz", timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def read_all(broker, topic, timeout=60):
    done = broker.kcat("-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q", "-f", "%o %s\\n", timeout=timeout)
    rows = (row.split(b" ", 1) for row in done.stdout.splitlines())
    return {int(offset): value for offset, value in rows}


def free_bytes(mount):
    facts = os.statvfs(mount)
    return facts.f_bavail * facts.f_frsize


def missing(acknowledged, read):
    return [offset for offset, value in acknowledged.items() if read.get(offset) != value]


def faults():
    """Operation, file system, for how long it fails, and seconds of load before: each at least once, or RINGWAY_FAULTS
    random ones."""
    count = int(os.environ.get("RINGWAY_FAULTS", 0))
    if not count:
        return [("write", "ext4", "once", 0.1), ("write", "xfs", "ever", 0.1), ("flush", "ext4", "second", 0.1),
                ("flush", "xfs", "once", 0.1), ("read", "ext4", "second", 0), ("read", "xfs", "once", 0)]
    chance = random.Random(SEED)
    return [(chance.choice(["write", "flush", "read"]), chance.choice(["ext4", "xfs"]),
             chance.choice(["once", "second", "ever"]), round(chance.uniform(0, 2), 3)) for _ in range(count)]


def strike(disk, operation, how):
    """Switches a fault on; when that was."""
    disk.settle()
    struck = time.monotonic()
    disk.fail(operation, 1 if how == "once" else EVER)
    if how == "second":
        disk.heal_after(1)
    return struck


def poisoned(broker, load, struck, label):
    """What everybody sees of a log whose device failed at `struck`."""
    first = next(at for at, code, _, _ in load.outcomes if code)
    codes = {code for _, code, _, _ in load.outcomes if code}
    late = [offset for at, code, offset, _ in load.outcomes if code == 0 and at > first]
    print(f"{label}: told after {first - struck:.3f} s, {len(load.acknowledged())} acknowledged before")
    assert first - struck <= 1
    assert codes == {STORAGE_ERROR}, codes
    assert not late, "an acknowledgement after the failure"
    status, text = readyz(broker)
    assert status == 503 and "struck/0" in text, text
    assert 'ringway_log_poisoned{topic="struck",partition="0"} 1' in broker.metrics_text()
    assert "struck/0 takes nothing more" in broker.tail() and "errno" in broker.tail()
    assert not missing(load.acknowledged(), read_all(broker, "struck")), "reads go on"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("operation, kind, how, after", faults())
def test_a_failing_device_poisons_and_a_restart_heals(tmp_path, operation, kind, how, after):
    with FaultDisk(tmp_path, kind) as disk, Broker(disk.home(tmp_path / "home")) as broker:
        if operation == "read":
            reads_fail(disk, broker, how)
            return
        broker.create("beside", 1)
        broker.kcat("-P", "-t", "beside", data=b"before\n")
        broker.create("struck", 1)
        with Load(broker, "struck") as load:
            load.wait(lambda seen: len(seen) > 100)
            time.sleep(after)
            struck = strike(disk, operation, how)
            load.wait(lambda seen: any(code for _, code, _, _ in seen))
            time.sleep(1.2 if how == "second" else 0.3)
        poisoned(broker, load, struck, f"{kind} {operation} {how}")
        disk.heal()
        with Load(broker, "struck") as again:
            again.wait(lambda seen: len(seen) > 20)
        assert {code for _, code, _, _ in again.outcomes} == {STORAGE_ERROR}, "time heals nothing"
        broker.kill()
        with disk.after_power_cut(SEED) as mount, Broker(home(tmp_path / "home-after-cut", mount)) as cut:
            lost = missing(load.acknowledged(), read_all(cut, "struck"))
            assert not lost, lost[:5]
        disk.remount()
        broker.start()
        assert readyz(broker)[0] == 200
        with Load(broker, "struck") as last:
            last.wait(lambda seen: len(seen) > 100)
        assert all(code == 0 for _, code, _, _ in last.outcomes)
        assert not missing(load.acknowledged() | last.acknowledged(), read_all(broker, "struck"))
        assert broker.kcat("-C", "-t", "beside", "-p", "0", "-o", "beginning", "-e", "-q").stdout == b"before\n"
        assert broker.stop() == 0


def reads_fail(disk, broker, how):
    """Cold reads of a device that gives nothing: once is tried again, more is told, and nothing is poisoned."""
    values = {n: b"batch-%d " % n + b"%d" % n * 6000 for n in range(8)}
    broker.create("read", 1)
    for value in values.values():
        broker.kcat("-P", "-t", "read", data=value + b"\n")
    assert broker.restart()
    broker.create("struck", 1)
    with Load(broker, "struck", rate=500) as load:
        load.wait(lambda seen: len(seen) > 20)
        before = disk.failed()
        strike(disk, "read", how)
        done = broker.kcat("-C", "-t", "read", "-p", "0", "-o", "3", "-c", "1", "-q", "-e", check=False, timeout=30)
        failed = disk.failed() - before
        disk.heal()
        time.sleep(0.3)
    ranges = broker.metric("ringway_log_quarantined_ranges")
    print(f"{disk.kind} read {how}: {failed} reads failed, {len(done.stdout)} bytes served, {ranges:.0f} ranges quarantined")
    assert failed >= 1, "no read was struck"
    assert done.stdout == (values[3] + b"\n" if how == "once" else b"")
    assert (ranges == 0) == (how == "once")
    assert all(code == 0 for _, code, _, _ in load.outcomes), "writes go on"
    assert readyz(broker)[0] == 200 and broker.metric("ringway_log_poisoned_logs") == 0
    # The list is no evidence: without it, a start finds what is there now.
    assert broker.stop() == 0
    for file in (disk.mount / "data").rglob("quarantine"):
        file.unlink()
    broker.start()
    assert read_all(broker, "read") == values
    assert not missing(load.acknowledged(), read_all(broker, "struck"))
    assert broker.stop() == 0


def p99_ms(broker):
    """Of acknowledgements of a steady load, in windows: the quietest, as others share this host, and all of them."""
    found = []
    for _ in range(WINDOWS):
        command = [str(LOADGEN), "run", "--target", f"native://{broker.server}", "--mode", "produce", "--topic", "sound",
                   "--rate", "500", "--size", "200", "--warmup", "0", "--duration", "1", "--json", "-"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)
        assert report["clean"], report
        found.append(report["p99_us"] / 1000)
    return min(found), ", ".join(f"{one:.1f}" for one in found)


# A directory is one device here, and a broker has one directory: the other device is another broker's.
@pytest.mark.timeout(120)
def test_another_device_is_not_concerned(tmp_path):
    with FaultDisk(tmp_path / "a", "xfs") as disk, FaultDisk(tmp_path / "b", "xfs") as other, \
            Broker(disk.home(tmp_path / "struck")) as broker, Broker(other.home(tmp_path / "sound")) as sound:
        broker.create("struck", 1)
        sound.create("sound", 1)
        with Load(broker, "struck", rate=500) as load:
            load.wait(lambda seen: len(seen) > 20)
            before, all_before = p99_ms(sound)
            strike(disk, "flush", "ever")
            during, all_during = p99_ms(sound)
        assert STORAGE_ERROR in {code for _, code, _, _ in load.outcomes}, "the fault struck nobody"
        print(f"p99 on another device: {all_before} ms before, {all_during} ms while flushes fail")
        assert during <= max(2 * before, P99_FLOOR_MS)
        assert readyz(sound)[0] == 200


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_an_unreadable_block_costs_its_batch_and_poisons_nothing(tmp_path, kind):
    with FaultDisk(tmp_path, kind) as disk, Broker(disk.home(tmp_path / "home")) as broker:
        broker.create("worn", 1)
        for n in range(8):
            broker.kcat("-P", "-t", "worn", data=b"batch-%d " % n + b"%d" % n * 6000 + b"\n")
        assert broker.stop() == 0
        disk.make_unreadable(b"batch-3 ")
        failed_before = disk.failed()
        broker.start()
        read = {}
        for offset in (0, 1, 2, 4, 5, 6, 7):
            done = broker.kcat("-C", "-t", "worn", "-p", "0", "-o", str(offset), "-c", "1", "-q", timeout=30)
            read[offset] = done.stdout
        assert [row[:8] for row in read.values()] == [b"batch-%d " % n for n in read]
        damaged = broker.kcat("-C", "-t", "worn", "-p", "0", "-o", "3", "-c", "1", "-q", "-e", check=False, timeout=30)
        assert b"batch-3" not in damaged.stdout
        assert disk.failed() > failed_before, "the block was never asked for"
        assert broker.metric("ringway_log_quarantined_ranges") == 1
        assert readyz(broker)[0] == 200 and broker.metric("ringway_log_poisoned_logs") == 0
        broker.kcat("-P", "-t", "worn", data=b"after\n")
        assert broker.kcat("-C", "-t", "worn", "-p", "0", "-o", "8", "-c", "1", "-q").stdout == b"after\n"


def fills():
    """How space comes back: each once, or RINGWAY_FILLS random ones."""
    hows = ["deletion", "ballast", "kill"]
    count = int(os.environ.get("RINGWAY_FILLS", 0))
    return random.Random(SEED).choices(hows, k=count) if count else hows


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", fills())
def test_a_full_disk_refuses_reads_on_and_resumes(tmp_path, how):
    with file_system(tmp_path, "64M") as (mount, _), Broker(mount) as broker:
        broker.create("full", 1, segment_bytes=8 * MIB)
        broker.create("other", 1, segment_bytes=8 * MIB)
        broker.kcat("-P", "-t", "other", data=(b"o" * 9999 + b"\n") * 1000)
        if how == "ballast":
            broker.kcat("-P", "-t", "full", data=b"0 before\n")
            ballast = mount / "ballast"
            with open(ballast, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, free_bytes(mount) - 2 * MIB)
        with Load(broker, "full", value_bytes=9000, rate=4000) as load:
            load.wait(lambda seen: any(code for _, code, _, _ in seen), 60)
            free = free_bytes(mount)
            assert {code for _, code, _, _ in load.outcomes} <= {0, STORAGE_ERROR}
            assert readyz(broker)[0] == 200, "full is no poison"
            assert broker.metric("ringway_log_full_logs") >= 1
            assert len(read_all(broker, "other")) == 1000, "reads go on"
            if how != "ballast":
                assert free >= 7 * MIB, f"{free / MIB:.1f} MiB left when it refused"
            if how == "kill":
                broker.kill()
                broker.start()
            freed = time.monotonic()
            if how == "ballast":
                ballast.unlink()
            else:
                broker.cli("topic", "delete", "other")
            load.wait(lambda seen: any(at > freed and code == 0 for at, code, _, _ in seen), 10)
        resumed = next(at for at, code, _, _ in load.outcomes if at > freed and code == 0) - freed
        print(f"{how}: {free / MIB:.1f} MiB left at the refusal, resumed after {resumed:.2f} s")
        assert resumed <= 5
        lost = missing(load.acknowledged(), read_all(broker, "full"))
        assert not lost, lost[:5]
        assert broker.metric("ringway_log_poisoned_logs") == 0


@pytest.mark.timeout(60)
def test_retention_goes_on_when_the_disk_is_full(tmp_path):
    with file_system(tmp_path, "64M") as (mount, _), Broker(mount) as broker:
        broker.create("kept", 1, segment_bytes=8 * MIB, retention_bytes=8 * MIB)
        with Load(broker, "kept", value_bytes=9000, rate=4000) as load:
            load.wait(lambda seen: any(code for _, code, _, _ in seen), 40)
            refused = time.monotonic()
            load.wait(lambda seen: any(at > refused and code == 0 for at, code, _, _ in seen), 12)
        assert broker.describe("kept")["partitions"][0]["segments"]


@pytest.mark.timeout(60)
def test_a_failed_metadata_commit_is_told_and_nothing_is_tried_again(tmp_path):
    """D8 for topics: a sync of the metadata store fails once, and the ones after it would succeed."""
    with Broker(tmp_path) as broker:
        broker.create("before")
        store = tmp_path / "data" / "metastore.redb"
        said = open(tmp_path / "strace", "w+")
        # Only syncs of this file, with whatever call: one fails.
        fail = subprocess.Popen(["strace", "-f", "-P", str(store), "-e", "trace=fdatasync,fsync",
                                 "-e", "inject=fdatasync,fsync:error=EIO:when=1", "-p", str(broker.process.pid)],
                                stderr=said)
        deadline = time.monotonic() + 10
        while "attached" not in (tmp_path / "strace").read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        first = broker.cli("topic", "create", "during", "--partitions", "1", check=False)
        fail.send_signal(signal.SIGINT)
        fail.wait(20)
        trace = (tmp_path / "strace").read_text()
        assert first.returncode != 0 and b"a commit failed" in first.stderr, f"{first.stderr} {trace}"
        assert "EIO" in trace and "INJECTED" in trace, trace
        status, text = readyz(broker)
        assert status == 503 and "metadata takes no changes until a restart" in text, text
        assert broker.metric("ringway_metadata_poisoned") == 1 and broker.metric("ringway_ready") == 0
        assert broker.tail().count("metadata takes no changes until a restart") == 1
        for _ in range(2):
            again = broker.cli("topic", "create", "after", "--partitions", "1", check=False)
            assert again.returncode != 0 and b"until a restart" in again.stderr, again.stderr
        # What is there is served on.
        broker.kcat("-P", "-t", "before", data=b"one\n")
        assert broker.kcat("-C", "-t", "before", "-e", "-q").stdout == b"one\n"
        broker.restart()
        assert readyz(broker)[0] == 200 and broker.metric("ringway_metadata_poisoned") == 0
        broker.create("after")
        broker.kcat("-P", "-t", "after", data=b"two\n")


@pytest.mark.timeout(60)
def test_a_file_size_limit_refuses_and_kills_nobody(tmp_path):
    with Broker(tmp_path, wrap=["prlimit", f"--fsize={6 * MIB}"]) as broker:
        broker.create("limited", 1, segment_bytes=16 * MIB)
        with Load(broker, "limited", value_bytes=9000, rate=4000) as load:
            load.wait(lambda seen: any(code for _, code, _, _ in seen), 30)
        assert {code for _, code, _, _ in load.outcomes} == {0, STORAGE_ERROR}
        assert broker.process.poll() is None and readyz(broker)[0] == 200
        assert not missing(load.acknowledged(), read_all(broker, "limited"))
        broker.kill()
        broker.wrap = []
        broker.start()
        with Load(broker, "limited") as after:
            after.wait(lambda seen: len(seen) > 100)
        assert all(code == 0 for _, code, _, _ in after.outcomes)
        assert not missing(load.acknowledged() | after.acknowledged(), read_all(broker, "limited"))
