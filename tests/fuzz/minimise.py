#!/usr/bin/env python3
"""Picks few inputs that together reach most edges: minimise.py CONTROL-FILE DIRECTORY

CONTROL-FILE is what libFuzzer's -merge=1 -merge_control_file wrote: inputs and the edges each reaches. What failed,
as an input that trips the canary does, has none. Called by `run --minimise`."""

import pathlib
import shutil
import sys

# The committed corpora stay small; what they leave out is found again in seconds.
INPUTS_MAX = 64


def reached(control):
    """Edges by input."""
    lines = control.read_text().splitlines()
    count = int(lines[0])
    paths = [pathlib.Path(line) for line in lines[2:2 + count]]
    edges = {}
    for line in lines[2 + count:]:
        kind, _, rest = line.partition(" ")
        if kind == "COV":
            number, *seen = map(int, rest.split())
            edges[paths[number]] = set(seen)
    return edges


def pick(edges):
    """The one that adds most, the smaller one of two, until nothing is added."""
    left = sorted(edges, key=lambda path: (path.stat().st_size, path.name))
    seen = set()
    while left:
        best = max(left, key=lambda path: len(edges[path] - seen))
        if not edges[best] - seen:
            return
        seen |= edges[best]
        left.remove(best)
        yield best


def main():
    control, directory = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    edges = reached(control)
    kept = [path for path, _ in zip(pick(edges), range(INPUTS_MAX))]
    for path in kept:
        shutil.copy(path, directory / path.name)
    every, some = set().union(*edges.values()), set().union(*(edges[path] for path in kept))
    size = sum(path.stat().st_size for path in kept)
    print(f"{len(kept)} of {len(edges)} inputs, {size} bytes, {len(some)} of {len(every)} edges")


if __name__ == "__main__":
    main()
