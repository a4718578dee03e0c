"""cryptsetup 2.6 on LUKS2, with the refusals it was seen to give; no key is ever written down."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import msgspec

from node_workers.simulated.arguments import (
    Arguments,
    ToolRefusal,
    UnknownToolUseError,
    read_arguments,
)
from node_workers.simulated.devices import Device, Devices
from node_workers.simulated.model import SECTOR_BYTES, Content, Mapped, State

LUKS = "crypto_LUKS"
_INVALID, _WRONG_KEY, _NONE, _BUSY = 1, 2, 4, 5
_SLOTS_MAX = 32
_VALUED = frozenset(
    {"--type", "--cipher", "--key-size", "--offset", "--uuid", "--label", "--pbkdf"}
    | {"--pbkdf-force-iterations", "--key-file", "--keyfile-size", "--new-keyfile-size"}
)
_FLAGS = frozenset(
    {"--batch-mode", "--allow-discards", "--test-passphrase", "--dump-json-metadata"}
)


class CryptTools:
    """cryptsetup over a ``State``; each verb returns what it would print."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._devices = Devices(state)
        self._verbs: Mapping[str, Callable[[Arguments, bytes], str]] = {
            "luksFormat": self._format,
            "luksDump": self._dump,
            "luksAddKey": self._add,
            "luksRemoveKey": self._remove,
            "luksErase": self._erase,
            "open": self._open,
            "resize": self._resize,
            "close": self._close,
        }

    def run(self, argv: Sequence[str], stdin: bytes) -> str:
        """Run ``cryptsetup`` with these arguments and that input."""
        if argv[0] == "--version":
            return "cryptsetup 2.6.1 flags: SIMULATED\n"
        if argv[0] not in self._verbs:
            raise UnknownToolUseError(f"cryptsetup {' '.join(argv)}")
        given = read_arguments(argv[1:], valued=_VALUED, flags=_FLAGS)
        if given.one("--key-file", "-") != "-":
            raise UnknownToolUseError("keys come in by the standard input only")
        return self._verbs[argv[0]](given, stdin)

    def _format(self, given: Arguments, stdin: bytes) -> str:
        device = self._device(given.word())
        if device.held or self._state.mounts_of(device.use):
            raise _in_use(given.word())
        # In batch mode the real one does not ask either: what was there is gone.
        content = Content(kind=LUKS, uuid=given.one("--uuid"), slots=[_digest(stdin)])
        self._devices.put(device, content)
        return ""

    def _dump(self, given: Arguments, _: bytes) -> str:
        content = self._header(given.word())
        slots = {str(number): {"type": "luks2"} for number, _ in enumerate(content.slots)}
        return msgspec.json.encode({"keyslots": slots}).decode()

    def _add(self, given: Arguments, stdin: bytes) -> str:
        path, from_where = given.words
        old, new = int(given.one("--keyfile-size")), int(given.one("--new-keyfile-size"))
        if from_where != "-" or len(stdin) != old + new:
            raise UnknownToolUseError("luksAddKey takes both keys from its input, by their sizes")
        content = self._unlocked(path, stdin[:old])
        if len(content.slots) == _SLOTS_MAX:
            raise ToolRefusal(_INVALID, "All key slots full.\n")
        content.slots = [*content.slots, _digest(stdin[old:])]
        return ""

    def _remove(self, given: Arguments, stdin: bytes) -> str:
        content = self._unlocked(given.word(), stdin)
        content.slots = list(content.slots)
        content.slots.remove(_digest(stdin))
        return ""

    def _erase(self, given: Arguments, _: bytes) -> str:
        self._header(given.word()).slots = []
        return ""

    def _open(self, given: Arguments, stdin: bytes) -> str:
        path, *name = given.words
        content = self._unlocked(path, stdin)
        if "--test-passphrase" in given.options:
            return ""
        device = self._device(path)
        if self._state.mapped_as(name[0]):
            raise ToolRefusal(_BUSY, f"Device {name[0]} already exists.\n")
        if device.held or self._state.mounts_of(device.use):
            raise _in_use(path)
        self._state.mapped.append(
            Mapped(
                name=name[0],
                uuid=f"CRYPT-LUKS2-{content.uuid.replace('-', '')}-{name[0]}",
                minor=self._state.fresh_minor(),
                below=device.use,
                sectors=_plain_sectors(device),
                path=path,
            )
        )
        return ""

    def _resize(self, given: Arguments, stdin: bytes) -> str:
        mapped = self._mapped(given.word())
        self._unlocked(mapped.path, stdin)
        mapped.sectors = _plain_sectors(self._device(mapped.path))
        return ""

    def _close(self, given: Arguments, _: bytes) -> str:
        mapped = self._mapped(given.word())
        used = mapped.held_open or self._state.mounts_of(mapped.uuid)
        if used or self._state.on_top_of(mapped.uuid):
            busy = f"device-mapper: remove ioctl on {mapped.name}  failed: Device or resource busy"
            raise ToolRefusal(_BUSY, f"{busy}\nDevice {mapped.name} is still in use.\n")
        self._state.mapped.remove(mapped)
        return ""

    def _mapped(self, name: str) -> Mapped:
        found = self._state.mapped_as(name)
        if found is None:
            raise ToolRefusal(_NONE, f"Device {name} is not active.\n")
        return found

    def _device(self, path: str) -> Device:
        found = self._devices.find(path)
        if found is None or found.broken:
            raise ToolRefusal(_NONE, f"Device {path} does not exist or access denied.\n")
        return found

    def _header(self, path: str) -> Content:
        content = self._devices.content(self._device(path))
        if content.kind != LUKS:
            raise ToolRefusal(_INVALID, f"Device {path} is not a valid LUKS device.\n")
        return content

    def _unlocked(self, path: str, key: bytes) -> Content:
        content = self._header(path)
        if not content.slots:
            raise ToolRefusal(_INVALID, "No usable keyslot is available.\n")
        if _digest(key) not in content.slots:
            raise ToolRefusal(_WRONG_KEY, "No key available with this passphrase.\n")
        return content


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def _plain_sectors(device: Device) -> int:
    return (device.size_bytes - (16 << 20)) // SECTOR_BYTES


def _in_use(path: str) -> ToolRefusal:
    sentence = f"Cannot use device {path} which is in use (already mapped or mounted).\n"
    return ToolRefusal(_BUSY, sentence)
