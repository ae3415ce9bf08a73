#!/usr/bin/env python3
"""A report, no gate: where the house has grown. Longest files and functions, asserts, expects, share of tests."""

import re
import subprocess
from collections import Counter
from pathlib import Path

CRATES = ["shards/wire", "shards/log", "shards/partition", "shards/doors", "shards/runtime", "shards/sim",
          "clients/rust", "loadgen", "tuning", "src"]
FUNCTION = re.compile(r"^(\s*)(?:pub(?:\([^)]*\))?\s+)?(?:const\s+|async\s+|unsafe\s+)*fn\s+(\w+)")


def functions(lines):
    start = None
    for number, line in enumerate(lines):
        found = FUNCTION.match(line)
        if found and start is None:
            start = (number, found.group(1), found.group(2))
        if start and line.rstrip() == start[1] + "}":
            yield start[2], number - start[0] + 1, start[0] + 1
            start = None


def main():
    names = subprocess.run(["git", "ls-files", "*.rs"], capture_output=True, text=True, check=True).stdout.split()
    longest, expects = [], Counter()
    print(f"{'crate':18} {'files':>5} {'lines':>6} {'tests%':>6} {'fn p95':>6} {'asserts/fn':>10}")
    for crate in CRATES:
        sizes, lengths, asserts, shipped, tested = [], [], 0, 0, 0
        for name in (one for one in names if one.startswith(crate + "/")):
            text = Path(name).read_text()
            body, _, tests = text.partition("#[cfg(test)]\nmod tests {")
            if "/tests/" in name or name.endswith("tests.rs"):
                body, tests = "", text
            lines = body.split("\n")
            shipped += len(lines)
            tested += tests.count("\n")
            sizes.append((len(lines), name))
            asserts += len(re.findall(r"\bassert(?:_eq|_ne)?!", body))
            expects.update(re.findall(r"#!?\[expect\(\s*([\w:]+)", body))
            for function, length, at in functions(lines):
                lengths.append(length)
                longest.append((length, f"{name}:{at} {function}"))
        if not sizes:
            continue
        lengths.sort()
        p95 = lengths[int(len(lengths) * 0.95)] if lengths else 0
        share = 100 * tested / max(1, shipped + tested)
        print(f"{crate:18} {len(sizes):5} {shipped:6} {share:6.0f} {p95:6} {asserts / max(1, len(lengths)):10.2f}")
        for size, name in sorted(sizes, reverse=True)[:2]:
            if size > 400:
                print(f"    {size:5} lines {name}")
    print("longest functions:")
    for length, place in sorted(longest, reverse=True)[:12]:
        print(f"    {length:4} {place}")
    print("exceptions:", ", ".join(f"{lint} {count}" for lint, count in expects.most_common()))


if __name__ == "__main__":
    main()
