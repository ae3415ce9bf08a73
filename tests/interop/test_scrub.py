"""The scrub of a real broker: damage in a closed segment that nobody reads is found, named, counted and listed."""

import json
import subprocess
import time

from broker import BINARY, Broker

RECORDS = 40
CONFIG = """
[log]
segment_bytes = "1MiB"
scrub_bytes_per_s_max = "{rate}"
"""


def line(n):
    return b"record-%02d " % n + bytes([97 + n % 26]) * 100_000


def written(directory, rate):
    """Four closed segments and an active one; stopped."""
    broker = Broker(directory, config=CONFIG.format(rate=rate)).start()
    broker.create("t")
    records = b"".join(line(n) + b"\n" for n in range(RECORDS))
    broker.kcat("-P", "-t", "t", "-p", "0", "-X", "batch.num.messages=1", data=records)
    assert broker.stop() == 0, broker.tail()
    return broker


def flip(broker, n):
    """One bit of record `n`."""
    for path in (broker.directory / "data").rglob("*.seg"):
        at = path.read_bytes().find(b"record-%02d " % n)
        if at >= 0:
            with open(path, "r+b") as file:
                file.seek(at + 5_000)
                byte = file.read(1)[0]
                file.seek(at + 5_000)
                file.write(bytes([byte ^ 4]))
            return
    raise AssertionError(f"record {n} is nowhere")


def waited(broker, name, least, seconds=30):
    deadline = time.monotonic() + seconds
    while broker.metric(name) < least:
        assert time.monotonic() < deadline, f"{name} is {broker.metric(name)}: {broker.tail()}"
        time.sleep(0.05)


def test_a_flipped_bit_that_nobody_reads_is_found_and_told(tmp_path):
    broker = written(tmp_path, "64MiB")
    flip(broker, 3)
    with broker:
        waited(broker, "ringway_log_scrub_passes_total", 1)
        assert broker.metric("ringway_log_scrub_found_total") == 1
        assert broker.metric("ringway_log_quarantined_ranges") == 1
        assert broker.metric("ringway_cold_read_bytes_total") == 0, "nobody has read"
        assert broker.metric("ringway_log_scrubbed_bytes_total") > 3 << 20
        assert "found by scrub" in broker.tail() and "offsets 3 to 4" in broker.tail()
        refused = broker.kcat("-C", "-t", "t", "-o", "3", "-c", "1", "-e", "-q", check=False)
        assert line(3) not in refused.stdout
        rows = broker.kcat("-C", "-t", "t", "-o", "4", "-c", str(RECORDS - 4), "-e", "-q").stdout
        assert rows.split(b"\n")[:-1] == [line(n) for n in range(4, RECORDS)]
        assert broker.stop() == 0, broker.tail()
    command = [str(BINARY), "log", "quarantine", str(tmp_path / "data"), "-o", "json"]
    (one,) = json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)
    assert (one["from"], one["to"], one["found_by"], one["reason"]) == (3, 4, "scrub", "payload"), one


def test_a_slow_scrub_keeps_to_its_rate(tmp_path):
    with written(tmp_path, "256KiB") as broker:
        waited(broker, "ringway_log_scrubbed_bytes_total", 1)
        begun, before = time.monotonic(), broker.metric("ringway_log_scrubbed_bytes_total")
        time.sleep(2)
        read = broker.metric("ringway_log_scrubbed_bytes_total") - before
        took = time.monotonic() - begun
        assert 0 < read <= 256 * 1024 * took + (128 << 10), f"{read} bytes in {took:.2f} s"
        assert broker.metric("ringway_log_scrub_passes_total") == 0
