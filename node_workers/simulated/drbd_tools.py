"""``drbdadm``, ``drbdmeta`` and ``drbdsetup`` of 8.4, as far as the driver runs them.

What they refuse, and in which words, is what was seen on Linux 6.1.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from node_workers.drbd_config import RESOURCE
from node_workers.drbd_legs import MARK, MARKS
from node_workers.drbd_roles import EVICT
from node_workers.drbd_tools import DRBDADM, LOOK, PUT, RESTORE
from node_workers.drbd_verify import LINE
from node_workers.simulated import drbd_files, drbd_status
from node_workers.simulated.arguments import ToolRefusal, UnknownToolUseError, read_arguments
from node_workers.simulated.devices import Device, Devices
from node_workers.simulated.drbd_kernel import DrbdKernel, Question
from node_workers.simulated.drbd_model import (
    CONNECTING,
    CONSISTENT,
    ESTABLISHED,
    STANDALONE,
    UNKNOWN,
    UP_TO_DATE,
    Leg,
    Metadata,
    metadata_bytes,
    older,
)
from node_workers.simulated.drbd_side import Side
from node_workers.simulated.model import Content, State, device_of

_NO_METADATA, _USAGE, _FAILED, _REFUSED, _STALE, _BUSY, _TOO_SMALL = 1, 1, 10, 11, 17, 20, 40
_UUIDS = re.compile(r"uuid \{ 0x(\w+); 0x(\w+); 0x(\w+); 0x(\w+); flags 0x(\w+); \}")
_NUMBER = {
    "sectors": re.compile(r"la-size-sect (\d+);"),
    "device_uuid": re.compile(r"device-uuid 0x(\w+);"),
}
_CONSISTENT, _WAS_UP_TO_DATE, _PEER_OUTDATED = 0x01, 0x10, 0x20


class HandlerNeeded(Exception):  # noqa: N818 -- no error: the kernel waits for its handler
    """A tool waits until the handler has been asked this."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.leg)
        self.question = question


class DrbdTools:
    """The tools over a ``State`` and what its kernel does by itself."""

    def __init__(self, state: State, kernel: DrbdKernel) -> None:
        self._state = state
        self._kernel = kernel
        self._devices = Devices(state)
        self._verbs: Mapping[str, Callable[[Leg], None]] = {
            "attach": self._attach,
            "secondary": self._secondary,
            "down": self._down,
            "disconnect": self._disconnect,
            "connect": self._connect,
            "resize": self._resize,
            "resume-io": self._resume,
            "verify": self._verify,
        }

    def shell(self, argv: Sequence[str], stdin: bytes, *, refused: bool) -> str | None:
        """Run one of the driver's scripts (without ``sh``), or return None: it is none of these.

        *refused*: the handler was asked, and does not let a leg go on. Raises ``HandlerNeeded``.
        """
        given = tuple(argv)
        if given == LOOK[1:]:
            return drbd_status.look(self._state)
        if given[:3] == PUT[1:]:
            self._state.files[given[3]] = stdin.decode()
            return ""
        if given == MARKS[1:]:
            begin, end = MARK.split("{}")
            marks = [
                one for one in self._state.files if one.startswith(begin) and one.endswith(end)
            ]
            return "".join(f"{one.rpartition('/')[2]}\n" for one in marks)
        if given[:3] == DRBDADM[1:]:
            return self._adm(given[3:], refused=refused)
        if given[:3] == RESTORE[1:]:
            return self.meta(given[4:], stdin)
        if given[:3] == LINE[1:]:
            return drbd_status.line(self._state, self._state.files.get(given[3]), given[4])
        return None

    def version(self, argv: Sequence[str]) -> str:
        """Run ``drbdadm`` without the script: so one only asks whether it is there."""
        if tuple(argv) != ("--version",):
            raise UnknownToolUseError(f"drbdadm {' '.join(argv)}")
        return "DRBDADM_VERSION_CODE=0x091600\nDRBDADM_VERSION=9.22.0\n"

    def setup(self, argv: Sequence[str]) -> str:
        """Run ``drbdsetup``."""
        if argv[0] != "detach" or tuple(argv[2:]) != ("--force",):
            raise UnknownToolUseError(f"drbdsetup {' '.join(argv)}")
        for leg in self._state.legs:
            if leg.minor == int(argv[1]):
                self._kernel.detach(leg)
        return ""

    def meta(self, argv: Sequence[str], stdin: bytes = b"") -> str:
        """Run ``drbdmeta``."""
        given = read_arguments(argv, flags=frozenset({"--force"}))
        minor, form, path, where, verb, *rest = given.words
        if (form, where) != ("v08", "internal"):
            raise UnknownToolUseError(f"drbdmeta {' '.join(argv)}")
        device = self._leg_device(minor, path)
        content = self._state.contents.setdefault(device.at, Content())
        if verb == "create-md":
            return self._create(device, content)
        found = content.metadata.get(device.size_bytes)
        if found is None:
            raise ToolRefusal(_NO_METADATA, "No valid meta data found\n")
        match verb, rest:
            case "read-dev-uuid", []:
                return f"{found.device_uuid:016X}\n"
            case "write-dev-uuid", [number]:
                found.device_uuid = int(number, 16)
            case "restore-md", [*_]:
                content.metadata[device.size_bytes] = _restored(stdin.decode())
            case "outdate", []:
                found.was_up_to_date = False
            case "wipe-md", []:
                del content.metadata[device.size_bytes]
            case _:
                raise UnknownToolUseError(f"drbdmeta {' '.join(argv)}")
        return ""

    def _leg_device(self, minor: str, path: str) -> Device:
        device = self._devices.find(path)
        if device is None or device.broken:
            raise ToolRefusal(_BUSY, f"open({path}) failed: No such file or directory\n")
        if device.held:
            raise ToolRefusal(_BUSY, f"Device '{minor}' is configured!\n")
        return device

    def _create(self, device: Device, content: Content) -> str:
        room_bytes = device.size_bytes - metadata_bytes(device.size_bytes)
        if content.kind and content.size_bytes > room_bytes:
            sentence = f"Device size would be truncated, which would corrupt the {content.kind}\n"
            raise ToolRefusal(_TOO_SMALL, sentence)
        content.metadata[device.size_bytes] = Metadata()
        return "New drbd meta data block successfully created.\n"

    def _adm(self, words: Sequence[str], *, refused: bool) -> str:
        given = [word for word in words if word not in {"--", "--start=0"}]
        verb, *options, name = given
        file = drbd_files.read(self._state, name)
        if file is None or not name.startswith(RESOURCE):
            raise ToolRefusal(_USAGE, f"'{name}' not defined in your config (for this host).\n")
        leg = next((leg for leg in self._state.legs if leg.name == name), None)
        if verb == "new-resource":
            self._state.legs.append(Leg(name=name, options=file.options))
            return ""
        if verb == "adjust":
            self._adjust(name, leg, file)
            return ""
        if leg is None:
            raise ToolRefusal(_FAILED, f"{name}: Failure: (158) Unknown resource\n")
        if verb == "new-minor":
            leg.minor = file.minor
        elif verb == "primary":
            self._primary(leg, refused=refused)
        elif verb == "get-gi":
            return _generations(Side(self._state, leg).metadata)
        elif verb in self._verbs:
            self._verbs[verb](leg)
            leg.discard = "--discard-my-data" in options
        else:
            raise UnknownToolUseError(f"drbdadm {' '.join(words)}")
        return ""

    def _adjust(self, name: str, leg: Leg | None, file: drbd_files.ResourceFile) -> None:
        if leg is None:
            leg = Leg(name=name, options=file.options)
            self._state.legs.append(leg)
        leg.minor = file.minor
        before, leg.options = leg.options, file.options
        if not leg.attached:
            self._attach(leg)
        elif before.sectors != file.options.sectors:
            self._kernel.resized(leg)
        ends = (before.here, before.there, before.secret)
        if ends != (file.options.here, file.options.there, file.options.secret):
            leg.options = before
            self._kernel.part(leg)
            leg.options = file.options
        if leg.connection == STANDALONE and leg.options.there:
            leg.connection = CONNECTING

    def _attach(self, leg: Leg) -> None:
        file = drbd_files.read(self._state, leg.name)
        device = None if file is None else self._devices.find(file.disk)
        if device is None or device.broken or leg.minor is None:
            raise _failure(leg, "(104) Can not open backing device.")
        found = self._devices.content(device).metadata.get(device.size_bytes)
        if found is None:
            raise _failure(leg, "(119) No valid meta-data signature found.")
        if leg.attached:
            raise _failure(leg, "(124) Device is attached to a disk")
        self._kernel.attach(leg, device.use, device.size_bytes)

    def _primary(self, leg: Leg, *, refused: bool) -> None:
        side, there = Side(self._state, leg), self._kernel.connected(leg)
        if leg.primary:
            return
        if there is not None and there.leg.primary:
            raise _state_change(leg, _REFUSED, "(-1) Multiple primaries not allowed by config")
        good = leg.disk == UP_TO_DATE or (there is not None and there.leg.disk == UP_TO_DATE)
        alone = there is None and not older(leg.peer_disk, UNKNOWN)
        if alone and leg.disk in {CONSISTENT, UP_TO_DATE} and not refused:
            raise HandlerNeeded(Question(leg=leg.name, peer=leg.options.peer, losses=leg.losses))
        if not good:
            raise _state_change(leg, _STALE, "(-2) Need access to UpToDate data")
        if alone:
            because = "(-7) Refusing to be Primary while peer is not outdated"
            raise _state_change(leg, _REFUSED, because)
        leg.primary = True
        if there is None:
            side.begin_generation()
        side.keep()

    def _secondary(self, leg: Leg) -> None:
        if leg.primary and self._is_open(leg):
            raise _state_change(leg, _REFUSED, "(-12) Device is held open by someone")
        leg.primary = leg.suspended = False
        Side(self._state, leg).keep()

    def _down(self, leg: Leg) -> None:
        self._secondary(leg)
        self._kernel.part(leg)
        Side(self._state, leg).metadata.active = []
        self._state.legs.remove(leg)

    def _disconnect(self, leg: Leg) -> None:
        self._kernel.part(leg)

    def _connect(self, leg: Leg) -> None:
        if leg.connection != STANDALONE:
            raise _failure(leg, "(125) Device has a net-config")
        leg.connection = CONNECTING

    def _resize(self, leg: Leg) -> None:
        file = drbd_files.read(self._state, leg.name)
        there = self._kernel.connected(leg)
        if not leg.primary and (there is None or not there.leg.primary):
            raise _failure(leg, "(131) Need a primary to resize")
        if file is not None:
            leg.options = msgspec.structs.replace(leg.options, sectors=file.options.sectors)
        self._kernel.resized(leg)

    def _resume(self, leg: Leg) -> None:
        Side(self._state, leg).go_on()

    def _verify(self, leg: Leg) -> None:
        there = self._kernel.connected(leg)
        if there is None or leg.replication != ESTABLISHED:
            raise _state_change(leg, _REFUSED, "(-14) Need a connection to start verify or resync")
        self._kernel.verify(leg, there)

    def _is_open(self, leg: Leg) -> bool:
        use = device_of(leg)
        # A table holds what it leads to, also while it is not in use.
        loaded = any(one.loaded_below == use for one in self._state.mapped)
        return bool(loaded or self._state.all_on_top_of(use) or self._state.mounts_of(use))


def evict(state: State, argv: Sequence[str]) -> str:
    """Have nobody use the device that ``evict.py`` is told; returns nothing if it is not run."""
    if tuple(argv[:-1]) != EVICT[1:]:
        return ""
    killed = False
    for mapped in state.mapped:
        if f"254:{mapped.minor}" == argv[-1]:
            busy = [one for one in state.mounts if one.device == mapped.uuid and one.busy]
            killed = mapped.held_open or bool(busy)
            mapped.held_open = False
            state.mounts = [
                msgspec.structs.replace(one, busy=False) if one in busy else one
                for one in state.mounts
            ]
    return "4712\n" if killed else "\n"


def _restored(dump: str) -> Metadata:
    uuids = _UUIDS.search(dump)
    if uuids is None:
        raise UnknownToolUseError(f"a dump like {dump}")
    current, bitmap, first, second, flags = (int(word, 16) for word in uuids.groups())
    sectors, device_uuid = (_NUMBER[one].search(dump) for one in ("sectors", "device_uuid"))
    return Metadata(
        device_uuid=int(device_uuid[1], 16) if device_uuid else 0,
        current=current,
        bitmap=bitmap,
        history=(first, second),
        consistent=bool(flags & _CONSISTENT),
        was_up_to_date=bool(flags & _WAS_UP_TO_DATE),
        peer_outdated=bool(flags & _PEER_OUTDATED),
        sectors=int(sectors[1]) if sectors else 0,
    )


def _generations(found: Metadata) -> str:
    numbers = (found.current, found.bitmap, *found.history)
    flags = f"{int(found.consistent)}:{int(found.was_up_to_date)}"
    return ":".join(f"{number:016X}" for number in numbers) + f":{flags}:0:0:0:0\n"


def _failure(leg: Leg, because: str) -> ToolRefusal:
    return ToolRefusal(_FAILED, f"{leg.minor}: Failure: {because}\n")


def _state_change(leg: Leg, status: int, because: str) -> ToolRefusal:
    return ToolRefusal(status, f"{leg.minor}: State change failed: {because}\n")
