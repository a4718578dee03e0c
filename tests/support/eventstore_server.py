"""A real broker for tests that wait: its own directory, its own port, gone at the end."""

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_START_TIMEOUT_S = 15.0


class Broker:
    """One nats-server on loopback; it can be ended and started again over the same store."""

    def __init__(self, store: Path) -> None:
        self._store = store
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        binary = Path(sys.executable).parent / "nats-server"
        argv = [str(binary), "-js", "-a", "127.0.0.1", "-p", str(self._port)]
        argv += ["-sd", str(self._store), "-l", str(self._store / "server.log")]
        self._process = subprocess.Popen(argv)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), 0.2).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        self.stop()
        raise RuntimeError((self._store / "server.log").read_text()[-1000:])

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process = None


@contextlib.contextmanager
def broker() -> Iterator[Broker]:
    """Give a running broker, and take it away with all it stored."""
    store = Path(tempfile.mkdtemp(prefix="hwbus-eventstore-"))
    server = Broker(store)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(store, ignore_errors=True)
