"""Device mapper, links and control groups, with the refusals that Linux 6.1 was seen to give."""

from collections.abc import Callable, Mapping, Sequence

from node_workers.devices import INFO
from node_workers.drbd_roles import MAJOR
from node_workers.limits import CGROUPS, WRITE
from node_workers.simulated.arguments import ToolRefusal, UnknownToolUseError, read_arguments
from node_workers.simulated.model import Lv, Mapped, State, device_of
from node_workers.simulated.stillness_tools import all_devices, attributes, is_look
from node_workers.tools import REMOVE

DRBD_VERSION = "/sys/module/drbd/version"
_FAILED = 1


class MappingTools:
    """Tools on stable devices over a ``State``; each returns what it would print."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.commands: Mapping[str, Callable[[Sequence[str]], str]] = {
            "dmsetup": self._dmsetup,
            "mkdir": self._mkdir,
            "ln": self._ln,
            "rm": self._rm,
            "realpath": self._realpath,
            "cat": self._cat,
            "sh": self._sh,
            "modprobe": self._modprobe,
        }
        self._verbs: Mapping[str, Callable[[Sequence[str]], str]] = {
            "info": self._info,
            "table": self._table,
            "create": self._create,
            "load": self._load,
            "clear": self._clear,
            "resume": self._resume,
            "suspend": self._suspend,
            "remove": self._remove,
            "targets": self._targets,
        }

    def _dmsetup(self, argv: Sequence[str]) -> str:
        if argv[0] not in self._verbs:
            raise UnknownToolUseError(f"dmsetup {' '.join(argv)}")
        return self._verbs[argv[0]](argv[1:])

    def _info(self, argv: Sequence[str]) -> str:
        if is_look(argv):
            return all_devices(self._state)
        if tuple(argv[:-1]) != INFO[2:]:
            raise UnknownToolUseError(f"dmsetup info {' '.join(argv)}")
        found = self._mapped(argv[-1])
        users = len(self._state.mounts_of(found.uuid)) + int(self._is_held(found))
        return f"{found.uuid}|254|{found.minor}|{attributes(found)}|{users}\n"

    def _table(self, argv: Sequence[str]) -> str:
        found = self._mapped(read_arguments(argv, flags=frozenset()).word())
        below = next(number for number, use in self._numbers() if use == found.below)
        if found.is_crypt:
            key = f":64:logon:cryptsetup:{found.uuid}"
            return f"0 {found.sectors} crypt aes-xts-plain64 {key} 0 {below} 32768\n"
        return f"0 {found.sectors} linear {below} 0\n"

    def _targets(self, argv: Sequence[str]) -> str:
        read_arguments(argv, flags=frozenset())
        return "crypt            v1.24.0\nlinear           v1.4.0\n"

    def _modprobe(self, argv: Sequence[str]) -> str:
        module = read_arguments(argv, flags=frozenset({"--quiet"})).word()
        self._state.drbd_loaded = self._state.drbd_loaded or module == "drbd"
        return ""

    def _create(self, argv: Sequence[str]) -> str:
        given = read_arguments(
            argv,
            valued=frozenset({"--uuid", "--table"}),
            flags=frozenset({"--readonly", "--verifyudev"}),
        )
        name, sectors, below = given.word(), *self._line(given.one("--table"))
        # Devices of its own kind device mapper lets lie beside one another.
        held = {one.uuid for vg in self._state.vgs for one in vg.lvs if one.held_open}
        held |= {one.uuid for one in self._state.mapped if one.held_open}
        used = below in held or self._state.mounts_of(below) or self._state.legs_on(below)
        if used or self._state.mapped_as(name):
            sentence = f"device-mapper: create ioctl on {name} {given.one('--uuid')} failed"
            raise ToolRefusal(_FAILED, f"{sentence}: Device or resource busy\nCommand failed.\n")
        mapped = Mapped(
            name=name,
            uuid=given.one("--uuid"),
            minor=self._state.fresh_minor(),
            below=below,
            sectors=sectors,
            read_only="--readonly" in given.options,
        )
        self._state.mapped.append(mapped)
        self._state.count_anew(mapped.uuid)
        return ""

    def _load(self, argv: Sequence[str]) -> str:
        given = read_arguments(argv, valued=frozenset({"--table"}), flags=frozenset())
        found, (sectors, below) = self._mapped(given.word()), self._line(given.one("--table"))
        found.loaded_sectors, found.loaded_below = sectors, below
        return ""

    def _resume(self, argv: Sequence[str]) -> str:
        self._mapped(read_arguments(argv, flags=frozenset()).word()).resume()
        return ""

    def _clear(self, argv: Sequence[str]) -> str:
        self._mapped(read_arguments(argv, flags=frozenset()).word()).clear()
        return ""

    def _suspend(self, argv: Sequence[str]) -> str:
        self._mapped(read_arguments(argv, flags=frozenset()).word()).suspended = True
        return ""

    def _remove(self, argv: Sequence[str]) -> str:
        found = self._mapped(read_arguments(argv, flags=frozenset({"--retry"})).word())
        if self._is_held(found) or self._state.mounts_of(found.uuid):
            sentence = f"device-mapper: remove ioctl on {found.name}  failed"
            raise ToolRefusal(_FAILED, f"{sentence}: Device or resource busy\nCommand failed.\n")
        self._state.mapped.remove(found)
        self._state.moved.pop(found.uuid, None)
        for cgroup in self._state.cgroups.values():
            cgroup.io_max.pop(f"254:{found.minor}", None)
        return ""

    def _mapped(self, name: str) -> Mapped:
        found = self._state.mapped_as(name)
        if found is None:
            raise ToolRefusal(_FAILED, "Device does not exist.\nCommand failed.\n")
        return found

    def _is_held(self, mapped: Mapped) -> bool:
        return mapped.held_open or self._state.on_top_of(mapped.uuid) is not None

    def _numbers(self) -> list[tuple[str, str]]:
        """Return all that a device can lie on, by number."""
        things: list[Lv | Mapped] = [lv for vg in self._state.vgs for lv in vg.lvs if lv.active]
        things += self._state.mapped
        found = [(f"254:{one.minor}", one.uuid) for one in things]
        return found + [(f"{MAJOR}:{leg.minor}", device_of(leg)) for leg in self._state.legs]

    def _line(self, table: str) -> tuple[int, str]:
        start, sectors, kind, number, offset = table.split()
        found = next((use for one, use in self._numbers() if one == number), None)
        if (start, kind, offset) != ("0", "linear", "0") or found is None:
            raise UnknownToolUseError(f"a table like {table}")
        return int(sectors), found

    def _mkdir(self, argv: Sequence[str]) -> str:
        read_arguments(argv, flags=frozenset({"-p"})).word()
        return ""

    def _ln(self, argv: Sequence[str]) -> str:
        target, link = read_arguments(argv, flags=frozenset({"-sfn"})).words
        self._state.links[link] = target
        return ""

    def _rm(self, argv: Sequence[str]) -> str:
        for path in read_arguments(argv, flags=frozenset({"-f"})).words:
            self._state.links.pop(path, None)
            self._state.copied.pop(path, None)
            self._state.files.pop(path, None)
        return ""

    def _realpath(self, argv: Sequence[str]) -> str:
        path = read_arguments(argv, flags=frozenset({"-m"})).word()
        return f"{self._state.links.get(path, path)}\n"

    def _cat(self, argv: Sequence[str]) -> str:
        path = read_arguments(argv, flags=frozenset()).word()
        if path == DRBD_VERSION and self._state.drbd_loaded:
            return "8.4.11\n"
        name, _, file = path.removeprefix(f"{CGROUPS}/").rpartition("/")
        cgroup = self._state.cgroups.get(name)
        limits = cgroup is not None and "io" in cgroup.controllers
        if cgroup is not None and file == "cgroup.controllers":
            return " ".join(cgroup.controllers) + "\n"
        if cgroup is None or not limits or file != "io.max":
            raise ToolRefusal(_FAILED, f"cat: {path}: No such file or directory\n")
        return "".join(f"{number} {line}\n" for number, line in cgroup.io_max.items())

    def _sh(self, argv: Sequence[str]) -> str:
        if tuple(argv[: len(REMOVE) - 1]) == REMOVE[1:]:
            return self._rm(("-f", *argv[len(REMOVE) - 1 :]))
        *script, line, path = argv
        if tuple(script) != WRITE[1:]:
            raise UnknownToolUseError(f"sh {' '.join(argv)}")
        cgroup = self._state.cgroups.get(path.removeprefix(f"{CGROUPS}/").removesuffix("/io.max"))
        number, _, limits = line.partition(" ")
        known = {f"254:{mapped.minor}" for mapped in self._state.mapped}
        odd = any(limit.partition("=")[2] in {"0", "1"} for limit in limits.split())
        if cgroup is None or number not in known or odd:
            raise ToolRefusal(_FAILED, "hwbus: 1: printf: printf: I/O error\n")
        if all(limit.endswith("=max") for limit in limits.split()):
            cgroup.io_max.pop(number, None)
        else:
            cgroup.io_max[number] = limits
        return ""
