"""The Python package httpx-sse: prints every event as one line of JSON, and reconnects as its
documentation shows, with the last id, after the wait it was asked for.

Usage: sse.py URL
"""

import json
import sys
import time

import httpx
import httpx_sse


def say(**value):
    print(json.dumps(value), flush=True)


def main(url):
    last_id, wait = "", 0.0
    with httpx.Client(timeout=httpx.Timeout(20)) as client:
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                with httpx_sse.connect_sse(client, "GET", url, headers=headers) as source:
                    for event in source.iter_sse():
                        last_id = event.id or last_id
                        wait = event.retry / 1000 if event.retry is not None else wait
                        say(event=event.event, data=event.data, id=event.id)
            except httpx.TransportError as error:
                say(event="disconnected", data=type(error).__name__, id=last_id)
            time.sleep(wait)


if __name__ == "__main__":
    main(sys.argv[1])
