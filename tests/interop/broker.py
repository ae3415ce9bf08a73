"""A real `ringway` process on free ports and a directory of its own, for tests."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("RINGWAY_BIN", ROOT / "target/release/ringway"))
LOADGEN = Path(os.environ.get("RINGWAY_LOADGEN_BIN", ROOT / "target/release/ringway-loadgen"))
SIM = Path(os.environ.get("RINGWAY_SIM_BIN", ROOT / "target/release/ringway-sim"))
START_SECONDS_MAX = 30
FETCH_WAIT_MS = 10


def free_ports(count):
    """Consecutive free ports: a shard port each."""
    for _ in range(200):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = probe.getsockname()[1]
        if first + count > 65535:
            continue
        held = []
        try:
            for port in range(first, first + count):
                one = socket.socket()
                held.append(one)
                one.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
    raise RuntimeError("no run of free ports found")


class Broker:
    """Start, stop, kill and restart one broker on the same ports and directory."""

    def __init__(self, directory, shards=1, config="", flags=(), wrap=(), host="127.0.0.1"):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.shards = shards
        self.config = config
        self.flags = list(flags)
        self.wrap = list(wrap)
        self.host = host
        base = free_ports(11)
        self.kafka, self.native, self.http, self.shard_base = base, base + 1, base + 2, base + 3
        self.process = None

    @property
    def bootstrap(self):
        return f"{self.host}:{self.kafka}"

    @property
    def server(self):
        return f"{self.host}:{self.native}"

    def command(self):
        file = self.directory / "ringway.toml"
        file.write_text(self.config)
        return [
            *self.wrap, str(BINARY), "serve", "--config", str(file),
            "--data-dir", str(self.directory / "data"), "--shards", str(self.shards),
            "--kafka", self.bootstrap, "--kafka-shards", f"{self.host}:{self.shard_base}",
            "--native", self.server, "--http", f"{self.host}:{self.http}", *self.flags,
        ]

    def start(self):
        self.log = open(self.directory / "broker.log", "ab")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"broker ended with {self.process.returncode}: {self.tail()}")
            if self.ready():
                return self
            time.sleep(0.01)
        raise RuntimeError(f"broker not ready in {START_SECONDS_MAX} s: {self.tail()}")

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.http}/readyz", timeout=2) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def tail(self):
        return (self.directory / "broker.log").read_text(errors="replace")[-2000:]

    def stop(self, seconds=40):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self.log.close()
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def restart(self, kill=False, shards=None):
        if kill:
            self.kill()
        else:
            assert self.stop() == 0, self.tail()
        self.shards = shards or self.shards
        return self.start()

    def metrics_text(self):
        with urllib.request.urlopen(f"http://{self.host}:{self.http}/metrics", timeout=5) as reply:
            return reply.read().decode()

    def metric(self, name):
        """Sum over all label sets of one family."""
        rows = re.findall(rf"^{name}(?:{{[^}}]*}})? ([-+0-9.eE]+)$", self.metrics_text(), re.M)
        assert rows, f"no metric {name}"
        return sum(float(value) for value in rows)

    def cli(self, *arguments, data=None, check=True, timeout=120):
        command = [str(BINARY), *arguments, "--server", self.server]
        done = subprocess.run(command, input=data, capture_output=True, timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.returncode} {done.stderr.decode()} {self.tail()}")
        return done

    def cli_offline(self, *arguments, timeout=120):
        return subprocess.run([str(BINARY), *arguments], capture_output=True, timeout=timeout)

    def create(self, topic, partitions=1, **configs):
        settings = []
        for key, value in configs.items():
            settings += ["--config", f"{key.replace('_', '.')}={value}"]
        return self.cli("topic", "create", topic, "--partitions", str(partitions), *settings)

    def describe(self, topic):
        return json.loads(self.cli("topic", "describe", topic, "-o", "json").stdout)

    def kcat(self, *arguments, data=None, timeout=120, check=True):
        command = ["kcat", "-b", self.bootstrap, *arguments]
        if "-C" in arguments or "-G" in arguments:
            # It ends by an empty fetch, which the broker would hold for half a second, each time.
            command += ["-X", f"fetch.wait.max.ms={FETCH_WAIT_MS}"]
        done = subprocess.run(command, input=data, capture_output=True, timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.stderr.decode()[-1500:]} | {self.tail()}")
        return done

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.kill()
