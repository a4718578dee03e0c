"""No password is said aloud with the address of a broker."""

import pytest

from hwbus.addresses import without_login


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ("nats://n1:4222", "nats://n1:4222"),
        ("n1", "n1"),
        ("nats://ada:secret@n1:4222", "nats://n1:4222"),
        ("ada:secret@n1:4222", "nats://n1:4222"),
        ("tls://token@n1,tls://ada:se@cret@n2:1/x", "tls://n1,tls://n2:1/x"),
        ("nats://ada:secret@[n1", "[n1"),
    ],
)
def test_an_address_is_said_without_its_login(servers: str, said: str) -> None:
    assert without_login(servers) == said
