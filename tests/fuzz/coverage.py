#!/usr/bin/env python3
"""Which lines of what it decodes each target reaches, and all of them together: coverage.py TOOLS BINARIES TARGET…

Runs the binaries, built with -Cinstrument-coverage, over the committed corpus and what longer runs added to
it. Prints the table of docs/testing.md, and writes to target/coverage each file's lines that no target reached. Called by
`run --coverage`."""

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
    """How many inputs there are, and what llvm-cov knows of all that is decoded after a run over them."""
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
    return len(inputs), lines(export.stdout)


def lines(lcov):
    """By file, how often each line ran."""
    files, name = {}, None
    for record in lcov.splitlines():
        kind, _, rest = record.partition(":")
        if kind == "SF":
            path = pathlib.Path(rest).resolve()
            name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else None
            if not any(name and is_of(name, wanted) for wanted in DECODES.values()):
                name = None
        elif kind == "DA" and name:
            number, count = rest.split(",")[:2]
            ran = files.setdefault(name, {})
            ran[int(number)] = max(ran.get(int(number), 0), int(count))
    return files


def is_of(name, wanted):
    return any(name == file or name.startswith(f"{file}/") for file in wanted)


def main():
    tools, binaries = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    pathlib.Path("target/coverage").mkdir(parents=True, exist_ok=True)
    measured, by_any = {}, {}
    for target in sys.argv[3:]:
        inputs, measured[target] = measure(tools, binaries / target, target)
        print(f"{target}: {inputs} inputs", file=sys.stderr)
        for name, ran in measured[target].items():
            reached = by_any.setdefault(name, set())
            reached.update(number for number, count in ran.items() if count)
    print("| target | file | lines | % reached by it | % reached by any |\n|---|---|---|---|---|")
    for target, files in measured.items():
        decoded = {name: ran for name, ran in sorted(files.items()) if is_of(name, DECODES[target])}
        assert decoded, f"nothing is decoded of {DECODES[target]}"
        told = ""
        for name, ran in decoded.items():
            missed = sorted(set(ran) - by_any[name])
            own = sum(1 for count in ran.values() if count)
            print(f"| `{target}` | `{name}` | {len(ran)} | {100 * own / len(ran):.0f} "
                  f"| {100 * (len(ran) - len(missed)) / len(ran):.0f} |")
            told += f"{name}: {missed}\n"
        pathlib.Path(f"target/coverage/{target}").write_text(told)


if __name__ == "__main__":
    main()
