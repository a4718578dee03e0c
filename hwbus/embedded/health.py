"""Asking a service how it is, over plain HTTP, without a library for it."""

import asyncio
from urllib.parse import urlsplit

_BODY_BYTES_MAX = 65_536


async def get(url: str, *, timeout_s: float = 2.0) -> tuple[int, str]:
    """Return the status and the beginning of the body that *url* answers a GET with.

    Raises:
        ConnectionError: nobody answers there in time, or what answers is no HTTP.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                ask = (
                    f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                )
                writer.write(ask.encode())
                answer = await _all(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise ConnectionError(f"{url}: {str(error) or 'no answer in time'}") from error
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not head.startswith(b"HTTP/") or not words[1].isdigit():
        raise ConnectionError(f"{url}: what answers there does not speak HTTP")
    return int(words[1]), body.decode(errors="replace")


async def _all(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    while len(answer) < _BODY_BYTES_MAX and (data := await reader.read(_BODY_BYTES_MAX)):
        answer += data
    return answer
