"""Credentials by reference: had when they are needed, handed to one tool's input, kept nowhere."""

import msgspec

from hwbus.bucket import Credentials
from node_workers.keys import KeySource, NoKeyError
from node_workers.ports import UnsuitableError


class NoCredentialsError(UnsuitableError):
    """There are none to be had; what it says names the reference and never the secret."""

    def __init__(self, sentence: str) -> None:
        super().__init__("no-credentials", sentence)


async def credentials(keys: KeySource, reference: str) -> bytes:
    """Return the credentials under *reference*, as JSON for a tool's input.

    Raises ``NoCredentialsError``, and ``NoKeyError`` for a source that may yet answer; what they
    say names the reference and never what is there.
    """
    try:
        secret = (await keys.key(reference)).reveal()
    except NoKeyError as error:
        if error.reason == "key-source-silent":
            raise
        raise NoCredentialsError(error.sentence) from error
    try:
        return msgspec.json.encode(msgspec.json.decode(secret, type=Credentials))
    except msgspec.MsgspecError:
        unfit = f'{reference} is not {{"access_key_id": "...", "secret_access_key": "..."}}'
        raise NoCredentialsError(unfit) from None
