#!/usr/bin/env python3
"""Which lines of what it decodes each target reaches: coverage.py TOOLS DIRECTORY-OF-BINARIES TARGET…

Runs the binaries, built with -Cinstrument-coverage, over the committed corpus and what longer runs added to
it. Prints a line per target for docs/testing.md, and each file with the lines that nothing reached to
target/coverage. Called by `run --coverage`."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path("../..").resolve()
# What each target is there to decode; a folder stands for its files. Tests inside a file are not built.
DECODES = {
    "native_frame": ["shards/wire/src/header.rs", "shards/wire/src/header", "shards/wire/src/native.rs"],
    "envelope": ["shards/wire/src/native", "shards/doors/src/native.rs", "shards/doors/src/native"],
    "kafka_header": ["shards/wire/src/kafka/request_header.rs", "shards/wire/src/kafka/primitives.rs"],
    "kafka_api": [
        "shards/wire/src/kafka/shape.rs", "shards/wire/src/kafka/fetch.rs", "shards/wire/src/kafka/topic_ref.rs",
        "shards/doors/src/kafka.rs", "shards/doors/src/kafka",
    ],
    "produce": [
        "shards/wire/src/kafka/produce.rs", "shards/doors/src/kafka/produce.rs",
        "shards/partition/src/batch_rules.rs",
    ],
    "record_batch": [
        "shards/wire/src/batch.rs", "shards/wire/src/records.rs", "shards/wire/src/compression.rs",
        "shards/wire/src/varint.rs",
    ],
    "recovery": [
        "shards/log/src/scan.rs", "shards/log/src/verdict.rs", "shards/log/src/window.rs",
        "shards/log/src/payload.rs", "shards/log/src/frame.rs",
    ],
    "config": [
        "src/config.rs", "src/config", "shards/partition/src/topic_config.rs",
        "shards/partition/src/topic_settings.rs",
    ],
}


def measure(tools, binary, target):
    """What llvm-cov knows of the files that the target decodes: name and segments."""
    raw = pathlib.Path("target/measured/raw") / target
    subprocess.run(["rm", "-rf", raw], check=True)
    raw.mkdir(parents=True)
    inputs = [str(path) for folder in (f"corpus/{target}", f"target/corpus/{target}")
              for path in sorted(pathlib.Path(folder).glob("*"))]
    for at in range(0, len(inputs), 500):
        subprocess.run([binary, *inputs[at:at + 500]], check=True, capture_output=True,
                       env={"LLVM_PROFILE_FILE": f"{raw}/%p.profraw"})
    merged = raw / "all.profdata"
    subprocess.run([tools / "llvm-profdata", "merge", "-sparse", "-o", merged, *raw.glob("*.profraw")], check=True)
    export = subprocess.run([tools / "llvm-cov", "export", "--format=lcov", f"-instr-profile={merged}", binary],
                            check=True, capture_output=True, text=True)
    return len(inputs), lines(export.stdout, DECODES[target])


def lines(lcov, wanted):
    """By file, how often each line ran."""
    files, name = {}, None
    for record in lcov.splitlines():
        kind, _, rest = record.partition(":")
        if kind == "SF":
            path = pathlib.Path(rest).resolve()
            name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else None
            if name and not any(name == file or name.startswith(f"{file}/") for file in wanted):
                name = None
        elif kind == "DA" and name:
            number, count = rest.split(",")[:2]
            ran = files.setdefault(name, {})
            ran[int(number)] = max(ran.get(int(number), 0), int(count))
    assert files, f"nothing is decoded of {wanted}"
    return files


def main():
    tools, binaries = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    print("| target | inputs | lines | reached | % |\n|---|---|---|---|---|")
    pathlib.Path("target/coverage").mkdir(parents=True, exist_ok=True)
    for target in sys.argv[3:]:
        inputs, files = measure(tools, binaries / target, target)
        every = [count for ran in files.values() for count in ran.values()]
        reached = sum(1 for count in every if count)
        print(f"| `{target}` | {inputs} | {len(every)} | {reached} | {100 * reached / len(every):.1f} |", flush=True)
        told = ""
        for name, ran in sorted(files.items()):
            missed = sorted(number for number, count in ran.items() if not count)
            told += f"{name}: {len(ran) - len(missed)} of {len(ran)}, not {missed}\n"
        pathlib.Path(f"target/coverage/{target}").write_text(told)


if __name__ == "__main__":
    main()
