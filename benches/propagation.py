#!/usr/bin/env python3
"""How long it takes until every follower of a cluster has a change: benches/propagation.py [FOLLOWERS [CHANGES]]

Three `evergate control`, and as many `evergate cluster watch` as asked for, a third at each: real processes on one
machine. A change is timed from before the command that asks for it is started (at each control node in turn) until
the last follower has printed it. The binary is $EVERGATE_BIN or the first `evergate` of the path.
"""

import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

FOLLOWERS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
CHANGES = int(sys.argv[2]) if len(sys.argv) > 2 else 100
BINARY = os.environ.get("EVERGATE_BIN") or shutil.which("evergate")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("EVERGATE_")}
PORTS = {number: 18490 + number for number in (1, 2, 3)}
GIVE_UP_S = 10


def start(arguments, output):
    return subprocess.Popen([BINARY, *arguments], stdout=output, stderr=subprocess.DEVNULL, env=CLEAN)


def control(number, folder):
    peers = ",".join(f"{of}=http://127.0.0.1:{port}" for of, port in PORTS.items())
    settings = {
        "node": f"control-{number - 1}",
        "admin.address": "127.0.0.1:0",
        "control.address": f"127.0.0.1:{PORTS[number]}",
        "control.peers": peers,
        "control.data_dir": str(pathlib.Path(folder) / str(number)),
    }
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return start(["control", *flags], subprocess.DEVNULL)


def ask(number, *words):
    server = f"http://127.0.0.1:{PORTS[number]}"
    return start(["cluster", *words, "--output", "json", "--server", server], subprocess.PIPE)


class Followers:
    """Processes that print each version as they hear of it."""

    def __init__(self, count):
        self.processes, self.versions, self.rest = [], [0] * count, [b""] * count
        self.poll = select.epoll()
        self.places = {}
        for place in range(count):
            process = ask(1 + place % 3, "watch")
            os.set_blocking(process.stdout.fileno(), False)
            self.poll.register(process.stdout.fileno(), select.EPOLLIN)
            self.places[process.stdout.fileno()] = place
            self.processes.append(process)
            if place % 20 == 19:
                time.sleep(0.3)

    def read(self, seconds, until=None):
        """Reads for so long, or until all have a version: then it tells when the last one had it."""
        deadline, last = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            for descriptor, _ in self.poll.poll(0.05):
                place, came = self.places[descriptor], os.read(descriptor, 1 << 16)
                now = time.monotonic()
                *lines, self.rest[place] = (self.rest[place] + came).split(b"\n")
                for line in lines:
                    self.versions[place] = json.loads(line)["version"]
                    last = now
            if until is not None and min(self.versions) >= until:
                return last
        return None


def main():
    with tempfile.TemporaryDirectory() as folder:
        controls = [control(number, folder) for number in PORTS]
        time.sleep(5)
        followers = Followers(FOLLOWERS)
        followers.read(5)
        took = []
        for change in range(CHANGES):
            wanted, asked = max(followers.versions) + 1, time.monotonic()
            asking = ask(1 + change % 3, "policy", "cluster", "--hysteresis-ms", str(10_000 + change))
            last = followers.read(GIVE_UP_S, wanted)
            asking.wait()
            if last is None:
                sys.exit(f"a change did not reach everybody within {GIVE_UP_S} s: {followers.versions}")
            took.append(last - asked)
            followers.read(0.2)
        took.sort()
        share = lambda of: f"{took[int((len(took) - 1) * of)] * 1000:.0f} ms"  # noqa: E731
        print(f"{FOLLOWERS} followers, {CHANGES} changes: p50 {share(0.5)}, p99 {share(0.99)}, most {share(1)}")
        for process in followers.processes + controls:
            process.terminate()
        for process in followers.processes + controls:
            process.wait()


if __name__ == "__main__":
    main()
