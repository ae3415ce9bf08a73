"""What the host does to a process: pauses it, moves its clocks, keeps descriptors, memory and disk from it.

With RINGWAY_SEED set, pauses and jumps are drawn from it (`tests/soak`)."""

import contextlib
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import time

import host
import pytest

from broker import ROOT, Broker
from load import Load, judge
from test_environment import refused

HOUR_NS = 3600 * 10**9
PAUSE_SECONDS, PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 5.0, 0.1, 10.0
JUMPS_HOURS = (0, 1, -1, -24)
# Further back no record was ever stamped; the topic of the test keeps two hours.
JUMP_HOURS_MIN = -200
CHANCE = random.Random(os.environ["RINGWAY_SEED"]) if "RINGWAY_SEED" in os.environ else None


def pause_seconds():
    return CHANCE.uniform(PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX) if CHANCE else PAUSE_SECONDS


def jumps_hours():
    """Falling from the second on: a record stamped long before a later jump would rightly be removed by its age."""
    return (0, 1, *sorted(CHANCE.sample(range(JUMP_HOURS_MIN, 1), 2), reverse=True)) if CHANCE else JUMPS_HOURS


def both_doors(broker, directory, seconds, **options):
    loads = [Load(f"kafka://{broker.bootstrap}", "by-kafka", directory, seconds, **options),
             Load(f"native://{broker.server}", "by-native", directory, seconds, **options)]
    return [load.begin() for load in loads]


def ended(loads):
    """Nothing lost, twice, out of order or made up; how much was acknowledged."""
    for load in loads:
        load.end()
    found = [judge(load.history, load.read_again()) for load in loads]
    return sum(one["acked"] for one in found)


class Member:
    """A group member that counts how often it is given partitions."""

    def __init__(self, broker, topic):
        from confluent_kafka import Consumer

        self.assigned, self.read = 0, 0
        self.consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "paused", "log_level": 0,
                                  "session.timeout.ms": 3000, "heartbeat.interval.ms": 500,
                                  "auto.offset.reset": "earliest"})
        self.consumer.subscribe([topic], on_assign=self.on_assign)

    def on_assign(self, *_):
        self.assigned += 1

    def poll(self, seconds, records=float("inf")):
        """For so long, or until so many were read."""
        until = time.monotonic() + seconds
        wanted = self.read + records
        while time.monotonic() < until and self.read < wanted:
            message = self.consumer.poll(0.05)
            self.read += message is not None and message.error() is None


@pytest.mark.timeout(90)
def test_a_pause(brokers, tmp_path):
    paused = pause_seconds()
    config = '[kafka.broker]\n"group.min.session.timeout.ms" = 1000\n"group.initial.rebalance.delay.ms" = 0\n'
    broker = brokers(shards=1, config=config).start()
    loads = both_doors(broker, tmp_path, 4 + paused)
    member = Member(broker, "by-kafka")
    member.poll(2)
    before = (member.assigned, member.read)
    broker.process.send_signal(signal.SIGSTOP)
    member.poll(paused)
    broker.process.send_signal(signal.SIGCONT)
    resumed = time.monotonic()
    # A heartbeat sent before the pause may be heard before the session ends: then a client that has given its old
    # membership up joins beside it, and waits until that one expires.
    member.poll(10, records=1000)
    seconds = time.monotonic() - resumed
    member.poll(1)
    acked = ended(loads)
    rejoined = member.assigned - before[0]
    member.consumer.close()
    print(f"paused {paused:.1f} s: {acked} acknowledged, all read; a member of 3 s was given its partitions {rejoined} times more, "
          f"had read 1,000 records {seconds:.1f} s after the pause")
    assert before[0] == 1 and before[1] > 0
    assert rejoined <= 1 and seconds < 10


@pytest.fixture(scope="module")
def wall_clock(tmp_path_factory):
    library = tmp_path_factory.mktemp("clock") / "wall_clock.so"
    source = ROOT / "tests/faults/wall_clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return library


def test_the_wall_clock_jumps(brokers, tmp_path, wall_clock):
    offset = tmp_path / "offset"
    offset.write_bytes(struct.pack("=q", 0))
    broker = brokers(shards=1, wrap=["env", f"LD_PRELOAD={wall_clock}", f"WALL_CLOCK_OFFSET={offset}"]).start()
    broker.create("timed", 1, message_timestamp_type="LogAppendTime", retention_ms=2 * 3600 * 1000,
                  segment_bytes=1 << 20)
    loads = both_doors(broker, tmp_path, 4)

    def jump(ns):
        with open(offset, "r+b") as file:
            file.write(struct.pack("=q", ns))
        broker.kcat("-P", "-t", "timed", data=b"%d " % ns + b"x" * 700_000 + b"\n")
        time.sleep(0.9)

    jumps = jumps_hours()
    for hours in jumps:
        jump(hours * HOUR_NS)
    acked = ended(loads)
    assert broker.restart(kill=True)
    rows = broker.kcat("-C", "-t", "timed", "-p", "0", "-o", "beginning", "-e", "-q", "-f", "%T %s\\n").stdout
    shown = [row.split(b" ")[:2] for row in rows.splitlines()]
    now = time.time()
    print(f"{acked} acknowledged, all read; records of the jumps: "
          f"{[round((int(at) / 1000 - now) / 3600) for at, _ in shown]} h")
    # The shim works, and nothing was taken for older than it is.
    assert [round((int(at) / 1000 - now) / 3600) for at, _ in shown] == list(jumps)
    assert [int(ns) for _, ns in shown] == [hours * HOUR_NS for hours in jumps]


def test_the_monotonic_clock_of_another_boot(brokers, tmp_path):
    broker, loads = brokers(shards=1), []
    for number, seconds in enumerate((86400, 0, 3600)):
        broker.wrap = ["unshare", "--time", "--fork", "--kill-child", "--monotonic", str(seconds), "--boottime",
                       str(seconds)]
        broker.start()
        loads.append(Load(f"native://{broker.server}", f"boot-{number}", tmp_path, 1, drain=1))
        loads[-1].end()
        broker.kill()
    broker.start()
    found = [judge(load.history, load.read_again()) for load in loads]
    print(f"three boots, {sum(one['acked'] for one in found)} acknowledged, all read in the fourth")
    assert all(one["acked"] > 0 for one in found)


def test_too_few_descriptors_are_refused(tmp_path):
    broker = Broker(tmp_path / "few", wrap=["prlimit", "--nofile=256:256"])
    code, text = refused(broker.command(), seconds=2)
    assert code == 78 and "256" in text and "1024" in text


def cpu_share(pid, seconds):
    """Cores used over so many seconds."""
    def used():
        fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, begun = used(), time.monotonic()
    time.sleep(seconds)
    return (used() - before) / (time.monotonic() - begun)


@pytest.mark.timeout(90)
def test_more_clients_than_descriptors(brokers, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    broker = brokers(shards=1, wrap=["prlimit", "--nofile=1100:1100"]).start()
    load = Load(f"native://{broker.server}", "crowded", tmp_path, 8, rate=300)
    load.begin()
    time.sleep(0.5)
    alone = cpu_share(broker.process.pid, 2)
    with contextlib.ExitStack() as undo:
        clients = [undo.enter_context(socket.socket()) for _ in range(2000)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", broker.kafka))
        time.sleep(1)
        share = cpu_share(broker.process.pid, 3)
        most = broker.metric("ringway_connections")
    load.end()
    acked = judge(load.history, load.read_again())["acked"]
    said = [line for line in broker.tail().splitlines() if "connections" in line and '"warn"' in line]
    print(f"2,000 clients, {most:.0f} connected, {100 * share:.1f} % CPU ({100 * alone:.1f} % without them), {acked} acknowledged; {said}")
    assert most > 500 and acked > 2000
    assert len([line for line in said if "instead of limits.connections_max" in line]) == 1
    # A burst that was accepted at once may use up the descriptors before the limit is seen.
    full = [line for line in said if "the next ones wait" in line or "Too many open files" in line]
    assert 1 <= len(full) <= 3
    assert share - alone < 0.05
    # Room again: the next client is served.
    assert broker.kcat("-P", "-t", "crowded-after", data=b"one\n").returncode == 0


@pytest.mark.timeout(120)
def test_memory_stays_within_its_limit(brokers, tmp_path):
    limit = 512 << 20
    with host.group("memory", "memory.limit_in_bytes") as (group, unified):
        (group / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(768 << 20))
        broker = brokers(shards=1, config='[log]\nmemory_bytes_max = "512MiB"\n',
                         wrap=["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$0" "$@"']).start()
        target = f"kafka://{broker.bootstrap}"
        most = written = rounds = 0
        while written < limit:
            loads = [Load(target, f"full-{mode}-{rounds}", tmp_path, 5, mode, size=16000, batch=16, connections=8,
                          in_flight=32, rate="max") for mode in ("produce", "e2e")]
            while all(load.running() for load in loads):
                status = open(f"/proc/{broker.process.pid}/status").read()
                most = max(most, int(status.split("VmRSS:")[1].split()[0]) << 10)
                time.sleep(0.1)
            for load in loads:
                load.end()
            written, rounds = broker.metric("ringway_log_appended_bytes_total"), rounds + 1
        events = (group / ("memory.events" if unified else "memory.oom_control")).read_text()
        killed = int(events.split("oom_kill ")[1].split()[0])
        assert broker.stop() == 0
    print(f"{written / (1 << 30):.1f} GiB through 512 MiB inside 768 MiB: {most >> 20} MiB resident at most, {killed} kills")
    assert killed == 0 and most < 1.1 * limit


@pytest.mark.timeout(90)
def test_a_slow_disk_delays_and_loses_nothing(tmp_path):
    with contextlib.ExitStack() as undo:
        mount, device = undo.enter_context(host.file_system(tmp_path / "fs"))
        broker = undo.enter_context(Broker(mount))
        loads = both_doors(broker, tmp_path, 4, rate=300)
        time.sleep(0.5)
        with host.slow_writes(device, broker.process.pid, per_second=4):
            time.sleep(3)
        # Of one scrape: flushes go on between two.
        rows = [row.rsplit(" ", 1) for row in broker.metrics_text().splitlines()
                if row.startswith("ringway_flush_duration_seconds_")]
        count, spent, slow = (sum(float(value) for name, value in rows if part in name)
                              for part in ("_count", "_sum", 'le="0.5"'))
        acked = ended(loads)
        print(f"4 writes/s: {count:.0f} flushes in {spent:.1f} s, {count - slow:.0f} above 0.5 s; {acked} acknowledged, all read")
        assert count - slow > 0 and acked > 100
