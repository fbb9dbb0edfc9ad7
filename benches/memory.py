#!/usr/bin/env python3
"""What an idle subscriber costs a gateway in memory: plain, with a token and sixteen streams, by TLS, by HTTP/2.

    EVERGATE_BIN=target/release/evergate benches/memory.py [subscribers] [manner ...]

For each manner a process of its own is started. What is printed is how much its private memory grew for each of the
subscribers above the first tenth, which pays for what all of them share. Nothing else is needed but Python's own library
and `openssl`.
"""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time

BINARY = os.environ.get("EVERGATE_BIN", "target/release/evergate")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("EVERGATE_")}
SECRET = b"0123456789abcdef0123456789abcdef"
# How many streams one connection carries by HTTP/2.
BY_CONNECTION = 100
OPTIONS = {
    "http.connections_max": "18900",
    "limits.newcomers_per_second": "100000",
    "limits.newcomers_burst": "100000",
    "log_output.level": "warn",
}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(client: str) -> str:
    claims = {"sub": client, "exp": int(time.time()) + 3600, "evergate": {"subscribe": ["*"], "client_id": "client-*"}}
    head = b64(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "a"}).encode())
    text = f"{head}.{b64(json.dumps(claims).encode())}"
    return f"{text}.{b64(hmac.new(SECRET, text.encode(), hashlib.sha256).digest())}"


class Gateway:
    def __init__(self, folder: pathlib.Path, settings: dict[str, str]):
        ready = folder / "ready"
        flags = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "memory"]
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        self.process = subprocess.Popen([BINARY, "dev", *flags, "--ready-file", str(ready), *sets], env=CLEAN, stdout=subprocess.DEVNULL)
        while not ready.exists():
            if self.process.poll() is not None:
                sys.exit("the gateway did not start")
            time.sleep(0.05)
        self.port = int(json.loads(ready.read_text())["http"].rsplit(":", 1)[1])

    def private(self) -> int:
        """Bytes of memory that are this process's own."""
        rollup = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return 1024 * sum(
            int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Private_Dirty:", "Private_Clean:"))
        )

    def end(self):
        self.process.kill()
        self.process.wait()


def until(stream, text: bytes):
    got = b""
    while text not in got:
        part = stream.recv(16384)
        if not part:
            sys.exit(f"the stream ended: {got!r}")
        got += part


def connect(port: int, number: int) -> socket.socket:
    stream = socket.socket()
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.bind((f"127.0.{1 + number // 250}.{1 + number % 250}", 0))
    stream.connect(("127.0.0.1", port))
    return stream


def plain(port: int, number: int, context=None):
    stream = connect(port, number)
    if context:
        stream = context.wrap_socket(stream, server_hostname="localhost")
    stream.sendall(b"GET /v1/streams/s/events?key=k HTTP/1.1\r\nHost: localhost\r\n\r\n")
    until(stream, b"evergate.open")
    return stream


def known(port: int, number: int):
    stream = connect(port, number)
    client = f"client-{number}"
    streams = "&".join(f"stream=s{at}" for at in range(16))
    head = f"GET /v1/events?{streams}&client_id={client} HTTP/1.1\r\nHost: localhost\r\n"
    stream.sendall(f"{head}Authorization: Bearer {token(client)}\r\n\r\n".encode())
    until(stream, b"evergate.open")
    return stream


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header without indexing (RFC 7541 6.2.2); both are shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def http2(port: int, number: int):
    stream = connect(port, number)
    # Settings, and windows that nobody has to wait for.
    stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
    headers = b"".join(
        literal(name, value)
        for name, value in (
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"localhost"),
            (b":path", b"/v1/streams/s/events?key=k"),
        )
    )
    opened, got = 0, b""
    for at in range(BY_CONNECTION):
        stream.sendall(frame(1, 0x5, 2 * at + 1, headers))
    while opened < BY_CONNECTION:
        part = stream.recv(65536)
        if not part:
            sys.exit("the connection ended")
        got += part
        while len(got) >= 9 and len(got) >= 9 + int.from_bytes(got[:3], "big"):
            size, kind, flags = int.from_bytes(got[:3], "big"), got[3], got[4]
            if kind == 4 and not flags & 1:
                stream.sendall(frame(4, 1, 0))
            if kind == 3 or kind == 7:
                sys.exit(f"the gateway refused: {got[9:9 + size]!r}")
            opened += kind == 0 and b"evergate.open" in got[9 : 9 + size]
            got = got[9 + size :]
    return stream


def measure(manner: str, subscribers: int) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        settings, each, open_one = dict(OPTIONS), 1, plain
        if manner == "token":
            keys = {"keys": [{"kty": "oct", "alg": "HS256", "kid": "a", "k": b64(SECRET)}]}
            (folder / "keys.json").write_text(json.dumps(keys))
            settings |= {"access.mode": "tokens", "access.keys": f"file:{folder}/keys.json"}
            open_one = known
        if manner == "tls":
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
                + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
                + ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/certificate.pem"],
                check=True,
                stderr=subprocess.DEVNULL,
            )
            settings |= {
                "http.tls": "on",
                "tls.certificate_files": f"{folder}/certificate.pem",
                "tls.key_files": f"{folder}/key.pem",
            }
            context = ssl.create_default_context(cafile=f"{folder}/certificate.pem")
            open_one = lambda port, number: plain(port, number, context)  # noqa: E731
        if manner == "http2":
            each, open_one = BY_CONNECTION, http2
        gateway = Gateway(folder, settings)
        try:
            connections, first = subscribers // each, max(subscribers // each // 10, 1)
            held = [open_one(gateway.port, number) for number in range(first)]
            time.sleep(2)
            before = gateway.private()
            held += [open_one(gateway.port, number) for number in range(first, connections)]
            time.sleep(3)
            return (gateway.private() - before) / ((connections - first) * each)
        finally:
            gateway.end()


def main():
    arguments = sys.argv[1:]
    subscribers = int(arguments.pop(0)) if arguments else 10_000
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for manner in arguments or ["plain", "token", "tls", "http2"]:
        print(f"{manner}: {measure(manner, subscribers):.0f} B a subscriber", flush=True)


if __name__ == "__main__":
    main()
