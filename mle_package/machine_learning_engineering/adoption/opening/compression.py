"""Compressed files of joblib's, unpacked up to a limit."""

import bz2
import gzip
import io
import lzma
import zlib

from machine_learning_engineering.adoption.opening.refusal import Malformed

MAX_UNPACKED_BYTES = 1024**3
_BLOCK = 1 << 20


def unpacked(content: bytes) -> io.BytesIO:
    """A pickle's bytes, whatever joblib has packed them with.

    Raises:
        Malformed: They are damaged, unpack to more than a gigabyte, or are packed with something else.
    """
    try:
        if content.startswith(b"\x1f\x8b"):
            return _read(gzip.GzipFile(fileobj=io.BytesIO(content)))
        if content.startswith(b"BZ"):
            return _read(bz2.BZ2File(io.BytesIO(content)))
        if content.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
            return _read(lzma.LZMAFile(io.BytesIO(content)))
        if content.startswith((b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")):
            return _inflated(content)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise Malformed(f"it can't be unpacked ({error!s:.200})") from error
    if content.startswith(b"\x04\x22\x4d\x18"):
        raise Malformed("it is packed with lz4; write it with joblib.dump(model, path, compress=3)")
    if content.startswith(b"ZF"):
        raise Malformed("it was written by a joblib older than 0.10; write it again with joblib.dump(model, path)")
    if content.startswith(b"PK"):
        raise Malformed("it is a zip file: if skops wrote it, name it .skops")
    return io.BytesIO(content)


def _read(packed: io.BufferedIOBase | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile) -> io.BytesIO:
    found = io.BytesIO()
    while block := packed.read(_BLOCK):
        _add(found, block)
    found.seek(0)
    return found


def _inflated(content: bytes) -> io.BytesIO:
    found, packer, rest = io.BytesIO(), zlib.decompressobj(), content
    while not packer.eof:
        block = packer.decompress(rest, _BLOCK)
        rest = packer.unconsumed_tail
        if not block and not rest and not packer.eof:
            raise Malformed("it can't be unpacked (it ends too early)")
        _add(found, block)
    found.seek(0)
    return found


def _add(found: io.BytesIO, block: bytes) -> None:
    found.write(block)
    if found.tell() > MAX_UNPACKED_BYTES:
        raise Malformed(f"it unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
