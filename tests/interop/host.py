"""What a test does to its host: file systems of its own, slow devices, processes in groups, links. Needs root.

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


class Link:
    """A network of its own for a broker, and the one wire to it, which loses every packet while it is cut."""

    # What the side of the clients drops: what goes out to the broker, what comes in from it, or both.
    HOOKS = {"requests": ["output"], "replies": ["input"], "both": ["output", "input"]}

    def __init__(self):
        number = os.getpid() % 16384
        self.name = f"rw{number}"
        subnet = f"10.213.{number // 64}"
        self.near, self.far = (f"{subnet}.{number % 64 * 4 + end}" for end in (1, 2))
        # Puts a command into that network.
        self.wrap = ["ip", "netns", "exec", self.name]

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            run("ip", "netns", "add", self.name)
            undo.callback(subprocess.run, ["ip", "netns", "del", self.name])
            run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "wire", "netns", self.name)
            run("ip", "addr", "add", f"{self.near}/30", "dev", self.name)
            run("ip", "link", "set", self.name, "up")
            run(*self.wrap, "ip", "addr", "add", f"{self.far}/30", "dev", "wire")
            for end in ("wire", "lo"):
                run(*self.wrap, "ip", "link", "set", end, "up")
            run("nft", "add", "table", "inet", self.name)
            undo.callback(subprocess.run, ["nft", "delete", "table", "inet", self.name])
            for hook in ("input", "output"):
                chain = f"{{ type filter hook {hook} priority 0 ; }}"
                run("nft", f"add chain inet {self.name} {hook} {chain}")
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *_):
        self.undo.close()

    @contextlib.contextmanager
    def cut(self, way):
        """Packets of this way are lost without a word while this lasts."""
        for hook in self.HOOKS[way]:
            end = {"input": "iifname", "output": "oifname"}[hook]
            run("nft", "add", "rule", "inet", self.name, hook, end, self.name, "drop")
        try:
            yield
        finally:
            for hook in self.HOOKS[way]:
                run("nft", "flush", "chain", "inet", self.name, hook)
