#!/usr/bin/env python3
"""A disk that remembers: serves an image by the NBD protocol and records what is asked of it (`recording.py`).

    recorder.py --image FILE --trace FILE --nbd SOCKET --control SOCKET

On the control socket, kind byte and u64 LE: `M n` a mark, not answered; answered by the same kind and how many requests
have failed so far: `W n`, `F n`, `R n` fail the next n writes, flushes, reads with EIO (0 = none any more, 2**64-1 =
all), `U n` the sector at byte n cannot be read, `D n` answer writes and flushes n ms late, `H` heal all of this, `Q` the
trace is on disk. Ends when the NBD client is gone or on SIGTERM.
"""

import argparse
import errno
import os
import selectors
import signal
import socket
import struct
import sys
import time

from recording import HEAD, SECTOR

MAGIC, OPTION, REPLY = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
EXPORT_NAME, ABORT, LIST, INFO, GO = 1, 2, 3, 6, 7
ACK, INFO_REPLY, UNSUPPORTED = 1, 3, (1 << 31) + 1
FLAGS = 1 | 4 | 8  # has flags, FLUSH, FUA
REQUEST = struct.Struct(">IHHQQI")
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
FUA = 1
EVER = (1 << 64) - 1
CONTROL = struct.Struct("<cQ")
RECEIVE_BYTES = 1 << 20


class Gone(Exception):
    """The client has left."""


def exactly(peer, count):
    data = b""
    while len(data) < count:
        more = peer.recv(count - len(data))
        if not more:
            raise Gone
        data += more
    return data


def shake_hands(peer, size):
    """Fixed newstyle; one export, whatever its name."""
    peer.sendall(MAGIC + OPTION + struct.pack(">H", 3))
    (flags,) = struct.unpack(">I", exactly(peer, 4))
    zeroes = b"" if flags & 2 else b"\0" * 124
    while True:
        magic, option, length = struct.unpack(">8sII", exactly(peer, 16))
        data = exactly(peer, length)
        assert magic == OPTION, magic

        def reply(kind, payload=b"", option=option):
            peer.sendall(struct.pack(">QIII", REPLY, option, kind, len(payload)) + payload)

        if option == EXPORT_NAME:
            peer.sendall(struct.pack(">QH", size, FLAGS) + zeroes)
            return
        if option in (GO, INFO):
            reply(INFO_REPLY, struct.pack(">HQH", 0, size, FLAGS))
            reply(ACK)
            if option == GO:
                return
        elif option == ABORT:
            reply(ACK)
            raise Gone
        else:
            reply(UNSUPPORTED, data[:0])


class Disk:
    """The image, its trace, and the faults switched on."""

    def __init__(self, image, trace):
        self.image = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.image).st_size
        self.trace = open(trace, "wb", buffering=1 << 20)
        self.number = 0
        self.failed = 0
        self.heal()

    def heal(self):
        self.fail = {b"W": 0, b"F": 0, b"R": 0}
        self.unreadable = set()
        self.delay_ms = 0

    def tell(self, kind, number, offset=0, length=0, data=b""):
        self.trace.write(HEAD.pack(kind, number, offset, length))
        if data:
            self.trace.write(data)

    def fails(self, kind):
        left = self.fail[kind]
        if left not in (0, EVER):
            self.fail[kind] = left - 1
        self.failed += left > 0
        return left > 0

    def read(self, offset, length):
        """The bytes, or None."""
        if any(offset < bad + SECTOR and bad < offset + length for bad in self.unreadable):
            self.failed += 1
            return None
        return None if self.fails(b"R") else os.pread(self.image, length, offset)


class Client:
    """The NBD connection: everything that has come is asked, then answered one by one."""

    def __init__(self, peer, disk):
        self.peer, self.disk = peer, disk
        self.buffer = bytearray()
        self.asked = []

    def receive(self):
        data = self.peer.recv(RECEIVE_BYTES)
        if not data:
            raise Gone
        self.buffer += data
        while self._take():
            pass

    def _take(self):
        if len(self.buffer) < REQUEST.size:
            return False
        _, flags, kind, handle, offset, length = REQUEST.unpack_from(self.buffer)
        end = REQUEST.size + (length if kind == WRITE else 0)
        if len(self.buffer) < end:
            return False
        if kind == DISCONNECT:
            raise Gone
        data = bytes(self.buffer[REQUEST.size:end])
        del self.buffer[:end]
        disk = self.disk
        disk.number = number = (disk.number + 1) & 0xFFFFFFFF
        if kind == WRITE:
            disk.tell(b"u" if flags & FUA else b"w", number, offset, length, data)
        elif kind == FLUSH:
            disk.tell(b"f", number)
        due = time.monotonic() + disk.delay_ms / 1000 if kind in (WRITE, FLUSH) else 0
        self.asked.append((due, number, kind, handle, offset, length, data))
        return True

    def answer(self):
        """Answers the oldest request that is due; how long until the next one is."""
        if not self.asked:
            return None
        due, number, kind, handle, offset, length, data = self.asked[0]
        wait = due - time.monotonic() if due else 0
        if wait > 0:
            return wait
        self.asked.pop(0)
        disk, reply, failed = self.disk, b"", 0
        if kind == READ:
            read = disk.read(offset, length)
            reply, failed = (b"", errno.EIO) if read is None else (read, 0)
        elif kind == WRITE:
            failed = errno.EIO if disk.fails(b"W") else 0
            if not failed:
                os.pwrite(disk.image, data, offset)
        elif kind == FLUSH:
            failed = errno.EIO if disk.fails(b"F") else 0
        else:
            failed = errno.EINVAL
        if kind in (WRITE, FLUSH):
            disk.tell(b"e" if failed else b"c", number)
        self.peer.sendall(struct.pack(">IIQ", 0x67446698, failed, handle) + reply)
        return 0


class Control:
    """One connection of the control socket."""

    def __init__(self, peer, disk, number):
        self.peer, self.disk, self.number = peer, disk, number
        self.buffer = bytearray()

    def receive(self):
        data = self.peer.recv(RECEIVE_BYTES)
        if not data:
            raise Gone
        self.buffer += data
        while len(self.buffer) >= CONTROL.size:
            kind, value = CONTROL.unpack_from(self.buffer)
            del self.buffer[:CONTROL.size]
            self.obey(kind, value)

    def obey(self, kind, value):
        if kind == b"M":
            self.disk.tell(b"m", self.number, value)
            return
        disk = self.disk
        if kind in disk.fail:
            disk.fail[kind] = value
        elif kind == b"U":
            disk.unreadable.add(value // SECTOR * SECTOR)
        elif kind == b"D":
            disk.delay_ms = value
        elif kind == b"H":
            disk.heal()
        elif kind == b"Q":
            disk.trace.flush()
        self.peer.sendall(CONTROL.pack(kind, disk.failed))


def listen(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    return listener


def serve(options, disk):
    doors = selectors.DefaultSelector()
    control, nbd = listen(options.control), listen(options.nbd)
    doors.register(control, selectors.EVENT_READ, "control")
    doors.register(nbd, selectors.EVENT_READ, "nbd")
    client, controls = None, 0
    wait = None
    while True:
        for key, _ in doors.select(wait):
            if key.data == "control":
                peer, _ = control.accept()
                doors.register(peer, selectors.EVENT_READ, Control(peer, disk, controls))
                controls += 1
            elif key.data == "nbd":
                peer, _ = nbd.accept()
                shake_hands(peer, disk.size)
                client = Client(peer, disk)
                doors.register(peer, selectors.EVENT_READ, client)
            else:
                try:
                    key.data.receive()
                except (Gone, ConnectionError):
                    doors.unregister(key.fileobj)
                    key.fileobj.close()
                    if key.data is client:
                        return
        wait = client.answer() if client else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("image", "trace", "nbd", "control"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    disk = Disk(options.image, options.trace)
    try:
        serve(options, disk)
    finally:
        disk.trace.close()


if __name__ == "__main__":
    main()
