"""Where a broker is, as one may say it aloud."""

from urllib.parse import urlsplit, urlunsplit


def without_login(servers: str) -> str:
    """Return *servers*, addresses with commas between them, without users and passwords."""
    return ",".join(map(_bare, servers.split(",")))


def _bare(server: str) -> str:
    if "@" not in server:
        return server
    try:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
    except ValueError:
        return server.rpartition("@")[2]  # no address, but it may hold a password all the same
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
