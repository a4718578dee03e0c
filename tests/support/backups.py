"""Devices that are files, and backups of them in a bucket in memory: the real tool, no network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from hwbus.bucket import Bucket, Where
from node_workers import backing_up
from node_workers.backup_format import CHUNK_BYTES

WHERE = Where(url="s3://bucket/prefix", endpoint="http://127.0.0.1:1")
NEVER_S = 0.0
EVER_S = 3600.0
Printed = dict[str, Any]


def file_of(path: Path, *chunks: bytes, rest: int = 0) -> Path:
    """Make a device whose chunks are filled with those bytes, and *rest* more of the last one."""
    data = b"".join(one * CHUNK_BYTES for one in chunks) + b"r" * rest
    path.write_bytes(data)
    return path


class Tool:
    """The program, run in this process on one bucket; ``open_`` may break things."""

    def __init__(self, folder: Path, capture: Callable[[], Any]) -> None:
        self.bucket = Bucket.in_memory()
        self.folder = folder
        self._capture = capture

    def run(self, verb: str, about: msgspec.Struct, seconds: float = EVER_S) -> tuple[int, Printed]:
        """Return the exit status and what was printed."""
        text = msgspec.json.encode(about).decode()
        status = backing_up.run(verb, text, seconds, lambda _: self.bucket)
        printed = self._capture().out
        return status, msgspec.json.decode(printed) if printed else {}

    def upload(
        self, device: Path, name: str = "b1", seconds: float = EVER_S, **more: Any
    ) -> tuple[int, Printed]:
        """Back up a device."""
        from node_workers.backup_upload import UploadSpec

        about = {
            "writer": f"writer-{name}",
            "device": str(device),
            "name": name,
            "cluster": "home",
            "volume": "pg",
            "volume_uid": "uid-pg",
            "size_bytes": device.stat().st_size,
            "layout": "linear",
            "filesystem": "none",
            "snapshot": f"snap-{name}",
            "snapshot_uid": f"uid-{name}",
            "consistency": "crash",
            "at": "2026-11-26T12:00:00Z",
        }
        upload = UploadSpec(**{**about, **more})
        journal = str(self.folder / f"up-{name}")
        return self.run(
            "upload", backing_up.PutSpec(where=WHERE, journal=journal, upload=upload), seconds
        )

    def restore(self, target: Path, name: str, manifest: str, **more: Any) -> tuple[int, Printed]:
        """Write a backup to a device."""
        seconds = more.pop("seconds", EVER_S)
        about = backing_up.RestoreSpec(
            where=WHERE,
            journal=str(self.folder / f"down-{target.name}"),
            name=name,
            manifest=manifest,
            device=str(target),
            **more,
        )
        return self.run("restore", about, seconds)

    def verify(self, name: str = "b1", journal: str = "verify") -> tuple[int, Printed]:
        """Read a backup."""
        about = backing_up.VerifySpec(where=WHERE, journal=str(self.folder / journal), name=name)
        return self.run("verify", about)

    def sweep(self, name: str = "", grace_s: int = 0, sweeper: str = "sw") -> tuple[int, Printed]:
        """Remove a backup, and what nobody needs."""
        journal = str(self.folder / f"sweep-{sweeper}")
        about = backing_up.SweepSpec(
            where=WHERE, journal=journal, sweeper=sweeper, name=name, grace_s=grace_s
        )
        return self.run("sweep", about)

    def chunks(self) -> list[str]:
        """Return the paths of all chunks that are stored."""
        return sorted(one.path for one in self.bucket.all("hwbus-backup-v1/chunks"))
