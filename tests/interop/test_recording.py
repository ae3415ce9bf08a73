"""The rule of the block recorder: what a flush covers, and what a cut may therefore lose; and its fault switches."""

import socket
import struct
import subprocess
import sys
import time

import pytest

from broker import ROOT

sys.path.insert(0, str(ROOT / "tests/blockdev"))
from recorder import EVER, EXPORT_NAME, FLUSH, FUA, OPTION, READ, REQUEST, WRITE, exactly  # noqa: E402
from recording import HEAD, Images, Trace, without  # noqa: E402
from stack import tell, wait_for  # noqa: E402

# Behind the superblock, which is not torn.
AT = 4096


def write(number, offset, data, kind=b"w"):
    return HEAD.pack(kind, number, offset, len(data)) + data


def event(kind, number, value=0):
    return HEAD.pack(kind, number, value, 0)


def recorded(tmp_path, *events):
    (tmp_path / "trace").write_bytes(b"".join(events))
    (tmp_path / "base").write_bytes(bytes(2 * AT))
    return Trace(tmp_path / "trace")


def test_a_flush_covers_what_was_answered_before_it_was_asked(tmp_path):
    trace = recorded(
        tmp_path,
        write(1, 0, b"A" * 1024), event(b"c", 1),
        write(2, 2048, b"B" * 512),  # in flight while the flush is asked
        event(b"f", 3), event(b"c", 2), event(b"c", 3),
        event(b"m", 0, 7),
        write(4, 512, b"C" * 512, b"u"), event(b"c", 4),
        write(5, 0, b"D" * 512), event(b"c", 5), event(b"f", 6), event(b"e", 6),
        event(b"f", 7), event(b"c", 7))
    assert [one.covered for one in trace.writes] == [5, None, 8, None]
    assert trace.marked(6) == {} and trace.marked(7) == {0: 7}
    images = Images(trace, tmp_path / "base")
    images.advance(trace.events)
    base = (tmp_path / "base").read_bytes()
    assert base[:1024] == b"A" * 512 + b"C" * 512 and not any(base[1024:])
    # A failed flush covers nothing, and neither does the one after it.
    assert [(one.offset, start, end) for one, start, end in images.open] == [(2048, 2048, 2560), (0, 0, 512)]


def test_an_image_holds_sectors_of_what_is_open_and_nothing_else(tmp_path):
    trace = recorded(tmp_path, write(1, AT, b"A" * 2048), event(b"c", 1), write(2, AT + 3072, b"B" * 1024), event(b"c", 2))
    images = Images(trace, tmp_path / "base")
    images.advance(trace.events)
    seen = set()
    for seed in range(50):
        path = tmp_path / "image"
        path.write_bytes((tmp_path / "base").read_bytes())
        images.build(path, seed, torn=seed % 2 == 1)
        data = path.read_bytes()
        assert not any(data[:AT])
        sectors = [data[AT + at:AT + at + 512] for at in range(0, 4096, 512)]
        assert all(one in (b"A" * 512, bytes(512)) for one in sectors[:4])
        assert not any(sectors[4]) and not any(sectors[5])
        if seed % 2 == 0:
            assert len(set(sectors[:4])) == 1 and sectors[6] == sectors[7]
        seen.add(data)
    assert len(seen) > 10


def test_what_is_covered_lies_under_nothing_older():
    assert list(without((None, 0, 10), 3, 5)) == [(None, 0, 3), (None, 5, 10)]
    assert list(without((None, 0, 10), 0, 10)) == []
    assert list(without((None, 0, 10), 12, 15)) == [(None, 0, 10)]
    assert list(without((None, 5, 10), 0, 7)) == [(None, 7, 10)]


EIO = 5


class Peer:
    """A client of the recorder, as nbdfuse is one."""

    def __init__(self, directory):
        self.directory, self.trace = directory, directory / "trace"
        (directory / "image").write_bytes(bytes(1 << 20))
        self.process = subprocess.Popen([sys.executable, ROOT / "tests/blockdev/recorder.py", *(
            word for name in ("image", "trace", "nbd", "control") for word in (f"--{name}", directory / name))])
        wait_for("recorder", lambda: (directory / "control").exists() and (directory / "nbd").exists())
        self.nbd = socket.socket(socket.AF_UNIX)
        self.nbd.connect(str(directory / "nbd"))
        exactly(self.nbd, 18)
        self.nbd.sendall(struct.pack(">I", 3) + struct.pack(">8sII", OPTION, EXPORT_NAME, 0))
        exactly(self.nbd, 10)

    def tell(self, kind, value=0):
        return tell(self.directory / "control", kind, value)

    def ask(self, kind, offset=0, data=b"", flags=0):
        """The error of one request and, of a read of a sector, its bytes."""
        length = 512 if kind == READ else len(data)
        self.nbd.sendall(REQUEST.pack(0x25609513, flags, kind, 7, offset, length) + data)
        _, error, handle = struct.unpack(">IIQ", exactly(self.nbd, 16))
        assert handle == 7
        return error, exactly(self.nbd, length) if kind == READ and not error else b""

    def end(self):
        self.nbd.close()
        assert self.process.wait(10) == 0


@pytest.fixture
def peer(tmp_path):
    one = Peer(tmp_path)
    yield one
    one.process.kill()
    one.process.wait()


def test_a_switch_fails_so_many_operations_of_its_kind_and_no_other(peer):
    for kind, switch in ((WRITE, b"W"), (FLUSH, b"F"), (READ, b"R")):
        data = b"x" * 512 if kind == WRITE else b""
        failed = peer.tell(switch, 2)
        others = [one for one in (WRITE, FLUSH, READ) if one != kind]
        assert [peer.ask(one, 512, b"y" * 512 if one == WRITE else b"")[0] for one in others] == [0, 0]
        assert [peer.ask(kind, 0, data)[0] for _ in range(3)] == [EIO, EIO, 0]
        peer.tell(switch, EVER)
        assert [peer.ask(kind, 0, data)[0] for _ in range(5)] == [EIO] * 5
        assert peer.tell(switch, 0) == failed + 7
        assert peer.ask(kind, 0, data)[0] == 0
    peer.tell(b"R", EVER)
    peer.tell(b"H")
    assert peer.ask(READ, 0) == (0, b"x" * 512)


def test_a_failed_write_changes_nothing_and_is_never_covered(peer):
    assert peer.ask(WRITE, 0, b"a" * 512)[0] == 0
    peer.tell(b"W", 1)
    assert peer.ask(WRITE, 0, b"b" * 512)[0] == EIO
    assert peer.ask(READ, 0) == (0, b"a" * 512)
    peer.tell(b"F", 1)
    assert peer.ask(FLUSH)[0] == EIO
    assert peer.ask(FLUSH)[0] == 0
    assert peer.ask(WRITE, 1024, b"c" * 512, FUA)[0] == 0
    peer.end()
    trace = Trace(peer.trace)
    assert [(one.failed, one.covered is not None) for one in trace.writes] == [(False, False), (True, False), (False, True)]
    assert trace.flushes == 1 and trace.errors == 2


def test_a_bad_sector_fails_the_reads_that_touch_it(peer):
    peer.tell(b"U", 1500)
    assert [peer.ask(READ, at)[0] for at in (0, 512, 513, 1024, 1535, 1536)] == [0, 0, EIO, EIO, EIO, 0]
    peer.tell(b"H")
    assert peer.ask(READ, 1024)[0] == 0


def test_answers_come_late_when_told_so(peer):
    peer.tell(b"D", 200)
    for kind, data in ((WRITE, b"x" * 512), (FLUSH, b"")):
        begun = time.monotonic()
        assert peer.ask(kind, 0, data)[0] == 0
        assert time.monotonic() - begun >= 0.2
    peer.tell(b"D", 0)
    assert peer.ask(READ, 0) == (0, b"x" * 512)
