"""TensorBoard's event files, written without TensorBoard: records with checksums that hold a few protobuf fields.

A file is a log that grows at its end, so it is the one kind that is not replaced as a whole: a reader stops at a record
that is cut off. Formats: TFRecord (https://www.tensorflow.org/tutorials/load_data/tfrecord), event.proto and
summary.proto of TensorFlow; CRC-32C is RFC 3720's.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EventFile", "crc32c"]


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC = _crc_table()


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _CRC[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _double(number: int, value: float) -> bytes:
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


class EventFile:
    """One run's file in a folder.

    Args:
        folder: made where it is missing.
        purge_step: readers are to forget what earlier files of the folder have of this step and later ones, as when
            a training goes on from a checkpoint; default nothing.
    """

    def __init__(self, folder: str | os.PathLike[str], purge_step: int | None = None) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        host = socket.gethostname() or "host"
        while True:
            name = f"events.out.tfevents.{time.time():017.6f}.{host}.{os.getpid()}"  # readers go by this order
            try:
                self._file = open(Path(folder, name), "xb")  # noqa: SIM115 - closed by close()
                break
            except FileExistsError:
                continue
        self.path = Path(folder, name)
        self._event(0, _field(3, b"brain.Event:2"))
        if purge_step is not None:
            self._event(purge_step, _field(7, _integer(1, 1)))  # a run starts
        self.flush()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by tag."""
        found = [_field(1, _field(1, tag.encode()) + _float(2, value)) for tag, value in values.items()]
        self._event(step, _field(5, b"".join(found)))

    def histogram(self, tag: str, values: np.ndarray, step: int, bins: int = 30) -> None:
        """The distribution of an array's finite values."""
        flat = np.asarray(values, np.float64).ravel()
        flat = flat[np.isfinite(flat)]
        if not flat.size:
            return
        counts, edges = np.histogram(flat, bins)
        numbers = [(1, flat.min()), (2, flat.max()), (3, flat.size), (4, flat.sum()), (5, (flat * flat).sum())]
        message = b"".join(_double(place, float(number)) for place, number in numbers)
        message += _field(6, edges[1:].astype("<f8").tobytes()) + _field(7, counts.astype("<f8").tobytes())
        self._event(step, _field(5, _field(1, _field(1, tag.encode()) + _field(5, message))))

    def _event(self, step: int, what: bytes) -> None:
        data = _double(1, time.time()) + _integer(2, step) + what
        length = struct.pack("<Q", len(data))
        self._file.write(length + _masked(length) + data + _masked(data))

    def flush(self) -> None:
        """Let readers see everything."""
        self._file.flush()

    def close(self) -> None:
        """End the file; twice is no error."""
        self._file.close()


def _float(number: int, value: float) -> bytes:
    limit = 3.4028234663852886e38  # beyond it a float is infinite
    narrow = value if math.isnan(value) or abs(value) <= limit else math.copysign(math.inf, value)
    return _varint(number << 3 | 5) + struct.pack("<f", narrow)
