"""The messages between a worker and its pool: MessagePack, sent over a ``Connection``."""

import msgspec

from candlestep.data.records.jobs import RunOutcome, RunSpec


class Begin(msgspec.Struct, frozen=True, tag=True):
    """To a worker: do this run on these candle files, and write its results to ``directory``."""

    spec: RunSpec
    candles: list[str]
    directory: str


class Stop(msgspec.Struct, frozen=True, tag=True):
    """To a worker: stop the run; ignored if it has ended already."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From a worker, once: everything that a run needs is loaded."""


class Advanced(msgspec.Struct, frozen=True, tag=True):
    """From a worker: the fraction of the run that is done, from 0 to 1."""

    fraction: float


class Ended(msgspec.Struct, frozen=True, tag=True):
    """From a worker: the outcome of the run; the worker is free for another."""

    outcome: RunOutcome


ToWorker = Begin | Stop
FromWorker = Ready | Advanced | Ended

encode = msgspec.msgpack.Encoder().encode
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode
