"""What the script that holds stable devices still does to a ``State``."""

from collections.abc import Callable, Mapping, Sequence

from node_workers.devices import DEVICE_NAME
from node_workers.simulated.arguments import ToolRefusal, UnknownToolUseError
from node_workers.simulated.model import Mapped, State
from node_workers.stillness import HOLD, LET_GO, LET_GO_EARLY, LOOK, STILL

Tool = Callable[[Sequence[str]], str]
_FAILED = 1


class StillnessTools:
    """Runs commands of *tools* while devices stand still, unless the state says ``let_go``."""

    def __init__(self, state: State, tools: Mapping[str, Tool], others: Tool) -> None:
        self._state = state
        self._tools = tools
        self._others = others
        self.commands: Mapping[str, Tool] = {"sh": self._sh, "sync": self._sync}

    def _sh(self, argv: Sequence[str]) -> str:
        if tuple(argv[:3]) == HOLD[1:]:
            return self._hold(argv[4].split())
        if tuple(argv[:3]) == LET_GO[1:]:
            return self._let_go(argv[4].split())
        if tuple(argv[:3]) != STILL[1:]:
            return self._others(argv)
        _bound, devices, *words = argv[3:]
        names = devices.split()
        try:
            for name in names:
                self._suspend(name)
            while words:
                count = int(words[0])
                tool, *rest = words[1 : count + 1]
                self._tools[tool](rest)
                words = words[count + 1 :]
        finally:
            self._resume(names)
        if names and self._state.let_go:
            raise ToolRefusal(LET_GO_EARLY, "hwbus: let go before the end, after at most 10 s\n")
        return ""

    def _hold(self, names: Sequence[str]) -> str:
        try:
            for name in names:
                self._suspend(name)
        except ToolRefusal:
            self._resume(names)
            raise
        return "4711\n"

    def _let_go(self, names: Sequence[str]) -> str:
        held = [self._state.mapped_as(name) for name in names]
        late = self._state.let_go or any(one is None or not one.suspended for one in held)
        self._resume(names)
        if late:
            raise ToolRefusal(LET_GO_EARLY, "hwbus: let go before the end\n")
        return ""

    def _resume(self, names: Sequence[str]) -> None:
        for name in names:
            if (mapped := self._state.mapped_as(name)) is not None:
                mapped.resume()

    def _suspend(self, name: str) -> None:
        mapped = self._state.mapped_as(name)
        if mapped is None:
            raise ToolRefusal(_FAILED, f"Device {name} not found\nCommand failed.\n")
        mapped.clear()
        if mapped.frozen:
            sentence = f"device-mapper: suspend ioctl on {name}  failed"
            raise ToolRefusal(_FAILED, f"{sentence}: Device or resource busy\nCommand failed.\n")
        mapped.suspended = True

    def _sync(self, argv: Sequence[str]) -> str:
        option, *targets = argv
        known = {mount.target for mount in self._state.mounts}
        if option != "-f" or not set(targets) <= known:
            raise UnknownToolUseError(f"sync {' '.join(argv)}")
        return ""


def is_look(argv: Sequence[str]) -> bool:
    """Return whether ``dmsetup info`` is asked for all devices, as the look for still ones does."""
    return tuple(argv) == LOOK[2:]


def attributes(mapped: Mapped) -> str:
    """Return what ``dmsetup info`` says of its tables, and whether it stands still."""
    return f"L{'I' if mapped.loaded_sectors else '-'}{'s' if mapped.suspended else '-'}w"


def all_devices(state: State) -> str:
    """Return what ``dmsetup info`` prints of all stable devices."""
    lines = (
        f"{one.name}|{one.uuid}|{attributes(one)}\n"
        for one in state.mapped
        if one.name.startswith(DEVICE_NAME)
    )
    return "".join(lines) or "No devices found\n"
