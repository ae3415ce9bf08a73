"""The rule of the block recorder: what a flush covers, and what a cut may therefore lose."""

import sys

from broker import ROOT

sys.path.insert(0, str(ROOT / "tests/blockdev"))
from recording import HEAD, Images, Trace, without  # noqa: E402

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
