"""What a worker and its pool say to each other: MessagePack behind its length in four bytes."""

import struct

import msgspec

from candlestep.data.records.jobs import RunOutcome, RunSpec

HEAD = struct.Struct(">I")
"""The length of a message, in front of it."""


class Begin(msgspec.Struct, frozen=True, tag=True):
    """To a worker: run this, on the candles in these files, and write its files there."""

    spec: RunSpec
    candles: list[str]
    directory: str


class Stop(msgspec.Struct, frozen=True, tag=True):
    """To a worker: stop the run; of no account if it has ended already."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From a worker, once: all that a run needs is loaded."""


class Advanced(msgspec.Struct, frozen=True, tag=True):
    """From a worker: how much of the run is done, from 0 to 1."""

    fraction: float


class Ended(msgspec.Struct, frozen=True, tag=True):
    """From a worker: what became of the run; it takes another one now."""

    outcome: RunOutcome


ToWorker = Begin | Stop
FromWorker = Ready | Advanced | Ended

to_worker = msgspec.msgpack.Decoder(ToWorker).decode
from_worker = msgspec.msgpack.Decoder(FromWorker).decode


def framed(message: ToWorker | FromWorker) -> bytes:
    """A message as it is sent."""
    encoded = msgspec.msgpack.encode(message)
    return HEAD.pack(len(encoded)) + encoded
