"""What a worker is told at its start."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hwbus.subjects import BadNameError, token
from node_workers.scans import Rhythm
from node_workers.vault import odd_address

_DISKS = 4
_DISK_BYTES = 10 << 30
_KEYS = Path("/etc/hwbus/keys")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The command line, checked. ``simulated`` None: the real machine. ``http_port`` 0: none.

    Simulated machines with the same ``network`` reach each other, and can replicate.

    ``lend_host`` empty: other nodes read snapshots at ``address``, or else at the address from
    which the bus is reached; ``lend_port`` 0: at any port.

    ``keys`` is where file: references lead, to keys and to credentials; ``vault`` empty: there is
    no such server.
    """

    node: str
    nats_url: str
    state: Path
    simulated: Path | None
    network: Path | None
    disks: int
    disk_bytes: int
    address: str
    zone: str
    http_host: str
    http_port: int
    scan_every_s: float
    health_every_s: float
    latency_ms: float
    keys: Path
    vault: str
    vault_token: Path | None
    lend_host: str
    lend_port: int


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m node_workers", description="The hands of one hwbus node."
    )
    add = parser.add_argument
    add("--node", required=True, help="name of this node: a-z, 0-9 and '-'")
    add("--nats-url", required=True, help="one broker or several: nats://HOST:PORT,...")
    add("--state", required=True, type=Path, help="directory for what the worker remembers")
    add("--simulated", type=Path, help="keep a simulated machine in this directory instead")
    add("--network", type=Path, help="directory by which simulated machines reach each other")
    add("--disks", type=int, default=_DISKS, help="how many disks a new simulated machine has")
    add("--disk-size", type=int, default=_DISK_BYTES, help="their size in bytes")
    add("--latency-ms", type=float, default=0.0, help="how long each simulated tool takes")
    add("--address", default="", help="address of this node in the storage network")
    add("--lend", default="", help="HOST:PORT where other nodes read snapshots [--address:any]")
    add("--zone", default="", help="what fails together with this node")
    add("--keys", type=Path, default=_KEYS, help=f"directory of keys and credentials [{_KEYS}]")
    add("--vault", default="", help="key server that speaks like Vault, https://HOST:PORT")
    add("--vault-token", type=Path, help="file with the token for it")
    add("--http", default="", help="HOST:PORT for /livez and /metrics; nothing by default")
    add(
        "--scan-every-s",
        type=float,
        default=Rhythm().every_s,
        help="seconds between looks without a hint",
    )
    add(
        "--health-every-s",
        type=float,
        default=Rhythm().health_every_s,
        help="seconds between two questions to a disk for its health; 0: never ask",
    )
    return parser


def read(argv: Sequence[str]) -> Settings:
    """Return what *argv* (without the program) says; ends the program if it makes no sense."""
    parser = _parser()
    given = parser.parse_args(argv)
    try:
        token(given.node)
    except BadNameError as error:
        parser.error(str(error))
    host, _, port = given.http.rpartition(":")
    if given.http and not port.isdigit():
        parser.error(f"--http takes HOST:PORT, not {given.http!r}")
    lend_host, _, lend_port = given.lend.rpartition(":")
    if given.lend and not lend_port.isdigit():
        parser.error(f"--lend takes HOST:PORT, not {given.lend!r}")
    if given.network is not None and (given.simulated is None or not given.address):
        parser.error("--network needs --simulated and --address")
    if bool(given.vault) is (given.vault_token is None):
        parser.error("--vault and --vault-token need one another")
    if given.vault and (odd := odd_address(given.vault)) is not None:
        parser.error(f"--vault: {odd}")
    return Settings(
        node=given.node,
        nats_url=given.nats_url,
        state=given.state,
        simulated=given.simulated,
        network=given.network,
        disks=given.disks,
        disk_bytes=given.disk_size,
        address=given.address,
        zone=given.zone,
        http_host=host or "127.0.0.1",
        http_port=int(port) if given.http else 0,
        scan_every_s=given.scan_every_s,
        health_every_s=given.health_every_s,
        latency_ms=given.latency_ms,
        keys=given.keys,
        vault=given.vault,
        vault_token=given.vault_token,
        lend_host=lend_host.strip("[]"),
        lend_port=int(lend_port) if given.lend else 0,
    )
