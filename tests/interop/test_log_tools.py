"""`ringway log …` on directories that are really damaged, and what a broker makes of them."""

import json
import os
import shutil
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from broker import BINARY, LOADGEN

BATCHES = 12


def segments(broker):
    return sorted((broker.directory / "data").glob("t/*/p/[0-9]/*.seg"))


def holding(broker, text):
    (path,) = [path for path in segments(broker) if text in path.read_bytes()]
    return path


def change(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def flip(path, text, skip):
    at = path.read_bytes().find(text) + skip
    change(path, at, bytes([path.read_bytes()[at] ^ 1]))


def log(broker, *arguments, code=0):
    command = [str(BINARY), "log", arguments[0], str(broker.directory / "data"), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, timeout=100)
    assert done.returncode == code, f"{command}: {done.returncode} {done.stdout} {done.stderr}"
    return done


def verify(broker, *arguments, code=0):
    return json.loads(log(broker, "verify", "-o", "json", *arguments, code=code).stdout)


def findings(broker, topic, code):
    (row,) = [row for row in verify(broker, code=code)["logs"] if row["topic"] == topic]
    return [(one["kind"], one["offset"], one["until"]) for one in row["findings"]]


def line(n):
    return b"batch-%02d " % n + bytes([97 + n]) * 3000


def fill(broker, topic, *settings):
    """BATCHES batches of one record each."""
    broker.cli("topic", "create", topic, "--partitions", "1", *settings)
    for n in range(BATCHES):
        broker.kcat("-P", "-t", topic, data=line(n) + b"\n")


def read(broker, topic, first):
    done = broker.kcat("-C", "-t", topic, "-p", "0", "-o", str(first), "-e", "-q", check=False, timeout=30)
    return done.stdout.split(b"\n")[:-1]


def fetch_all(broker, topic, holes):
    """Every record with its offset, around the holes that are expected."""
    records, first = {}, 0
    for start, end in [*holes, (BATCHES, BATCHES)]:
        if start > first:
            done = broker.kcat("-C", "-t", topic, "-p", "0", "-o", str(first), "-c", str(start - first), "-q", "-e",
                               "-f", "%o %s\n")
            rows = (row.split(b" ", 1) for row in done.stdout.split(b"\n")[:-1])
            records.update((int(offset), value) for offset, value in rows)
        first = end
    return records


@pytest.fixture
def stopped(broker):
    fill(broker, "t")
    assert broker.stop() == 0
    return broker


def test_a_whole_directory_verifies_clean_and_every_command_reads_it(stopped):
    report = verify(stopped)
    (row,) = [row for row in report["logs"] if row["topic"] == "t"]
    assert (row["records"], row["batches"], row["findings"]) == (BATCHES, BATCHES, [])
    assert b"0 damaged ranges" in log(stopped, "verify").stdout
    seen = json.loads(log(stopped, "inspect", "--topic", "t", "-n", "3", "-o", "json").stdout)
    frames = seen["logs"][0]["frames"]
    assert [frame["base_offset"] for frame in frames] == [0, 1, 2] and all(frame["payload_ok"] for frame in frames)
    assert [frame["linked"] for frame in frames] == [True] * 3
    assert seen["logs"][0]["checkpoints"][0]["clean"] and seen["logs"][0]["checkpoints"][0]["offset"] == BATCHES
    text = log(stopped, "inspect", "--topic", "t", "-n", "2").stdout.decode()
    assert text.count("frame ") == 2 and "checkpoint shard-0." in text and "life " in text
    assert log(stopped, "export", "--topic", "t").stdout.split(b"\n")[:-1] == [line(n) for n in range(BATCHES)]
    rows = [json.loads(row) for row in log(stopped, "export", "--topic", "t", "-o", "json", "-n", "2",
                                           "--from-offset", "5").stdout.splitlines()]
    assert [(row["offset"], row["value"].encode()) for row in rows] == [(5, line(5)), (6, line(6))]
    assert json.loads(log(stopped, "quarantine", "-o", "json").stdout) == []
    assert b"0 repaired" in log(stopped, "repair").stderr


def test_a_running_broker_is_not_touched(broker):
    # At once: each waits for the lock as long as it waits for a broker that just stopped.
    commands = ("verify", "inspect", "export", "repair", "quarantine")
    with ThreadPoolExecutor(len(commands)) as pool:
        for done in pool.map(lambda command: log(broker, command, code=78), commands):
            assert b"in use" in done.stderr and b"stop the broker" in done.stderr


def test_the_help_teaches(broker):
    for command in ("verify", "inspect", "export", "repair", "quarantine"):
        text = broker.cli_offline("log", command, "--help").stdout.decode()
        assert "data directory of a stopped broker" in text.lower() and len(text.splitlines()) > 12, command


@pytest.mark.parametrize("kind,skip", [("payload", 500), ("header", -100)])
def test_a_flipped_bit_costs_one_batch_and_is_named_everywhere(stopped, kind, skip):
    flip(holding(stopped, line(4)), b"batch-04", skip)
    assert findings(stopped, "t", 1) == [(kind, 4, 5)]
    exported = log(stopped, "export", "--topic", "t", code=1)
    assert exported.stdout.split(b"\n")[:-1] == [line(n) for n in range(BATCHES) if n != 4]
    assert b"offsets 4..5" in exported.stderr
    stopped.start()
    assert read(stopped, "t", 4) == [], "stop is the default"
    assert read(stopped, "t", 5) == [line(n) for n in range(5, BATCHES)]
    (partition,) = stopped.describe("t")["partitions"]
    (hole,) = partition["quarantined"]
    assert (hole["from"], hole["to"], hole["reason"], hole["found_by"]) == (4, 5, kind, "read")
    assert "offsets 4..5" in stopped.cli("topic", "describe", "t").stdout.decode()
    assert stopped.metric("ringway_log_quarantined_ranges") == 1
    assert "offsets 4 to 5 are quarantined" in stopped.tail()
    assert stopped.stop() == 0
    (row,) = json.loads(log(stopped, "quarantine", "-o", "json").stdout)
    assert (row["topic"], row["from"], row["to"], row["reason"]) == ("t", 4, 5, kind)
    assert b"offsets 4..5" in log(stopped, "quarantine").stdout


def test_on_quarantine_skip_passes_the_range_and_counts_it(broker):
    fill(broker, "t", "--config", "on_quarantine=skip")
    assert broker.stop() == 0
    path = holding(broker, line(4))
    flip(path, b"batch-04", 500)
    flip(path, b"batch-05", -100)
    broker.start()
    assert read(broker, "t", 0) == [line(n) for n in range(BATCHES) if n not in (4, 5)]
    assert broker.metric("ringway_quarantine_skipped_records_total") >= 2


def test_a_zeroed_block_and_a_cut_segment(stopped):
    path = holding(stopped, line(4))
    at = path.read_bytes().find(b"batch-06") // 4096 * 4096
    change(path, at, bytes(4096))
    (hole,) = findings(stopped, "t", 1)
    assert hole[0] == "header" and hole[1] <= 6 < hole[2] and hole[2] - hole[1] <= 3
    holes = [(hole[1], hole[2])]
    stopped.start()
    records = fetch_all(stopped, "t", holes)
    assert records == {n: line(n) for n in range(BATCHES) if not hole[1] <= n < hole[2]}
    assert stopped.stop() == 0
    # Now the rest of the file is gone too: what was acknowledged there is named, and its offsets stay taken.
    with open(path, "r+b") as file:
        file.truncate(path.read_bytes().find(b"batch-09") // 4096 * 4096)
    lost = findings(stopped, "t", 1)
    assert lost[-1][2] == BATCHES
    stopped.start()
    stopped.kcat("-P", "-t", "t", data=b"after\n")
    done = stopped.kcat("-C", "-t", "t", "-p", "0", "-o", str(BATCHES), "-c", "1", "-q", "-f", "%o %s")
    assert done.stdout == b"%d after" % BATCHES
    assert read(stopped, "t", 0)[:2] == [line(0), line(1)]


def test_without_any_derived_file_the_answers_are_the_same(stopped):
    """Mission S3-10: checkpoints, snapshots, marker and quarantine list may all go."""
    flip(holding(stopped, line(4)), b"batch-04", 500)
    stopped.start()
    assert read(stopped, "t", 4) == []
    before = stopped.describe("t")["partitions"]
    whole = fetch_all(stopped, "t", [(4, 5)])
    assert stopped.stop() == 0
    data = stopped.directory / "data"
    gone = [*data.glob("checkpoints/*"), *data.rglob("snapshot"), *data.rglob("quarantine"), data / "clean"]
    assert len(gone) >= 4
    for path in gone:
        path.unlink()
    stopped.start()
    assert fetch_all(stopped, "t", [(4, 5)]) == whole
    assert read(stopped, "t", 4) == [] and read(stopped, "t", 5)[0] == line(5)
    after = stopped.describe("t")["partitions"]
    for rows in (before, after):
        for row in rows:
            for one in row["quarantined"]:
                del one["found_ms"]
            for one in row["segments"]:
                del one["file_bytes"]
    assert after == before


def test_repair_keeps_everything_readable_and_the_old_files(stopped):
    path = holding(stopped, line(4))
    flip(path, b"batch-04", 500)
    flip(path, b"batch-07", -100)
    old = path.read_bytes()
    wanted = log(stopped, "repair", "--dry-run")
    assert b"1 would be repaired" in wanted.stderr and path.read_bytes() == old
    done = log(stopped, "repair")
    assert b"1 repaired" in done.stderr, done.stderr
    (aside,) = path.parent.parent.glob("*.damaged-*")
    assert (aside / path.name).read_bytes() == old
    assert findings(stopped, "t", 0) == []
    assert b"0 repaired" in log(stopped, "repair").stderr, "a second one finds nothing to do"
    kept = [line(n) for n in range(BATCHES) if n not in (4, 7)]
    assert log(stopped, "export", "--topic", "t").stdout.split(b"\n")[:-1] == kept
    stopped.start()
    assert read(stopped, "t", 0) == kept, "consumers pass the gap by themselves"
    assert stopped.describe("t")["partitions"][0]["quarantined"] == []
    stopped.kcat("-P", "-t", "t", data=b"after\n")
    for kill in (True, False):
        stopped.restart(kill=kill)
        assert read(stopped, "t", 5)[0] == line(5) and read(stopped, "t", BATCHES) == [b"after"]
    assert stopped.stop() == 0
    assert findings(stopped, "t", 0) == []


@pytest.mark.parametrize("served", [False, True])
def test_repair_of_a_lost_end_gives_no_offset_twice(stopped, served):
    path = holding(stopped, line(4))
    at = path.read_bytes().find(b"batch-09") - 200
    change(path, at // 4096 * 4096, bytes(path.stat().st_size - at // 4096 * 4096))
    ((kind, first, until),) = findings(stopped, "t", 1)
    assert until == BATCHES and first in (8, 9)
    if served:
        # A segment begins behind the loss, and nothing stands in it.
        with open(path, "r+b") as file:
            file.truncate(at // 4096 * 4096)
        stopped.start()
        assert stopped.stop() == 0
        assert findings(stopped, "t", 1) == [("missing", first, BATCHES)]
    assert b"1 repaired" in log(stopped, "repair").stderr
    assert findings(stopped, "t", 0) == []
    assert b"0 repaired" in log(stopped, "repair").stderr
    stopped.start()
    for kill in (True, False):
        assert stopped.describe("t")["partitions"][0]["quarantined"] == [], "what was given up stays given up"
        stopped.restart(kill=kill)
    stopped.kcat("-P", "-t", "t", data=b"after\n")
    assert fetch_all(stopped, "t", [(first, BATCHES)]) == {n: line(n) for n in range(first)}
    done = stopped.kcat("-C", "-t", "t", "-p", "0", "-o", str(first), "-c", "1", "-q", "-f", "%o %s")
    assert done.stdout == b"%d after" % BATCHES, "consumers pass the gap by themselves"
    assert stopped.stop() == 0
    assert findings(stopped, "t", 0) == []
    stopped.start()
    assert read(stopped, "t", 0) == [*(line(n) for n in range(first)), b"after"], "now consumers pass it"


@pytest.fixture
def gone_on(stopped):
    """All BATCHES records are lost, the broker has named them, and three more stand behind."""
    (path,) = [path for path in segments(stopped) if line(0) in path.read_bytes()]
    os.truncate(path, 0)
    stopped.start()
    for n in range(3):
        stopped.kcat("-P", "-t", "t", data=b"after %d\n" % n)
    assert stopped.stop() == 0
    return stopped


AFTER = [b"after 0", b"after 1", b"after 2"]


def test_a_lost_end_is_damage_until_a_repair_also_when_records_stand_behind_it(gone_on):
    assert findings(gone_on, "t", 1) == [("missing", 0, BATCHES)]
    exported = log(gone_on, "export", "--topic", "t", code=1)
    assert exported.stdout.split(b"\n")[:-1] == AFTER and b"offsets 0..%d" % BATCHES in exported.stderr
    assert b"missing: " in log(gone_on, "inspect", "--findings", "--topic", "t").stdout
    (quarantine,) = [path for path in (gone_on.directory / "data").rglob("quarantine")]
    kept = quarantine.read_bytes()
    quarantine.unlink()
    assert findings(gone_on, "t", 1) == [("missing", 0, BATCHES)], "as the next start would say without its list"
    assert b"a start names" in log(gone_on, "quarantine").stderr
    quarantine.write_bytes(kept)
    assert b"1 repaired" in log(gone_on, "repair").stderr
    assert findings(gone_on, "t", 0) == []
    assert b"0 repaired" in log(gone_on, "repair").stderr
    gone_on.start()
    assert read(gone_on, "t", "beginning") == AFTER, "consumers pass it by themselves"
    assert gone_on.describe("t")["partitions"][0]["quarantined"] == []
    assert gone_on.stop() == 0
    assert findings(gone_on, "t", 0) == []


def test_records_that_came_back_are_served_again_by_a_repair(stopped):
    path = holding(stopped, line(4))
    whole = path.read_bytes()
    os.truncate(path, 0)
    stopped.start()
    stopped.kcat("-P", "-t", "t", data=AFTER[0] + b"\n")
    assert stopped.stop() == 0
    path.write_bytes(whole)
    assert findings(stopped, "t", 1) == [("unserved", 0, BATCHES)]
    everything = [*(line(n) for n in range(BATCHES)), AFTER[0]]
    assert log(stopped, "export", "--topic", "t", code=1).stdout.split(b"\n")[:-1] == everything
    stopped.start()
    assert read(stopped, "t", 0) == [], "what is named is not served"
    assert stopped.stop() == 0
    assert b"1 repaired" in log(stopped, "repair").stderr
    assert findings(stopped, "t", 0) == []
    stopped.start()
    assert read(stopped, "t", 0) == everything


def test_repairs_within_one_second_keep_what_each_of_them_exchanged(stopped):
    path = holding(stopped, line(4))
    kept = []
    for n in (4, 5, 6, 7):
        flip(holding(stopped, line(n)), b"batch-%02d" % n, 500)
        kept.append(holding(stopped, line(8)).read_bytes())
        assert b"1 repaired" in log(stopped, "repair").stderr
    directory = path.parent.parent
    aside = [one for one in directory.iterdir() if one.name.startswith("0.damaged-")]
    assert len(aside) == 4 == len(list(directory.iterdir())) - 1, "nothing else is left behind"
    found = [body for one in aside for body in (file.read_bytes() for file in one.glob("*.seg"))]
    assert all(body in found for body in kept)
    left = [line(n) for n in range(BATCHES) if n not in (4, 5, 6, 7)]
    assert log(stopped, "export", "--topic", "t").stdout.split(b"\n")[:-1] == left


def test_a_stray_segment_is_named_as_one_and_left_out_by_a_repair(gone_on):
    assert b"1 repaired" in log(gone_on, "repair").stderr
    path = holding(gone_on, AFTER[0])
    stray = path.with_name("%020d.seg" % (BATCHES + 1))
    for body in (b"", path.read_bytes()[:4096]):
        stray.write_bytes(body)
        assert findings(gone_on, "t", 1) == [("stray", BATCHES + 1, BATCHES + 1)]
        assert b"holds nothing of this log" in log(gone_on, "verify", code=1).stdout
        assert b"1 repaired" in log(gone_on, "repair").stderr
        assert not stray.exists() and findings(gone_on, "t", 0) == []
        assert log(gone_on, "export", "--topic", "t").stdout.split(b"\n")[:-1] == AFTER


def test_what_is_no_segment_is_named_and_left_out_by_a_repair(stopped):
    path = holding(stopped, line(4))
    inside = path.with_name("%020d.seg" % 7)
    for make, text in ((inside.mkdir, b"is no file"), (lambda: inside.symlink_to("nowhere"), b"No such file"),
                       (path.with_name("7.seg").touch, b"is not how a segment is named")):
        make()
        out = log(stopped, "verify", code=1).stdout
        assert text in out and b" 1 damaged ranges" in out, out
        assert text in log(stopped, "export", code=1).stderr and text in log(stopped, "inspect").stdout
        assert b"1 repaired" in log(stopped, "repair").stderr
        assert sorted(one.name for one in path.parent.glob("*.seg")) == [path.name]
    path.with_name("old.seg").touch()
    assert b"old.seg is no segment" in log(stopped, "verify").stdout
    moved = path.rename(stopped.directory / "moved")
    path.symlink_to(moved)
    assert b"is a symbolic link" in log(stopped, "verify").stdout
    stopped.start()
    assert read(stopped, "t", 0) == [line(n) for n in range(BATCHES)], "the broker follows it as well"


def test_a_file_is_no_data_directory(stopped):
    path = holding(stopped, line(4))
    for command in ("verify", "repair", "inspect", "export", "quarantine"):
        done = stopped.cli_offline("log", command, str(path))
        assert done.returncode == 78 and b"is a file: name the data directory" in done.stderr
    done = stopped.cli_offline("serve", "--data-dir", str(path))
    assert done.returncode == 78 and b"it is a file, no directory" in done.stderr


def test_a_lost_partition_meta_is_noted_and_made_anew_by_a_repair(stopped):
    path = holding(stopped, line(4)).with_name("partition.meta")
    whole = path.read_bytes()
    for body in (None, whole[:-1]):
        path.unlink()
        if body is not None:
            path.write_bytes(body)
        report = log(stopped, "verify").stdout
        assert b"t/0" in report and b"partition.meta is missing or damaged" in report
        assert b"partition.meta would be made anew" in log(stopped, "repair", "--dry-run").stderr
        assert b"t/0: partition.meta is made anew" in log(stopped, "repair").stderr
        assert path.read_bytes() == whole
    path.unlink()
    flip(holding(stopped, line(4)), b"batch-04", 500)
    assert b"1 repaired" in log(stopped, "repair").stderr and path.read_bytes() == whole


def test_only_readable_records_are_counted(stopped):
    flip(holding(stopped, line(4)), b"batch-04", 500)
    (row,) = verify(stopped, code=1)["logs"]
    assert (row["batches"], row["records"], row["end"]) == (BATCHES - 1, BATCHES - 1, BATCHES)


def rows(broker, code):
    found = {}
    report = verify(broker, code=code)
    for row in report["logs"]:
        found[(row["topic"], row["gone"])] = [(one["kind"], one["offset"], one["until"]) for one in row["findings"]]
    return report["metadata"], found


def test_a_log_without_its_directory_is_missing_when_its_topic_exists(broker):
    fill(broker, "t")
    fill(broker, "deleted")
    assert broker.stop() == 0
    data = broker.directory / "data"
    metastore = (data / "metastore.redb").read_bytes()
    ours = sorted(data.glob("t/*/p/0"))[0]
    assert rows(broker, 0)[1] == {("t", False): [], ("deleted", False): []}
    shutil.rmtree(ours)
    assert rows(broker, 1) == (None, {("t", True): [("missing", 0, BATCHES)], ("deleted", False): []})
    assert b"t/0: missing: the whole directory" in log(broker, "export", code=1).stderr
    assert b"the directory is gone" in log(broker, "inspect").stdout
    assert b"1 would be repaired" in log(broker, "repair", "--dry-run").stderr and not ours.exists()
    shutil.rmtree(data / "t")
    gone = [("missing", 0, BATCHES)]
    assert rows(broker, 1) == (None, {("t", True): gone, ("deleted", True): gone})
    assert (data / "metastore.redb").read_bytes() == metastore, "read, never opened"
    for body in (None, b"", metastore[:5000], bytes(len(metastore))):
        (data / "metastore.redb").unlink()
        if body is not None:
            (data / "metastore.redb").write_bytes(body)
        cause, found = rows(broker, 1)
        assert "metastore.redb" in cause and found == {("", True): gone}
        assert b"metastore.redb" in log(broker, "verify", code=1).stdout
        assert b"2 logs are as they were" in log(broker, "repair", code=1).stderr and not (data / "t").exists()
        if body is None:
            (data / "metastore.redb").write_bytes(b"")
    (data / "metastore.redb").write_bytes(metastore)
    assert b"2 repaired" in log(broker, "repair").stderr
    assert rows(broker, 0) == (None, {("t", False): [], ("deleted", False): []})
    broker.start()
    broker.kcat("-P", "-t", "t", data=b"after\n")
    done = broker.kcat("-C", "-t", "t", "-p", "0", "-o", "beginning", "-c", "1", "-q", "-f", "%o %s")
    assert done.stdout == b"%d after" % BATCHES, "no offset is given twice"
    broker.cli("topic", "delete", "deleted")
    until = time.monotonic() + 20
    # A delete is answered once it is decided; the files go after that, or at the next start.
    while len(list(data.glob("t/*/p/*"))) > 1 and time.monotonic() < until:
        time.sleep(0.01)
    broker.kill()
    assert rows(broker, 0) == (None, {("t", False): []}), "nobody misses a topic that was deleted"
    metastore = (data / "metastore.redb").read_bytes()
    shutil.rmtree(data / "t")
    assert list(rows(broker, 1)[1]) == [("t", True)]
    assert (data / "metastore.redb").read_bytes() == metastore, "nor is it repaired after a crash"
    shutil.rmtree(data / "checkpoints")
    assert b"topic t: 1 of 1 partitions have no directory" in log(broker, "verify").stdout, "no more can be told"


def test_a_lost_meta_is_refused_with_the_remedy_and_made_anew(stopped):
    meta = stopped.directory / "data" / "meta"
    whole = meta.read_bytes()
    assert b"nothing to do" in log(stopped, "repair", "--meta").stderr
    for body in (None, whole[:20], whole[:-1] + bytes([whole[-1] ^ 1])):
        meta.unlink()
        if body is not None:
            meta.write_bytes(body)
        with pytest.raises(RuntimeError, match="log repair DIR --meta"):
            stopped.start()
        assert stopped.process.returncode == 78
        assert b"log repair DIR --meta" in log(stopped, "verify", code=78).stderr
        assert b"would be made anew" in log(stopped, "repair", "--meta", "--dry-run").stderr
        assert (meta.read_bytes() if meta.exists() else None) == body
        assert b"made anew: " in log(stopped, "repair", "--meta").stderr
        kept = [path.read_bytes() for path in meta.parent.glob("meta.damaged-*")]
        assert body is None or body in kept, "what was there is kept"
        assert findings(stopped, "t", 0) == []
        with stopped:
            assert read(stopped, "t", 0) == [line(n) for n in range(BATCHES)]
            stopped.kill()
    with stopped:
        stopped.kcat("-P", "-t", "t", data=b"one more\n")
        stopped.restart(kill=True)
        assert read(stopped, "t", 0) == [*(line(n) for n in range(BATCHES)), b"one more"]


def test_a_segment_of_another_log_is_in_the_wrong_place(broker):
    fill(broker, "t")
    fill(broker, "other")
    assert broker.stop() == 0
    ours, theirs = sorted(broker.directory.rglob("t/*/p/0/00000000000000000000.seg"))[-2:]
    shutil.copyfile(theirs, ours)
    rows = {row["topic"]: row["findings"] for row in verify(broker, code=1)["logs"]}
    broken = [rows[topic] for topic in ("t", "other") if rows[topic]]
    ((finding,),) = broken
    assert (finding["kind"], finding["offset"], finding["until"]) == ("place", 0, BATCHES)


def load(broker, history, *arguments):
    command = [str(LOADGEN), "run", "--target", f"native://{broker.server}", "--mode", "produce", "--duration", "1",
               "--warmup", "0", "--topic", "load", "--rate", "2000", "--size", "200",
               "--history", str(history), *arguments]
    subprocess.run(command, check=True, timeout=60, capture_output=True)


def test_every_acknowledged_record_of_a_history_is_there(broker, tmp_path):
    history = tmp_path / "history"
    load(broker, history)
    broker.kill()
    answer = verify(broker, "--history", str(history))["history"]
    assert answer["acked"] == answer["found"] > 1000 and answer["missing"] == answer["moved"] == 0
    rows = [json.loads(row) for row in history.read_text().splitlines()]
    acks = [row for row in rows if row["op"] == "ack"]
    half = sorted(row["t_us"] for row in acks)[len(acks) // 2]
    cut = verify(broker, "--history", str(history), "--cut", str(half))["history"]
    assert cut["found"] == cut["acked"] == sum(row["t_us"] <= half for row in acks) < answer["acked"]
    # A promise that was not kept, one that was kept with another record, and one about a topic nobody has.
    lies = [dict(acks[0], offset=10**6), dict(acks[1], seq=10**6), dict(acks[2], topic="nowhere")]
    lying = tmp_path / "lying"
    lying.write_text("".join(json.dumps(row) + "\n" for row in [*acks, *lies]))
    answer = verify(broker, "--history", str(lying), code=1)["history"]
    assert (answer["missing"], answer["moved"]) == (2, 1)
    assert len(answer["examples"]) == 3


def test_a_history_tells_damaged_from_missing(broker, tmp_path):
    history = tmp_path / "history"
    load(broker, history)
    assert broker.stop() == 0
    path = max(segments(broker), key=lambda path: path.read_bytes().count(b"V2"))
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 8)
    change(path, 128 + 50, bytes([data[178] ^ 1]))
    report = verify(broker, "--history", str(history), code=1)
    assert report["history"]["damaged"] >= 1 and report["history"]["missing"] == 0 and length > 128
