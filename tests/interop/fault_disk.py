"""A block device whose faults are switched by the test, under a real file system: an NBD server of our own, nbdfuse, a
loop device with direct I/O. Everything is taken down again, whatever a test did."""

import os
import shutil
import socket
import struct
import subprocess
import threading
import time

from host import NotHere, run, unmount

EIO = 5
# A small ext4 has blocks of 1 KiB: what lies beside the sector may belong to another block of the file.
SECTOR = 512
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
OPERATIONS = {READ: "read", WRITE: "write", FLUSH: "flush"}
OPTION_MAGIC = 0x49484156454F5054
REPLY_MAGIC = 0x3E889045565A9
HAS_FLAGS_AND_FLUSH = 1 | 4
WAIT_SECONDS = 20


class Server(threading.Thread):
    """Serves one image file by NBD; a request is failed with EIO while its operation is switched on."""

    def __init__(self, image, path):
        super().__init__(daemon=True)
        self.image = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.image).st_size
        self.failing = set()
        # Byte ranges of the image that cannot be read.
        self.unreadable = []
        self.failed = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def close(self):
        self.listener.close()

    def serve(self, client):
        try:
            if self.negotiate(client):
                while self.one(client):
                    pass
        except (ConnectionError, OSError):
            pass
        client.close()

    def negotiate(self, client):
        client.sendall(b"NBDMAGIC" + struct.pack(">QH", OPTION_MAGIC, 3))
        receive(client, 4)
        while True:
            _, option, length = struct.unpack(">QII", receive(client, 16))
            receive(client, length)
            if option in (6, 7):  # INFO, GO
                export = struct.pack(">HQH", 0, self.size, HAS_FLAGS_AND_FLUSH)
                reply(client, option, 3, export)
                reply(client, option, 1)
                if option == 7:
                    return True
            elif option == 2:  # ABORT
                reply(client, option, 1)
                return False
            else:
                reply(client, option, (1 << 31) | 1)

    def one(self, client):
        _, _, kind, cookie, offset, length = struct.unpack(">IHHQQI", receive(client, 28))
        if kind == DISCONNECT:
            return False
        data = receive(client, length) if kind == WRITE else b""
        hit = kind == READ and any(offset < to and start < offset + length for start, to in self.unreadable)
        error = EIO if hit or OPERATIONS.get(kind) in self.failing else 0
        self.failed += error == EIO
        if error == 0:
            if kind == READ:
                data = os.pread(self.image, length, offset)
            elif kind == WRITE:
                os.pwrite(self.image, data, offset)
            elif kind != FLUSH:
                error = 22
        client.sendall(struct.pack(">IIQ", 0x67446698, error, cookie))
        if kind == READ and error == 0:
            client.sendall(data)
        return True


def receive(client, count):
    parts = []
    while count > 0:
        part = client.recv(min(count, 1 << 20))
        if not part:
            raise ConnectionError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def reply(client, option, kind, data=b""):
    client.sendall(struct.pack(">QIII", REPLY_MAGIC, option, kind, len(data)) + data)


class FaultDisk:
    """A mounted file system on a device that fails on demand."""

    def __init__(self, directory, kind, mib=320):
        missing = [tool for tool in ("nbdfuse", "fusermount3", f"mkfs.{kind}") if shutil.which(tool) is None]
        if missing:
            raise NotHere(f"NOT RUN: {', '.join(missing)} missing; tests/run setup installs them")
        self.kind = kind
        self.image, self.mount = directory / "image", directory / "mount"
        self.fuse, self.socket = directory / "device", directory / "nbd"
        self.mib = mib
        self.loop = self.nbdfuse = self.server = None
        self.mounted = False

    def __enter__(self):
        try:
            with open(self.image, "wb") as file:
                file.truncate(self.mib << 20)
            self.fuse.touch()
            self.mount.mkdir()
            self.server = Server(self.image, self.socket)
            self.server.start()
            self.nbdfuse = subprocess.Popen(["nbdfuse", str(self.fuse), "--unix", str(self.socket)])
            deadline = time.monotonic() + WAIT_SECONDS
            while self.fuse.stat().st_size == 0:
                if time.monotonic() > deadline or self.nbdfuse.poll() is not None:
                    raise NotHere("NOT RUN: nbdfuse gives no device (is /dev/fuse there?)")
                time.sleep(0.02)
            self.loop = run("losetup", "-f", "--show", "--direct-io=on", self.fuse)
            run(f"mkfs.{self.kind}", "-q", "-F" if self.kind == "ext4" else "-f", self.loop)
            self.attach()
        except BaseException:
            self.__exit__()
            raise
        return self

    def home(self, directory):
        """A broker's directory with its data on this disk and its own log elsewhere."""
        (self.mount / "data").mkdir(mode=0o700)
        directory.mkdir()
        (directory / "data").symlink_to(self.mount / "data")
        return directory

    def attach(self):
        run("mount", self.loop, self.mount)
        self.mounted = True

    def remount(self):
        """What an operator does after a device came back: a journal that was aborted stays so until then."""
        self.heal()
        unmount(self.mount)
        self.mounted = False
        self.attach()

    def fail(self, *operations):
        self.server.failing = set(operations)

    def heal(self):
        self.server.failing = set()
        self.server.unreadable = []

    def make_unreadable(self, marker):
        """The sector of the device that holds `marker` cannot be read any more."""
        run("sync", "-f", self.mount)
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
        start = places[0] // SECTOR * SECTOR
        self.server.unreadable = [(start, start + SECTOR)]

    def __exit__(self, *_):
        if self.server:
            self.heal()
        if self.mounted:
            unmount(self.mount)
        if self.loop:
            subprocess.run(["losetup", "-d", self.loop], check=False)
        if self.nbdfuse:
            subprocess.run(["fusermount3", "-u", "-z", str(self.fuse)], check=False, capture_output=True)
            try:
                self.nbdfuse.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                self.nbdfuse.kill()
                self.nbdfuse.wait()
        if self.server:
            self.server.close()
