"""The Python package grpcio, with code generated from our .proto: publishes in every way there is and
prints what was answered, one line of JSON for each.

Usage: publish.py HOST:PORT STREAM (with the generated code on PYTHONPATH)
"""

import json
import sys

import grpc

from evergate.publish.v1 import publish_pb2 as pb
from evergate.publish.v1 import publish_pb2_grpc


def say(**value):
    print(json.dumps(value), flush=True)


def main(address, stream):
    with grpc.insecure_channel(address) as channel:
        publisher = publish_pb2_grpc.PublisherStub(channel)

        event = pb.Event(data="one", type="t", key="k", producer=pb.Producer(id="python", seq=1))
        for _ in range(2):
            answer = publisher.Publish(pb.PublishRequest(stream=stream, event=event), timeout=20)
            say(call="publish", offset=answer.offset, duplicate=answer.duplicate)

        batch = pb.PublishBatchRequest(stream=stream, events=[pb.Event(data=f"batch {n}") for n in range(3)])
        for answer in publisher.PublishBatch(batch, timeout=20).results:
            say(call="batch", offset=answer.offset, duplicate=answer.duplicate)

        requests = (
            pb.PublishStreamRequest(stream=stream, event=pb.Event(data=f"stream {n}"), correlation=n)
            for n in range(100)
        )
        for answer in publisher.PublishStream(requests, timeout=20):
            say(call="stream", offset=answer.published.offset, correlation=answer.correlation)

        try:
            publisher.Publish(pb.PublishRequest(stream=stream, event=pb.Event(data="x", type="a\nb")), timeout=20)
        except grpc.RpcError as error:
            say(call="refused", code=error.code().name, message=error.details())


if __name__ == "__main__":
    main(*sys.argv[1:])
