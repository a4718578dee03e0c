"""Copies between volumes, and what gives a copied filesystem an identity of its own."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence

import msgspec

from node_workers import copier
from node_workers.borrowing import Access
from node_workers.simulated.arguments import ToolRefusal, read_arguments
from node_workers.simulated.backup_tools import BackupTools
from node_workers.simulated.devices import Device, Devices
from node_workers.simulated.model import Content, State

_TURNS = 3
_FAILED = 1


class CopyingTools:
    """The copier, and the tools that rename filesystems, over a ``State``.

    A copy takes three turns: what is in it counts after the last one.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._devices = Devices(state)
        self._backups = BackupTools(state)
        self.commands: Mapping[str, Callable[[Sequence[str]], str]] = {
            "tune2fs": self._tune2fs,
            "xfs_admin": self._xfs_admin,
        }

    def python(self, argv: Sequence[str], stdin: bytes) -> str:
        """Run the copier, or another program of ours."""
        if tuple(argv[:2]) != copier.PROGRAM:
            return self._backups.run(argv)
        given = read_arguments(
            argv[2:],
            valued=frozenset({"--bytes", "--journal", "--rate", "--for"}),
            flags=frozenset({"--sparse", "--far"}),
        )
        content = self._content(given.words[0], stdin if "--far" in given.options else None)
        target = self._open(given.words[1])
        of_bytes, journal = int(given.one("--bytes")), given.one("--journal")
        if self._state.mounts_of(target.use) or target.held:
            raise ToolRefusal(_FAILED, f"{given.words[1]}: Device or resource busy\n")
        if target.size_bytes < of_bytes:
            raise ToolRefusal(_FAILED, f"the device ends before {of_bytes}\n")
        done_bytes = min(of_bytes, self._state.copied.get(journal, 0) + -(-of_bytes // _TURNS))
        self._state.copied[journal] = done_bytes
        told = {"done_bytes": done_bytes, "of_bytes": of_bytes, "digest": ""}
        if done_bytes < of_bytes:
            raise ToolRefusal(copier.TIME_OVER, "", json.dumps(told))
        self._devices.put(target, content)
        return json.dumps(told | {"digest": "0" * 32})

    def _content(self, path: str, secret: bytes | None) -> Content:
        """Return a copy of what is to be copied, be it here or told by another machine."""
        if secret is not None:
            access = msgspec.json.decode(secret, type=Access)
            return msgspec.json.decode(access.simulated, type=Content)
        return copy.deepcopy(self._state.contents.get(self._open(path).at, Content()))

    def _tune2fs(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, valued=frozenset({"-U"}), flags=frozenset())
        return self._rename(given.word(), "ext4", given.one("-U"))

    def _xfs_admin(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, valued=frozenset({"-U"}), flags=frozenset())
        return self._rename(given.word(), "xfs", given.one("-U"))

    def _rename(self, path: str, kind: str, uuid: str) -> str:
        device = self._open(path)
        content = self._devices.content(device)
        if content.kind != kind or self._state.mounts_of(device.use):
            raise ToolRefusal(_FAILED, f"{path} is mounted, or no {kind}\n")
        content.uuid = uuid
        return ""

    def _open(self, path: str) -> Device:
        device = self._devices.find(path)
        if device is None or device.broken:
            raise ToolRefusal(_FAILED, f"{path}: No such file or directory\n")
        return device
