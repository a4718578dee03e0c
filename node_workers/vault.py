"""Keys out of a server that speaks like Vault: one GET a key, and nothing of it is kept.

The protocol: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version
(and kv-v1, which has the fields one level higher); OpenBao speaks the same.
"""

import asyncio
import http.client
import ipaddress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from node_workers.keys import NoKeyError
from schemas.keys import Located

TIMEOUT_S = 10.0
_TOKEN_BYTES_MAX = 4096
_ANSWER_BYTES_MAX = 1 << 20
_DENIED = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class _Data(msgspec.Struct, frozen=True):
    data: dict[str, msgspec.Raw]


class VaultKeys:
    """A key a field of a secret; *token_file* is read anew each time, since tokens are renewed.

    No redirection is followed and no proxy asked, or the token would go to whoever is named.
    """

    def __init__(self, address: str, token_file: Path) -> None:
        self._address = address
        self._token_file = token_file

    async def secret(self, located: Located) -> bytes:
        """Return the field of the secret, as ``Place.secret`` promises."""
        status, body = await asyncio.to_thread(self._get, located.name, self._token())
        if status == HTTPStatus.NOT_FOUND:
            raise NoKeyError("key-missing", f"{self._address} has no secret {located.name}")
        if status in _DENIED:
            raise NoKeyError(
                "key-denied", f"{self._address} does not give {located.name}: status {status}"
            )
        if status != HTTPStatus.OK:
            raise self._silent(f"answered with status {status}")
        field = _field(body, located.field)
        if field is None:
            missing = f"{located.name} in {self._address} has no text field {located.field}"
            raise NoKeyError("key-missing", missing)
        return field.encode()

    def _token(self) -> str:
        try:
            with self._token_file.open("rb") as file:
                token = file.read(_TOKEN_BYTES_MAX).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            unread = f"the token file {self._token_file} cannot be read"
            raise NoKeyError("key-denied", unread) from error
        if not token.isprintable() or not token:
            raise NoKeyError("key-denied", f"there is no token in {self._token_file}")
        return token

    def _get(self, path: str, token: str) -> tuple[int, bytes]:
        url = urlsplit(self._address)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=TIMEOUT_S)
        try:
            headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
            connection.request("GET", f"{url.path.rstrip('/')}/v1/{path}", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(f"does not answer: {type(error).__name__}") from error
        finally:
            connection.close()

    def _silent(self, how: str) -> NoKeyError:
        return NoKeyError("key-source-silent", f"{self._address} {how}")


def odd_address(address: str) -> str | None:
    """Return why *address* is no address of a key server, or None: keys go over no open wire."""
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError:
        return f"{address!r} is no address"
    if url.scheme not in {"http", "https"} or not url.hostname or port == 0:
        return f"{address!r} is no address: write https://HOST:PORT"
    if url.username or url.password or url.query or url.fragment:
        return "an address has no user, question or fragment"
    if url.scheme == "http" and not _is_here(url.hostname):
        return f"{address!r} would send keys over an open wire: use https"
    return None


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _field(body: bytes, name: str) -> str | None:
    """Return the text of a field: of version 2, where data lies in data, else of version 1."""
    try:
        outer = msgspec.json.decode(body, type=_Data)
        try:
            fields = msgspec.json.decode(body, type=_Nested).data.data
        except msgspec.ValidationError:
            fields = outer.data
        return msgspec.json.decode(fields[name], type=str)
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError):
        return None


class _Nested(msgspec.Struct, frozen=True):
    data: _Data
