"""The login by which logins are heard: one of the broker's system account, in a file."""

import stat
from pathlib import Path

from hwbus.jetstream import Login

_OTHERS = 0o077
_CREDENTIALS = "-----BEGIN NATS USER JWT-----"


class SystemLoginError(Exception):
    """The file cannot be used; the message says why and what to do. It never holds a secret."""


def system_login(path: Path) -> Login:
    """Return what *path* holds: a line ``USER:PASSWORD``, or a NATS credentials file.

    Raises:
        SystemLoginError: it cannot be read, others can read it, or it holds neither.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemLoginError(f"the login {path} cannot be read: {error}") from error
    if stat.S_IMODE(mode) & _OTHERS:
        raise SystemLoginError(f"others may read the login {path}: chmod 600 {path}")
    if text.lstrip().startswith(_CREDENTIALS):
        return Login(creds_file=path)
    user, colon, password = text.strip().partition(":")
    if not (user and colon and password) or "\n" in password:
        raise SystemLoginError(f"{path} holds no line USER:PASSWORD, nor NATS credentials")
    return Login(user=user, password=password)
