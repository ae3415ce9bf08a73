"""Files of the data directory that are gone: what they held is named or refused, never passed over in silence."""

import shutil
import time

RECORDS = 10


def filled(broker):
    broker.create("t")
    for n in range(RECORDS):
        broker.kcat("-P", "-t", "t", "-p", "0", data=b"record-%d\n" % n)
    assert broker.stop() == 0
    return broker


def named(broker):
    return [(hole["from"], hole["to"]) for hole in broker.describe("t")["partitions"][0]["quarantined"]]


def test_a_lost_partition_directory_is_named_and_gives_no_offset_twice(broker):
    directory = filled(broker).directory / "data"
    for round_, lost in enumerate(["t/1/p/0", "t"]):
        shutil.rmtree(directory / lost)
        broker.start()
        end = RECORDS + round_
        assert named(broker) == [(0, end)], broker.tail()
        assert f"offsets 0 to {end} are quarantined" in broker.tail()
        assert (directory / "t/1/p/0/partition.meta").exists()
        broker.kcat("-P", "-t", "t", "-p", "0", data=b"after-%d\n" % round_)
        read = broker.kcat("-C", "-t", "t", "-p", "0", "-o", str(end), "-c", "1", "-q", "-f", "%o %s")
        assert read.stdout == b"%d after-%d" % (end, round_)
        time.sleep(1.5)  # a checkpoint of this life
        broker.restart(kill=True)
        assert named(broker) == [(0, end)], "and every later start says the same"
        assert broker.stop() == 0
