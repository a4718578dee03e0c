"""One contract for every key source: a folder, the worker's environment, a server like Vault."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from node_workers import vault
from node_workers.keys import (
    KEY_BYTES_MAX,
    KEY_BYTES_MIN,
    VARIABLES,
    EnvironmentKeys,
    FileKeys,
    Keyring,
    NoKeyError,
    NoKeys,
    Place,
    without_keys,
)
from node_workers.vault import VaultKeys, odd_address
from schemas.keys import KeySourceKind

TOKEN = "s.a-token"
SECRET = "".join(chr(33 + number % 90) for number in range(44))


class Source:
    """A key source with keys in it that a test puts there; ``name`` makes a reference."""

    def __init__(
        self, ring: Callable[[], Keyring], put: Callable[[str, str], None], name: str
    ) -> None:
        self._ring = ring
        self.put = put
        self._name = name

    def reference(self, name: str) -> str:
        return self._name.format(name)

    def get(self, name: str) -> bytes:
        return asyncio.run(self._ring().key(self.reference(name))).reveal()

    def trouble(self, name: str) -> NoKeyError:
        with pytest.raises(NoKeyError) as caught:
            self.get(name)
        return caught.value


@contextmanager
def files(folder: Path) -> Iterator[Source]:
    def put(name: str, text: str) -> None:
        path = folder / name
        path.write_text(text)
        path.chmod(0o600)

    ring = Keyring({KeySourceKind.FILE: FileKeys(folder)})
    yield Source(lambda: ring, put, "file:{}")


@contextmanager
def environment(_: Path) -> Iterator[Source]:
    variables: dict[str, str] = {"PATH": "/bin"}

    def put(name: str, text: str) -> None:
        variables[f"{VARIABLES}{name}"] = text

    def ring() -> Keyring:
        return Keyring({KeySourceKind.ENV: EnvironmentKeys(variables)})

    yield Source(ring, put, "env:{}")


class Server(ThreadingHTTPServer):
    """Answers as Vault does for secrets of version 2 below kv/, of version 1 below old/."""

    secrets: dict[str, dict[str, Any]]
    status = 200
    asked: list[tuple[str, str]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        token = self.headers.get("X-Vault-Token", "")
        self.server.asked.append((self.path, token))
        fields = self.server.secrets.get(self.path)
        if self.server.status != 200:
            self._answer(self.server.status, {"errors": ["as the test has it"]})
        elif token != TOKEN:
            self._answer(403, {"errors": ["permission denied"]})
        elif fields is None:
            self._answer(404, {"errors": []})
        elif self.path.startswith("/v1/kv/"):
            self._answer(200, {"data": {"data": fields, "metadata": {"version": 3}}})
        else:
            self._answer(200, {"data": fields, "lease_duration": 3600})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        if status in {301, 307}:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.secrets, server.asked = {}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ring_of(server: Server, folder: Path) -> Keyring:
    token = folder / "token"
    if not token.exists():
        token.write_text(f"{TOKEN}\n")
    address = f"http://127.0.0.1:{server.server_port}"
    return Keyring({KeySourceKind.VAULT: VaultKeys(address, token)})


@contextmanager
def vaults(folder: Path) -> Iterator[Source]:
    with serving() as server:

        def put(name: str, text: str) -> None:
            server.secrets[f"/v1/kv/data/{name}"] = {"key": text, "number": 5}

        yield Source(lambda: ring_of(server, folder), put, "vault:kv/data/{}#key")


@pytest.fixture(params=[files, environment, vaults])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    with request.param(tmp_path) as source:
        yield source


def test_a_key_is_given_as_it_is_there(source: Source) -> None:
    for name, text in {"A": SECRET, "B": f"{SECRET}\n", "C": SECRET * 20}.items():
        source.put(name, text)
        assert source.get(name) == text.encode()


def test_what_is_not_there_is_missing_until_it_is_there(source: Source) -> None:
    source.put("A", SECRET)
    assert source.trouble("B").reason == "key-missing"
    source.put("B", SECRET[::-1])
    assert source.get("B") == SECRET[::-1].encode()


@pytest.mark.parametrize(
    "text",
    ["", SECRET[: KEY_BYTES_MIN - 1], "A" * KEY_BYTES_MIN, SECRET * (KEY_BYTES_MAX // 44 + 1)],
    ids=["empty", "short", "of one letter", "long"],
)
def test_what_has_not_the_strength_of_a_key_is_none_and_is_not_repeated(
    source: Source, text: str
) -> None:
    source.put("A", text)
    error = source.trouble("A")
    assert error.reason == "key-unfit"
    assert source.reference("A") in error.sentence
    assert not text or text[:8] not in error.sentence


def test_a_key_is_shown_by_nobody_by_mistake(source: Source) -> None:
    source.put("A", SECRET)
    key = asyncio.run(source._ring().key(source.reference("A")))
    assert SECRET not in f"{key} {key!r}"
    with pytest.raises(TypeError):
        {key}  # noqa: B018


@pytest.mark.parametrize(
    "reference",
    [
        *("file:../shadow", "file:/etc/shadow", "file:a/b", "file:.hidden", "file:", "file:a\n"),
        *("env:PATH=1", "env:lower", "env:", "vault:kv/data/pg", "vault:#key", "vault:a//b#key"),
        *("vault:../sys/x#key", "vault:a/../b#key", "vault:a#b#c", "vault:a?b#c", "hunter2", ""),
        *("FILE:pg", "pg", "https://vault/v1/pg#key", "file:a:b", "vault:a%2fb#key"),
    ],
)
def test_what_leads_out_of_its_place_is_no_reference(tmp_path: Path, reference: str) -> None:
    every: dict[KeySourceKind, Place] = {
        KeySourceKind.FILE: FileKeys(tmp_path),
        KeySourceKind.ENV: EnvironmentKeys({"HWBUS_KEY_PATH": SECRET}),
        KeySourceKind.VAULT: VaultKeys("http://127.0.0.1:1", tmp_path / "token"),
    }
    with pytest.raises(NoKeyError) as caught:
        asyncio.run(Keyring(every).key(reference))
    assert caught.value.reason == "bad-key-reference"
    assert not reference or reference not in caught.value.sentence


@pytest.mark.parametrize("reference", ["file:pg", "env:PG", "vault:kv/data/pg#key"])
def test_a_worker_that_was_told_of_no_source_says_so(reference: str) -> None:
    with pytest.raises(NoKeyError) as caught:
        asyncio.run(NoKeys().key(reference))
    assert caught.value.reason == "key-source-unset"


def test_a_file_that_others_may_read_or_that_is_elsewhere_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    with files(folder) as source:
        source.put("A", SECRET)
        for mode in (0o644, 0o604, 0o660, 0o602):
            (folder / "A").chmod(mode)
            assert source.trouble("A").reason == "key-exposed"
        (folder / "A").chmod(0o440)
        assert source.get("A") == SECRET.encode()
        (tmp_path / "outside").write_text(SECRET)
        (tmp_path / "outside").chmod(0o600)
        (folder / "B").symlink_to(tmp_path / "outside")
        assert source.trouble("B").reason == "key-exposed"
        (folder / "C").symlink_to("A")  # as secrets are mounted in a pod
        assert source.get("C") == SECRET.encode()
        (folder / "D").symlink_to("D")
        (folder / "E").mkdir()
        assert [source.trouble(name).reason for name in "DE"] == ["key-denied", "key-denied"]


def test_no_tool_inherits_a_key() -> None:
    variables = {"PATH": "/bin", f"{VARIABLES}PG": SECRET, "HWBUS_KEYS": "no key"}
    assert without_keys(variables) == {"PATH": "/bin", "HWBUS_KEYS": "no key"}


def reason(server: Server, folder: Path, reference: str = "vault:kv/data/pg#key") -> str:
    with pytest.raises(NoKeyError) as caught:
        asyncio.run(ring_of(server, folder).key(reference))
    assert SECRET not in caught.value.sentence
    assert TOKEN not in caught.value.sentence
    return caught.value.reason


def test_both_versions_of_secrets_are_read_and_the_token_anew_each_time(tmp_path: Path) -> None:
    with serving() as server:
        server.secrets["/v1/kv/data/pg"] = {"key": SECRET, "number": 5}
        server.secrets["/v1/old/pg"] = {"key": SECRET[::-1], "data": "a field of that name"}
        ring = ring_of(server, tmp_path)
        assert asyncio.run(ring.key("vault:kv/data/pg#key")).reveal() == SECRET.encode()
        assert asyncio.run(ring.key("vault:old/pg#key")).reveal() == SECRET[::-1].encode()
        assert reason(server, tmp_path, "vault:kv/data/pg#number") == "key-missing"
        assert reason(server, tmp_path, "vault:kv/data/pg#other") == "key-missing"
        (tmp_path / "token").write_text("an old one")
        assert reason(server, tmp_path) == "key-denied"
        (tmp_path / "token").write_text(f" {TOKEN} \n")
        assert asyncio.run(ring.key("vault:kv/data/pg#key")).reveal() == SECRET.encode()
        for text in ("", "two\nlines", "é"):
            (tmp_path / "token").write_text(text)
            assert reason(server, tmp_path) == "key-denied"


def test_only_a_silent_server_is_worth_asking_again(tmp_path: Path) -> None:
    with serving() as server:
        server.secrets["/v1/kv/data/pg"] = {"key": SECRET}
        for status, expected in {
            **dict.fromkeys((429, 500, 503, 307, 301, 204), "key-source-silent"),
            **dict.fromkeys((400, 401, 403), "key-denied"),
            404: "key-missing",
        }.items():
            server.status = status
            assert reason(server, tmp_path) == expected, status
        # A redirection is not followed: the token would go to whoever is named there.
        assert {path for path, _ in server.asked} == {"/v1/kv/data/pg"}
    assert reason(server, tmp_path) == "key-source-silent"


def test_a_server_that_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr(vault, "TIMEOUT_S", 0.05)
    (tmp_path / "token").write_text(TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        place = VaultKeys(f"http://127.0.0.1:{deaf.getsockname()[1]}", tmp_path / "token")
        with pytest.raises(NoKeyError) as caught:
            asyncio.run(Keyring({KeySourceKind.VAULT: place}).key("vault:kv/data/pg#key"))
        assert caught.value.reason == "key-source-silent"


@pytest.mark.parametrize(
    ("address", "fine"),
    [
        ("https://vault.example:8200", True),
        ("https://vault.example/path", True),
        ("http://127.0.0.1:8200", True),
        ("http://[::1]:8200", True),
        ("http://localhost", True),
        ("http://vault.example:8200", False),
        ("http://192.0.2.1:8200", False),
        ("vault.example:8200", False),
        ("https://", False),
        ("https://user:word@vault.example", False),
        ("https://vault.example?x=1", False),
        ("https://vault.example:none", False),
        ("ftp://vault.example", False),
    ],
)
def test_keys_go_over_no_open_wire(address: str, fine: bool) -> None:
    assert (odd_address(address) is None) is fine
