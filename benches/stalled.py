#!/usr/bin/env python3
"""What a client that stops reading costs a gateway, in its own memory and in the kernel's.

    EVERGATE_BIN=target/release/evergate benches/stalled.py [clients [events [bytes]]]

So many clients open a stream and never read again, while so many events of so many bytes are published. What the kernel
holds for the server's end of each connection is read from `ss -tm`: what is queued to be sent, with its overhead, and what
is set aside for it. Beside them one client reads everything.
"""

import re
import subprocess
import sys
import tempfile
import pathlib
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from memory import OPTIONS, Gateway, connect, until  # noqa: E402

CLIENTS, EVENTS, SIZE = (int(word) for word in (sys.argv[1:] + ["200", "5000", "2000"][len(sys.argv) - 1 :])[:3])


def kernel(port: int) -> list[int]:
    """Bytes for each connection at the server's end that has something unsent."""
    told = subprocess.run(
        ["ss", "-tmnH", "state", "established", "sport", "=", f":{port}"], check=True, capture_output=True, text=True
    ).stdout
    fields = re.findall(r"skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f(\d+),w(\d+),", told)
    return [int(r) + int(f) + int(w) for r, f, w in fields if int(w) > 0]


def open_stream(port: int, number: int):
    stream = connect(port, number)
    stream.sendall(b"GET /v1/streams/s/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    until(stream, b"evergate.open")
    return stream


with tempfile.TemporaryDirectory() as folder:
    gateway = Gateway(pathlib.Path(folder), OPTIONS | {"http.stall_timeout": "10m", "retention.events": "1000"})
    try:
        reads = open_stream(gateway.port, 0)
        event = b"POST /v1/streams/s/events HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s"
        event %= (SIZE, b"x" * SIZE)
        publisher = connect(gateway.port, 1)

        def publish(count: int):
            for _ in range(count):
                publisher.sendall(event)
                until(publisher, b"}")
                reads.recv(1 << 20)

        # What the log, its rings and the publisher take is there before.
        publish(EVENTS)
        time.sleep(12)
        held = [open_stream(gateway.port, number + 2) for number in range(CLIENTS)]
        time.sleep(1)
        before = gateway.private()
        publish(EVENTS)
        time.sleep(12)
        stalled = sorted(kernel(gateway.port))
        if len(stalled) < CLIENTS:
            sys.exit(f"only {len(stalled)} of {CLIENTS} are stalled: publish more")
        middle, most = stalled[len(stalled) // 2], stalled[-1]
        own = (gateway.private() - before) / CLIENTS
        print(f"{CLIENTS} stalled clients: kernel {middle} B (most {most} B), process {own:.0f} B each")
    finally:
        gateway.end()
