"""How the process behaves towards the kernel: few calls under load, none when idle."""

import re
import signal
import subprocess
import time

import pytest

from broker import LOADGEN


@pytest.mark.timeout(90)
def test_under_load_nearly_every_system_call_is_io_uring_enter(broker, tmp_path):
    load = subprocess.Popen(
        [str(LOADGEN), "run", "--target", f"kafka://{broker.bootstrap}", "--mode", "produce", "--size", "1000",
         "--in-flight", "64", "--rate", "max", "--duration", "8s", "--topic", "traced"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(2)
    table = tmp_path / "table"
    trace = subprocess.Popen(["strace", "-c", "-f", "-o", str(table), "-p", str(broker.process.pid)],
                             stderr=subprocess.DEVNULL)
    time.sleep(3)
    trace.send_signal(signal.SIGINT)
    trace.wait(20)
    assert load.wait(60) == 0
    calls = {}
    for row in table.read_text().splitlines():
        found = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", row)
        if found and found.group(2) != "total":
            calls[found.group(2)] = int(found.group(1))
    total = sum(calls.values())
    share = calls.get("io_uring_enter", 0) / total
    print(f"{total} calls, io_uring_enter {100 * share:.1f} %: {calls}")
    assert share >= 0.95


def switches(pid):
    total = 0
    for status in subprocess.run(["sh", "-c", f"cat /proc/{pid}/task/*/status"], capture_output=True,
                                 text=True).stdout.splitlines():
        if status.startswith("voluntary_ctxt_switches"):
            total += int(status.split()[1])
    return total


def test_an_idle_broker_sleeps(broker):
    broker.kcat("-P", "-t", "quiet", data=b"one\n")
    time.sleep(3)
    before = switches(broker.process.pid)
    time.sleep(3)
    woke = switches(broker.process.pid) - before
    print(f"{woke} wake-ups in 3 s")
    assert woke < 60
