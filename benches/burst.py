#!/usr/bin/env python3
"""Publishes in bursts, event by event, for the load tool: `sseload --publisher-cmd 'benches/burst.py HOST:PORT 64' ...`

Each event is a request of its own, pipelined on one connection; 64 (or the second argument) follow one another at once,
and between bursts is the time that makes up for it, so that the rate is the one asked for. The third argument is the path
with `{topic}` in it, by default Evergate's.
"""

import json
import os
import socket
import sys
import time

HOST, PORT = sys.argv[1].rsplit(":", 1)
BURST = int(sys.argv[2]) if len(sys.argv) > 2 else 64
PATH = sys.argv[3] if len(sys.argv) > 3 else "/v1/streams/{topic}/events"

count, rate = int(os.environ["SSELOAD_COUNT"]), float(os.environ["SSELOAD_RATE_TOTAL"])
prefix, topics = os.environ["SSELOAD_TOPIC_PREFIX"], int(os.environ["SSELOAD_TOPICS"])
size, first = int(os.environ["SSELOAD_PAYLOAD"]), int(os.environ["SSELOAD_FIRST_SEQ"])


def request(number):
    topic = PATH.format(topic=f"{prefix}{number % topics}")
    payload = f"{first + number // topics}:{time.time_ns()}:".encode().ljust(size, b"x")
    head = f"POST {topic} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: text/plain\r\nContent-Length: {len(payload)}\r\n\r\n"
    return head.encode() + payload


connection = socket.create_connection((HOST, int(PORT)))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
began, sent, answered, rest = time.monotonic(), 0, 0, b""
while sent < count:
    due = began + sent / rate
    time.sleep(max(due - time.monotonic(), 0))
    burst = range(sent, min(sent + BURST, count))
    for number in burst:
        connection.sendall(request(number))
    sent = burst.stop
    while answered < sent:
        part = connection.recv(65536)
        if not part:
            sys.exit("the server hung up")
        rest += part
        answered += rest.count(b"HTTP/1.1 20")
        # What is cut in two is looked at again, with what follows.
        rest = rest[-len(b"HTTP/1.1 2") :]
print(json.dumps({"published": sent}))
