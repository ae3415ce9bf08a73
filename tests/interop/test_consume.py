"""`ringway consume` where something is wrong: it says what, with values and the remedy, reads what can be read, and ends."""

import json
import re
import socket
import socketserver
import subprocess
import threading
import time

import pytest

from broker import BINARY


def consume(server, *arguments, timeout=20):
    command = [str(BINARY), "consume", *arguments, "--server", server]
    done = subprocess.run(command, capture_output=True, timeout=timeout)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_an_offset_beyond_the_end_is_told_with_the_end(broker):
    broker.create("t", 2)
    for partition, count in ((0, 5), (1, 20)):
        broker.kcat("-P", "-t", "t", "-p", str(partition), data=b"".join(b"%d\n" % n for n in range(count)))
    code, out, err = consume(broker.server, "t", "--from", "offset:12", "--no-follow")
    assert (code, out) == (1, "".join(f"{n}\n" for n in range(12, 20)))
    assert re.search(r"t/0: offset 12 is beyond the end: the next record gets 5", err), err
    code, out, err = consume(broker.server, "t", "-p", "0", "--from", "offset:6")
    assert (code, out) == (1, "") and "offset 6 is beyond the end" in err, "nor does it follow"
    assert consume(broker.server, "t", "-p", "0", "--from", "offset:5", "--no-follow") == (0, "", "")


def damage(broker, *batches):
    """Topic `t` of three partitions with six batches each, of which some are flipped on the disk: (partition, batch)."""
    broker.create("t", 3)
    for partition in range(3):
        for n in range(6):
            broker.kcat("-P", "-t", "t", "-p", str(partition), data=b"p%d-n%d " % (partition, n) + b"x" * 3000 + b"\n")
    assert broker.stop() == 0
    for partition, n in batches:
        mark = b"p%d-n%d" % (partition, n)
        (path,) = [path for path in (broker.directory / "data").rglob("*.seg") if mark in path.read_bytes()]
        with open(path, "r+b") as file:
            file.seek(path.read_bytes().find(mark) + 500)
            file.write(b"y")
    broker.start()


def test_damage_stops_its_partition_alone_and_is_told_with_range_and_remedy(broker):
    damage(broker, (0, 2), (2, 0))
    code, out, err = consume(broker.server, "t", "--from", "beginning", "--no-follow")
    seen = sorted(line.split()[0] for line in out.splitlines())
    assert (code, seen) == (1, ["p0-n0", "p0-n1", *(f"p1-n{n}" for n in range(6))])
    lines = sorted(err.splitlines())
    assert len(lines) == 2, err
    for line, name, offset in zip(lines, ("t/0", "t/2"), (2, 0)):
        wanted = (f"{name}: offset {offset} is damaged", f"{offset}..{offset + 1} are quarantined (payload",
                  f"--from offset:{offset + 1}", "on_quarantine=skip", "log repair", "docs/operating.md")
        assert all(word in line for word in wanted), line
    code, out, err = consume(broker.server, "t", "-p", "0", "--from", "offset:3", "--no-follow")
    assert (code, len(out.splitlines()), err) == (0, 3, ""), "the way it names leads on"


@pytest.mark.parametrize("shards", [1, 2])
def test_a_topic_that_is_there_is_told_to_let_its_consumers_pass(brokers, shards):
    from confluent_kafka import Consumer, TopicPartition

    broker = brokers(shards=shards).start()
    damage(broker, (0, 2), (2, 0))
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "g"})
    consumer.assign([TopicPartition("t", 2, 0)])
    told = consumer.poll(20)
    assert told is not None and told.error(), "it stands before the damage"
    reads = ("t", "--from", "beginning", "--no-follow")
    assert consume(broker.server, *reads)[0] == 1
    done = broker.cli("topic", "set", "t", "on_quarantine=skip", "retention.ms=86400000")
    assert done.stdout == b"t: on_quarantine = skip\nt: retention.ms = 86400000\n"
    read = (message for message in iter(lambda: consumer.poll(20), None) if not message.error())
    assert next(read).value().startswith(b"p2-n1"), "who stands there goes on"
    consumer.close()
    for kill in (True, False):
        code, out, err = consume(broker.server, *reads)
        assert (code, len(out.splitlines()), err) == (0, 16, "")
        broker.restart(kill=kill)
    for wrong, words in (("on_quarantine=pass", ["on_quarantine", "stop, skip"]), ("retention.sm=5", ["retention.sm"]),
                         ("retention.ms=soon", ["retention.ms", "whole number"])):
        done = broker.cli("topic", "set", "t", "segment.ms=5", wrong, check=False)
        assert done.returncode == 1 and all(word in done.stderr.decode() for word in words), done.stderr
    assert broker.cli("topic", "set", "nobody", "segment.ms=5", check=False).returncode == 1
    broker.cli("topic", "set", "t", "--unset", "on_quarantine")
    configs = broker.describe("t")["configs"]
    assert (configs["on_quarantine"], configs["retention.ms"], configs["segment.ms"]) == ("stop", "86400000", "604800000")
    assert consume(broker.server, *reads)[0] == 1


def answer(request, body):
    """A response envelope to `request`."""
    header = bytearray(request[:128])
    header[4] = 1
    header[8:12] = len(body).to_bytes(4, "big")
    return bytes(header) + body


class Mute(socketserver.BaseRequestHandler):
    """A broker with a topic of ten records, none of which it gives."""

    def handle(self):
        stream = self.request.makefile("rb")
        while len(header := stream.read(128)) == 128:
            stream.read(int.from_bytes(header[8:12], "big"))
            name = header[12:44].rstrip(b"\0").decode()
            place = {"partition": 0, "shard": 0, "address": ""}
            body = {"Metadata": {"topics": [{"name": "t", "code": 0, "topic_id": 1, "partitions": [place]}]},
                    "ListOffsets": {"offset": 0 if self.server.asked else 10, "timestamp_ms": -1, "leader_epoch": 0},
                    "Fetch": {"high_watermark": 10, "log_start_offset": 0, "batches": 0, "bytes": 0}}[name]
            self.server.asked += name == "ListOffsets"
            time.sleep(0.05)
            self.request.sendall(answer(header, json.dumps(body).encode()))


def test_records_that_are_there_and_never_come_are_waited_for_no_longer_than_the_timeout():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mute) as server:
        server.asked, server.daemon_threads = 0, True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        begun = time.monotonic()
        code, out, err = consume("127.0.0.1:%d" % server.server_address[1], "t", "--from", "beginning", "--no-follow",
                                 "--timeout", "1s")
        server.shutdown()
    assert (code, out) == (1, "") and time.monotonic() - begun < 10
    assert "t/0" in err and "nothing at offset 0 of 10" in err and "1s (--timeout)" in err, err


def test_a_short_timeout_does_not_end_the_wait_for_new_records(broker):
    broker.create("t", 1)
    command = [str(BINARY), "consume", "t", "-n", "1", "--timeout", "300ms", "--server", broker.server]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1.5)
    broker.kcat("-P", "-t", "t", data=b"late\n")
    assert follower.communicate(timeout=20) == (b"late\n", b"") and follower.returncode == 0


def test_a_broker_that_stands_still_is_waited_for_no_longer_than_the_timeout(broker):
    broker.create("t", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        code, _, err = consume("127.0.0.1:%d" % silent.getsockname()[1], "t", "--no-follow", "--timeout", "1s")
    assert code == 69 and "within 1s (--timeout)" in err and time.monotonic() - begun < 10, err
