"""What a test does to its host: file systems of its own, slow devices, processes in groups. Needs root.

A host that cannot do it raises `NotHere`, which fails the test: a check that did not run is not green.
"""

import contextlib
import os
import subprocess
import time
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
UNMOUNT_SECONDS = 10


class NotHere(Exception):
    """NOT RUN: the host lacks what the test needs."""


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise NotHere(f"NOT RUN: {' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextlib.contextmanager
def file_system(directory, size="1G", kind="ext4"):
    """A file system in a sparse file behind a loop device; gives its mount point and the device."""
    directory.mkdir(parents=True, exist_ok=True)
    image, mount = directory / "image", directory / "mount"
    mount.mkdir()
    run("truncate", "-s", size, image)
    with contextlib.ExitStack() as undo:
        device = run("losetup", "-f", "--show", "--direct-io=on", image)
        undo.callback(subprocess.run, ["losetup", "-d", device])
        run(f"mkfs.{kind}", "-q", device)
        run("mount", device, mount)
        undo.callback(unmount, mount)
        yield mount, device


def unmount(mount):
    """A killed process gives its files back a little later than it dies."""
    until = time.monotonic() + UNMOUNT_SECONDS
    while subprocess.run(["umount", str(mount)], capture_output=True).returncode != 0:
        if time.monotonic() > until:
            subprocess.run(["umount", "-l", str(mount)], check=True)
            return
        time.sleep(0.1)


def controller(name, file):
    """Where groups of this controller are made: the unified tree when it has it, else its own."""
    unified = CGROUP / "cgroup.controllers"
    if unified.exists() and name in unified.read_text().split():
        (CGROUP / "cgroup.subtree_control").write_text(f"+{name}")
        return CGROUP, True
    old = CGROUP / {"io": "blkio"}.get(name, name)
    if (old / file).exists():
        return old, False
    raise NotHere(f"NOT RUN: no cgroup controller {name}")


@contextlib.contextmanager
def group(name, file):
    """A control group of our own; gives its directory and whether the tree is the unified one."""
    root, unified = controller(name, file)
    made = root / f"ringway-test-{os.getpid()}-{time.monotonic_ns()}"
    made.mkdir()
    try:
        yield made, unified
    finally:
        for pid in (made / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (root / "cgroup.procs").write_text(pid)
        until = time.monotonic() + UNMOUNT_SECONDS
        while made.exists():
            try:
                made.rmdir()
            except OSError:
                assert time.monotonic() < until, f"{made} is still in use"
                time.sleep(0.05)


@contextlib.contextmanager
def slow_writes(device, pid, per_second):
    """Lets a process write to a device so many times a second; the rest waits in the kernel's queue."""
    number = os.stat(device).st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    with group("io", "blkio.throttle.write_iops_device") as (made, unified):
        if unified:
            (made / "io.max").write_text(f"{name} wiops={per_second}")
        else:
            (made / "blkio.throttle.write_iops_device").write_text(f"{name} {per_second}")
        (made / "cgroup.procs").write_text(str(pid))
        yield
