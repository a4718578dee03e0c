"""A broker with the users and rights that we ship."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from hwbus.jetstream import Login
from hwbus.server import Broker, ServerSettings
from tests.support.nats import fresh_broker

USERS = Path(__file__).parents[2] / "deploy" / "nats" / "users.conf"
SECRETS = {
    f"HWBUS_{who}_PASSWORD": f"secret-of-{who.lower()}"
    for who in ("CONTROLLER", "NODE", "OPERATOR", "VIEWER", "ADMIN", "SYS", "LISTENER", "ROUTE")
}
"""Environment variables that the broker reads."""


def secret_of(user: str) -> str:
    return SECRETS[f"HWBUS_{user.upper()}_PASSWORD"]


def login(user: str, password: str = "") -> Login:
    return Login(user=user, password=password or secret_of(user))


def url_of(broker: Broker, user: str) -> str:
    return broker.url.replace("nats://", f"nats://{user}:{secret_of(user)}@")


def settings() -> ServerSettings:
    """Its environment must have SECRETS."""
    return ServerSettings(store=Path("replaced"), sync_always=False, include=USERS)


def a_broker_with_users() -> AbstractAsyncContextManager[Broker]:
    return fresh_broker(settings())
