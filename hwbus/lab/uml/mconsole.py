"""User Mode Linux's management console: a request and its answer are datagrams on a unix socket."""

import asyncio
import socket
import struct
from pathlib import Path

from hwbus.lab.uml.errors import ConsoleError

_MAGIC = 0xCAFEBABE
_VERSION = 2
_REQUEST = struct.Struct("IiI512s")
_REPLY = struct.Struct("iiI")
_REQUEST_BYTES_MAX = 511


async def request(path: Path, command: str, *, timeout_s: float = 10) -> str:
    """Send `command` to the console socket at `path` and return the kernel's answer.

    Raises `ConsoleError` if the kernel refuses, cannot be reached or does not answer in time.
    """
    if len(command.encode()) > _REQUEST_BYTES_MAX:
        raise ConsoleError(f"longer than {_REQUEST_BYTES_MAX} bytes: {command}")
    return await asyncio.to_thread(_request, str(path), command.encode(), timeout_s)


def _request(path: str, command: bytes, timeout_s: float) -> str:
    answer, failed, more = b"", 0, 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as console:
        console.settimeout(timeout_s)
        console.bind("")  # an address of its own, for the answer
        try:
            console.sendto(_REQUEST.pack(_MAGIC, _VERSION, len(command), command), path)
            while more:
                reply = console.recv(4096)
                failed, more, length = _REPLY.unpack_from(reply)
                answer += reply[_REPLY.size : _REPLY.size + length].rstrip(b"\0")
        except OSError as error:
            raise ConsoleError(f"{command.decode()}: no answer from the node: {error}") from error
    if failed:
        raise ConsoleError(f"{command.decode()}: {answer.decode(errors='replace').strip()}")
    return answer.decode(errors="replace")
