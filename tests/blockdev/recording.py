"""What a disk was asked, in order: written by the recorder, read by the replay.

An event is `kind u8 · id u32 · offset u64 · length u32`, little-endian; behind a write follow its bytes.

    w  a write was asked, with its bytes     u  the same, durable by itself (FUA)
    f  a flush was asked                     c  request id is about to be answered
    e  request id is about to be answered with an error
    m  id: connection of the control socket, offset: its mark

A flush covers the writes answered before the flush was asked. A write in flight then is not covered, though it
was asked earlier: nothing orders the two.
"""

import ctypes
import random
import struct

HEAD = struct.Struct("<cIQI")
SECTOR = 512
SUPERBLOCK_END = 4096
JOURNAL_SUPERBLOCK = struct.pack(">II", 0xC03B3998, 4)
ZEROS = memoryview(bytes(4 << 20))
LIBC = ctypes.CDLL(None)
LIBC.fallocate64.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
# FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
PUNCH_HOLE = 3


class Write:
    """A write, and from which event on it survives any cut."""

    __slots__ = ("at", "offset", "place", "length", "covered", "failed", "fua")

    def __init__(self, at, offset, place, length, fua):
        self.at, self.offset, self.place, self.length, self.fua = at, offset, place, length, fua
        self.covered, self.failed = None, False


class Trace:
    """All events of a recording; event numbers are the moments of its time."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.view = memoryview(file.read())
        self.writes, self.marks, self.flushes, self.errors = [], [], 0, 0
        self.events = 0
        self._read()

    def _read(self):
        at, data = 0, self.view
        asked, answered = {}, []
        while at + HEAD.size <= len(data):
            kind, number, offset, length = HEAD.unpack_from(data, at)
            at += HEAD.size
            now, self.events = self.events, self.events + 1
            if kind in b"wu":
                write = Write(now, offset, at, length, kind == b"u")
                at += length
                self.writes.append(write)
                asked[number] = write
            elif kind == b"f":
                # What was answered by now is what this flush covers, once it is answered itself.
                asked[number] = answered
                answered = []
            elif kind in b"ce":
                self._answered(asked.pop(number), kind == b"e", now, answered)
            elif kind == b"m":
                self.marks.append((now, number, offset))

    def _answered(self, request, failed, now, answered):
        if isinstance(request, Write):
            request.failed = failed
            self.errors += failed
            if request.fua and not failed:
                request.covered = now
            elif not failed:
                answered.append(request)
        elif failed:
            # What a failed flush should have covered may be gone for good: no later flush covers it.
            self.errors += 1
        else:
            self.flushes += 1
            for write in request:
                write.covered = now

    def marked(self, cut):
        """The highest mark of each control connection before `cut`."""
        highest = {}
        for now, connection, mark in self.marks:
            if now >= cut:
                break
            highest[connection] = mark
        return highest


class Images:
    """Crash images of a recording, at ascending cuts: a running base of what every cut from here on must keep,
    and beside it pieces of writes that may be there, in part, or not at all.

    `lie_from`: from this event on no flush counts, as on a drive that lies about them."""

    def __init__(self, trace, base, lie_from=None):
        self.trace, self.base, self.lie_from = trace, base, lie_from
        self.next, self.open = 0, []

    def advance(self, cut):
        """Moves the base on to `cut`."""
        writes = self.trace.writes
        while self.next < len(writes) and writes[self.next].at < cut:
            write = writes[self.next]
            self.open.append((write, write.offset, write.offset + write.length))
            self.next += 1
        left = []
        with open(self.base, "r+b", buffering=0) as base:
            for piece in self.open:
                write, start, end = piece
                if not self._covered(write, cut):
                    left.append(piece)
                    continue
                put(base, start, self._bytes(piece))
                # What is covered lies under nothing older.
                left = [rest for old in left for rest in without(old, start, end)]
        self.open = left

    def _covered(self, write, cut):
        sure = write.covered is not None and write.covered < cut
        return sure and (self.lie_from is None or write.covered < self.lie_from)

    def _bytes(self, piece):
        write, start, end = piece
        place = write.place + start - write.offset
        return self.trace.view[place:place + end - start]

    def build(self, path, seed, torn):
        """Adds to a copy of the base a random part of what is open: whole writes, or sectors of them."""
        chance = random.Random(seed)
        kept = chance.choice((0.05, 0.5, 0.5, 0.95))
        with open(path, "r+b", buffering=0) as image:
            for piece in self.open:
                data, at = self._bytes(piece), piece[1]
                sectors = len(data) // SECTOR
                whole = [(0, sectors)] if chance.random() < kept else []
                tears = torn and not atomic(at, data)
                for start, end in runs(chance, sectors, kept) if tears else whole:
                    image.seek(at + start * SECTOR)
                    image.write(data[start * SECTOR:end * SECTOR])


def atomic(at, data):
    """ext4 takes its superblock and its journal's for atomic, though they have two sectors: torn, neither mounts."""
    return at < SUPERBLOCK_END or data[:8] == JOURNAL_SUPERBLOCK


def put(image, at, data):
    """Writes; zeros become a hole, which no copy of the image has to carry."""
    if data == ZEROS[:len(data)] and LIBC.fallocate64(image.fileno(), PUNCH_HOLE, at, len(data)) == 0:
        return
    image.seek(at)
    image.write(data)


def without(piece, start, end):
    """What of a piece lies outside of a range."""
    write, low, high = piece
    if low < min(start, high):
        yield write, low, min(start, high)
    if max(end, low) < high:
        yield write, max(end, low), high


def runs(chance, sectors, kept):
    """Random sectors of a write, as ranges."""
    start = None
    for sector in range(sectors):
        if chance.random() < kept:
            start = sector if start is None else start
        elif start is not None:
            yield start, sector
            start = None
    if start is not None:
        yield start, sectors
