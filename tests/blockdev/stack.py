"""The recorder under a real file system: recorder → nbdfuse → loop with direct I/O → ext4 or XFS. Needs root."""

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "interop")]
from host import NotHere, run, unmount  # noqa: E402
from recorder import CONTROL, exactly  # noqa: E402

START_SECONDS = 10
# xfsprogs makes nothing smaller than 300 MiB.
IMAGE_BYTES = 400 << 20
LOOP_SET_FD, LOOP_CLR_FD, LOOP_CTL_GET_FREE = 0x4C00, 0x4C01, 0x4C82
LIBC = ctypes.CDLL(None, use_errno=True)


def needs():
    """Refuses a host that cannot do it, before anything is begun."""
    if os.geteuid() != 0:
        raise NotHere("NOT RUN: needs root")
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(path):
            raise NotHere(f"NOT RUN: no {path}")
    for command in ("nbdfuse", "fusermount3", "mkfs.ext4", "mkfs.xfs", "losetup"):
        if shutil.which(command) is None:
            raise NotHere(f"NOT RUN: no {command}")


def make(kind, path):
    """An empty file system in a sparse file."""
    run("truncate", "-s", str(IMAGE_BYTES), path)
    run("mkfs.ext4", "-q", "-F", path) if kind == "ext4" else run("mkfs.xfs", "-q", "-f", path)
    run("fallocate", "--dig-holes", path)


def wait_for(what, ready):
    until = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > until:
            raise NotHere(f"NOT RUN: {what} did not come up in {START_SECONDS} s")
        time.sleep(0.01)


def end(process, seconds=10):
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tell(control, kind, value=0):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(control))
        peer.sendall(CONTROL.pack(kind, value))
        answered, failed = CONTROL.unpack(exactly(peer, CONTROL.size))
    assert answered == kind
    return failed


class Recorder:
    """A recorded loop device on an image."""

    def __init__(self, directory, image):
        self.directory = directory
        self.image, self.trace = image, directory / "trace"
        self.control = directory / "control"
        self.undo = contextlib.ExitStack()

    def __enter__(self):
        self.directory.mkdir(parents=True)
        nbd, device = self.directory / "nbd", self.directory / "device"
        device.touch()
        with contextlib.ExitStack() as undo:
            recorder = subprocess.Popen(
                [sys.executable, HERE / "recorder.py", "--image", self.image, "--trace", self.trace,
                 "--nbd", nbd, "--control", self.control])
            undo.callback(end, recorder)
            undo.callback(recorder.terminate)
            wait_for("recorder", lambda: nbd.exists() and self.control.exists())
            fuse = subprocess.Popen(["nbdfuse", device, "--unix", nbd])
            undo.callback(end, fuse)
            undo.callback(subprocess.run, ["fusermount3", "-u", device], stderr=subprocess.DEVNULL)
            wait_for("nbdfuse", lambda: device.stat().st_size > 0)
            self.device = run("losetup", "-f", "--show", "--direct-io=on", device)
            undo.callback(subprocess.run, ["losetup", "-d", self.device])
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *_):
        self.undo.close()

    def tell(self, kind, value=0):
        """A control message of `recorder.py`; how many requests have failed so far."""
        return tell(self.control, kind, value)


@contextlib.contextmanager
def mounted(device, place):
    """A mounted file system; killed processes may hold it a little longer than they live."""
    place.mkdir(exist_ok=True)
    run("mount", device, place)
    try:
        yield place
    finally:
        unmount(place)


class Mount:
    """An image mounted by system calls alone: programs would take longer than the image itself."""

    def __init__(self, kind, image, place):
        self.kind, self.image, self.place = kind, str(image), str(place)
        os.makedirs(place, exist_ok=True)

    def __enter__(self):
        with open("/dev/loop-control") as control, open(self.image, "r+b") as file:
            while True:
                number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
                self.loop = os.open(f"/dev/loop{number}", os.O_RDWR)
                try:
                    fcntl.ioctl(self.loop, LOOP_SET_FD, file.fileno())
                    break
                except OSError:
                    # Somebody else was faster.
                    os.close(self.loop)
        device = f"/dev/loop{number}".encode()
        # The original may be mounted too.
        options = b"nouuid" if self.kind == "xfs" else b""
        if LIBC.mount(device, self.place.encode(), self.kind.encode(), 0, options) != 0:
            errno = ctypes.get_errno()
            self._detach()
            raise OSError(errno, f"mount: {os.strerror(errno)}")
        return self

    def __exit__(self, *_):
        if LIBC.umount2(self.place.encode(), 0) != 0:
            unmount(self.place)
        self._detach()

    def _detach(self):
        fcntl.ioctl(self.loop, LOOP_CLR_FD)
        os.close(self.loop)


def copy(source, target):
    """Copies a sparse file, its data alone."""
    from_fd = os.open(source, os.O_RDONLY)
    to_fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        size = os.fstat(from_fd).st_size
        os.ftruncate(to_fd, size)
        at = 0
        while at < size:
            try:
                at = os.lseek(from_fd, at, os.SEEK_DATA)
            except OSError:
                break
            stop = os.lseek(from_fd, at, os.SEEK_HOLE)
            os.lseek(to_fd, at, os.SEEK_SET)
            while at < stop:
                at += os.sendfile(to_fd, from_fd, at, stop - at)
    finally:
        os.close(from_fd)
        os.close(to_fd)
