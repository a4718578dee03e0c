"""What a user of the event store may choose, read once from the library's environment."""

import re

import msgspec
from eventsourcing.persistence import ProgrammingError
from eventsourcing.utils import Environment, strtobool

URL = "NATS_URL"
CREDENTIALS = "NATS_CREDS"
STREAM = "NATS_STREAM"
SUBJECT = "NATS_SUBJECT"
REPLICAS = "NATS_REPLICAS"
STORAGE = "NATS_STORAGE"
INBOX = "NATS_INBOX_PREFIX"
TIMEOUT = "NATS_TIMEOUT_S"
CREATE = "CREATE_TABLE"  # the library's own word for "make what you need", whatever the store
LOG_STREAM = "HWBUS_LOG_STREAM"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,100}")
_REPLICAS_MAX = 5


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where NATS is and how the streams of one application are called.

    ``timeout_s`` bounds every single request; a whole call, with its repetitions, takes at most
    ``call_timeout_s``.
    """

    url: str = "nats://127.0.0.1:4222"
    credentials: str = ""
    stream: str = "ES"
    subject: str = "es"
    replicas: int = 1
    in_memory: bool = False
    inbox_prefix: str = "_INBOX"
    create: bool = True
    log_stream: str = "HWBUS_EVENTS"
    timeout_s: float = 5.0
    poll_s: float = 1.0

    @property
    def call_timeout_s(self) -> float:
        """The longest a caller may have to wait, in seconds."""
        return 6 * self.timeout_s


def read_settings(env: Environment) -> Settings:
    """Return the settings in *env*; a name given to *env* becomes part of the stream's name.

    Raises:
        ProgrammingError: a value is not what its variable allows.
    """
    stream = env.get(STREAM, "ES")
    if env.name:
        stream = f"{stream}_{re.sub('[^A-Za-z0-9_-]', '-', env.name).upper()}"
    storage = env.get(STORAGE, "file")
    if storage not in {"file", "memory"}:
        raise ProgrammingError(f"{STORAGE} is 'file' or 'memory', not {storage!r}")
    try:
        replicas, timeout_s = int(env.get(REPLICAS, "1")), float(env.get(TIMEOUT, "5"))
    except ValueError as error:
        raise ProgrammingError(f"{REPLICAS} and {TIMEOUT} are numbers: {error}") from error
    if not 1 <= replicas <= _REPLICAS_MAX:
        raise ProgrammingError(f"{REPLICAS} is 1 to {_REPLICAS_MAX}, not {replicas}")
    if not timeout_s > 0:
        raise ProgrammingError(f"{TIMEOUT} is more than 0, not {timeout_s}")
    return Settings(
        url=env.get(URL, "nats://127.0.0.1:4222"),
        credentials=env.get(CREDENTIALS, ""),
        stream=_token(STREAM, stream),
        subject=_token(SUBJECT, env.get(SUBJECT, "es")),
        replicas=replicas,
        in_memory=storage == "memory",
        inbox_prefix=env.get(INBOX, "_INBOX"),
        create=bool(strtobool(env.get(CREATE, "yes"))),
        log_stream=_token(LOG_STREAM, env.get(LOG_STREAM, "HWBUS_EVENTS")),
        timeout_s=timeout_s,
    )


def _token(variable: str, text: str) -> str:
    if _TOKEN.fullmatch(text) is None:
        raise ProgrammingError(f"{variable} is 1 to 100 of A-Z a-z 0-9 _ -, not {text[:80]!r}")
    return text
