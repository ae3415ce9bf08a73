"""Load with a history, and the judgement of histories."""

import re
import subprocess
import time

from broker import LOADGEN, SIM

PARTITIONS = 4


class Load:
    """Producers and consumers of `ringway-loadgen` on one door and one topic, with their history."""

    def __init__(self, target, topic, directory, seconds, mode="e2e", **options):
        self.target, self.topic = target, topic
        self.history = directory / f"{topic}.history"
        self.said = open(directory / f"{topic}.said", "w+b")
        options = {"partitions": PARTITIONS, "rate": 1500, "batch": 3, "size": 200, "in_flight": 64, "warmup": 0,
                   "duration": seconds, "drain": 4, **options}
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        self.process = subprocess.Popen([*self.command(mode, self.history), *words, "--reconnect"],
                                        stdout=self.said, stderr=self.said)

    def command(self, mode, history):
        return [str(LOADGEN), "run", "--target", self.target, "--topic", self.topic, "--mode", mode,
                "--history", str(history)]

    def begin(self):
        """Waits until the topic is there and the history open."""
        while not self.history.exists():
            assert self.running(), self.words()
            time.sleep(0.01)
        return self

    def words(self):
        self.said.seek(0)
        return self.said.read().decode()

    def running(self):
        return self.process.poll() is None

    def end(self):
        code = self.process.wait(60)
        assert code == 0, self.words()

    def read_again(self, seconds=60):
        """Everything that is on the disk, once more: what was lost only now shows here."""
        file = self.history.with_suffix(".again")
        # Its exit code calls holes in sequences lost; a kill leaves them where nothing was acknowledged.
        subprocess.run(self.command("consume", file), capture_output=True, timeout=seconds)
        return file


def judge(*histories):
    """Lost, duplicated, reordered, phantom, gaps, moved: what `ringway-sim --check` finds in client histories."""
    lines = b"".join(history.read_bytes() for history in histories)
    done = subprocess.run([str(SIM), "--check", "--whole"], input=lines, capture_output=True, timeout=120)
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, text
    return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", text)}
