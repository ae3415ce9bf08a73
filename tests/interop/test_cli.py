"""The commands of the README and the metrics, as a user meets them."""

import json
import re
import subprocess
import tempfile

import pytest

from broker import BINARY, LOADGEN, ROOT


def test_native_round_trip_with_keys_and_json(broker):
    broker.cli("topic", "create", "events", "--partitions", "3", "--config", "retention.ms=3600000")
    broker.cli("produce", "events", "--key-separator", ":", data=b"a:1\nb:2\na:3\n")
    rows = [json.loads(line) for line in broker.cli(
        "consume", "events", "--from", "beginning", "--no-follow", "-o", "json").stdout.splitlines()]
    assert sorted(row["value"] for row in rows) == ["1", "2", "3"]
    keyed = [(row["partition"], row["value"]) for row in rows if row["key"] == "a"]
    assert [value for _, value in keyed] == ["1", "3"] and len({p for p, _ in keyed}) == 1
    assert b"events" in broker.cli("topic", "list").stdout
    assert len(broker.describe("events")["partitions"]) == 3
    two = broker.cli("consume", "events", "--from", "beginning", "-n", "2").stdout
    assert len(two.splitlines()) == 2
    broker.cli("topic", "delete", "events")
    assert b"events" not in broker.cli("topic", "list").stdout


def test_a_new_topic_is_usable_at_once(broker):
    """Its thousand logs are still being made when the command that ordered them returns."""
    broker.cli("topic", "create", "many", "--partitions", "1000")
    assert len(broker.describe("many")["partitions"]) == 1000
    broker.cli("topic", "create", "more", "--partitions", "1000")
    consume = ("consume", "more", "-p", "999", "--no-follow", "--from")
    assert broker.cli(*consume, "offset:0").stdout == broker.cli(*consume, "beginning").stdout == b""


def test_file_bytes_come_back_and_agree_with_the_metrics(broker, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"".join(b"line %d\n" % n for n in range(50_000)))
    broker.create("file", 1)
    broker.cli("produce", "file", str(source))
    assert broker.cli("consume", "file", "--from", "beginning", "--no-follow").stdout == source.read_bytes()
    assert broker.metric("ringway_log_appended_records_total") == 50_000


def test_metrics_pass_promtool(broker):
    broker.kcat("-P", "-t", "measured", data=b"one\n")
    done = subprocess.run(["promtool", "check", "metrics"], input=broker.metrics_text().encode(), capture_output=True)
    assert done.returncode == 0 and not done.stdout and not done.stderr, done.stderr.decode() + done.stdout.decode()


@pytest.mark.parametrize("door", ["native", "kafka"])
@pytest.mark.timeout(90)
def test_loadgen_end_to_end_validates_everything(broker, tmp_path, door):
    address = broker.server if door == "native" else broker.bootstrap
    report = tmp_path / "report.json"
    done = subprocess.run(
        [str(LOADGEN), "run", "--target", f"{door}://{address}", "--mode", "e2e", "--size", "1000", "--rate", "5000",
         "--warmup", "1s", "--duration", "2s", "--topic", f"load-{door}", "--json", str(report)],
        capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    result = json.loads(report.read_text())
    assert (result["lost"], result["duplicated"], result["reordered"]) == (0, 0, 0), result
    assert result["received"] >= 9_000, result


@pytest.mark.timeout(120)
def test_commands_of_the_readme(broker):
    """Every `sh` block marked `<!-- test -->` in README.md runs as written, with the test's ports."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"<!-- test -->\n```sh\n(.*?)```", text, re.S)
    assert len(blocks) >= 2, "the README shows a Kafka and a native quick start"
    for block in blocks:
        script = block.replace("127.0.0.1:9092", broker.bootstrap)
        script = script.replace("target/release/ringway ", f"{BINARY} ")
        with tempfile.TemporaryDirectory() as place:
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, cwd=place,
                                  timeout=60, env={"PATH": "/usr/bin:/bin", "RINGWAY_SERVER": broker.server})
            assert done.returncode == 0, script + done.stderr
            for line in re.findall(r"#=> (.*)", block):
                assert line in done.stdout, f"{line!r} not in {done.stdout!r}"
