"""A file system on a device whose faults are switched by the test: the recorder of `tests/blockdev` below nbdfuse and a
loop device with direct I/O. Everything is taken down again, whatever a test did."""

import contextlib
import sys
import threading
from pathlib import Path

from broker import ROOT
from host import run, unmount

sys.path.insert(0, str(ROOT / "tests/blockdev"))
from recorder import EVER  # noqa: E402
from recording import Images, Trace  # noqa: E402
from stack import Mount, Recorder, needs  # noqa: E402

SWITCHES = {"write": b"W", "flush": b"F", "read": b"R"}


def home(directory, mount):
    """A broker's directory with its data on a file system and its own log elsewhere."""
    directory.mkdir(parents=True)
    (directory / "data").symlink_to(Path(mount) / "data")
    return directory


class FaultDisk:
    """A mounted file system on a device that fails on demand and remembers what it was asked."""

    # XFS makes nothing smaller than 300 MiB.
    def __init__(self, directory, kind, mib=320):
        self.directory, self.kind, self.mib = directory, kind, mib
        self.image, self.mount = directory / "image", directory / "mount"
        self.undo = contextlib.ExitStack()

    def __enter__(self):
        needs()
        self.mount.mkdir(parents=True)
        with open(self.image, "wb") as file:
            file.truncate(self.mib << 20)
        with contextlib.ExitStack() as undo:
            self.recorder = undo.enter_context(Recorder(self.directory / "recorder", self.image))
            run(f"mkfs.{self.kind}", "-q", "-F" if self.kind == "ext4" else "-f", self.recorder.device)
            self.attach()
            undo.callback(unmount, self.mount)
            undo.callback(self.heal)
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *_):
        self.undo.close()

    def home(self, directory):
        (self.mount / "data").mkdir(mode=0o700)
        return home(directory, self.mount)

    def attach(self):
        run("mount", self.recorder.device, self.mount)

    def remount(self):
        """What an operator does after a device came back: a journal that was aborted stays so until then."""
        self.heal()
        unmount(self.mount)
        self.attach()

    def fail(self, operation, count=EVER):
        """So many operations of this kind fail from now on."""
        self.recorder.tell(SWITCHES[operation], count)

    def slow(self, ms):
        """Writes and flushes are answered so much later."""
        self.recorder.tell(b"D", ms)

    def heal(self):
        self.recorder.tell(b"H")

    def heal_after(self, seconds):
        """It heals by itself, unless it is gone by then."""
        timer = threading.Timer(seconds, self.heal)
        self.undo.callback(timer.cancel)
        timer.start()

    def failed(self):
        """Requests that failed so far."""
        return self.recorder.tell(b"Q")

    def settle(self):
        """Lets the file system write what it has pending, so that the next operations are the broker's."""
        run("sync", "-f", self.mount)

    def make_unreadable(self, marker):
        """The sector of the device that holds `marker` cannot be read any more."""
        self.settle()
        places = []
        with open(self.image, "rb") as file:
            chunk, at, carry = 1 << 22, 0, b""
            while data := file.read(chunk):
                text = carry + data
                found = text.find(marker)
                while found >= 0:
                    places.append(at - len(carry) + found)
                    found = text.find(marker, found + 1)
                carry, at = text[-len(marker) + 1:], at + len(data)
        assert len(places) == 1, f"{marker} stands at {places}"
        self.recorder.tell(b"U", places[0])

    @contextlib.contextmanager
    def after_power_cut(self, seed):
        """The file system as a power cut of this moment leaves it, mounted elsewhere: what a failed flush should have
        covered is gone in part, whatever later flushes said."""
        self.recorder.tell(b"Q")
        trace = Trace(self.recorder.trace)
        image, place = self.directory / "cut", self.directory / "after-cut"
        with open(image, "wb") as file:
            file.truncate(self.mib << 20)
        images = Images(trace, image)
        images.advance(trace.events)
        images.build(image, seed, torn=True)
        with Mount(self.kind, image, place) as mounted:
            yield mounted.place
