"""Which control plane is meant: contexts are small files, one of them is current."""

import json
import re
import tomllib
from pathlib import Path

import msgspec

from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.world import World

DEFAULT_SERVER = "nats://127.0.0.1:4222"
_CURRENT = "current"
_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._]{0,62}")


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """Where one control plane is found; ``http`` serves its metrics and health, if known."""

    name: str
    server: str
    http: str = ""
    description: str = ""


def _folder(world: World) -> Path:
    return world.config / "contexts"


def save(world: World, context: Context) -> None:
    """Keep *context* and make it the current one. Raises ``FailureError`` for an odd name."""
    if _NAME.fullmatch(context.name) is None:
        raise FailureError(
            Exit.USAGE, f"{context.name[:80]!r} is no name", fix="Use a-z, 0-9, '-', '.' and '_'."
        )
    folder = _folder(world)
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"server": context.server, "http": context.http, "description": context.description}
    # A JSON string is a TOML basic string too.
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in fields.items() if value]
    (folder / f"{context.name}.toml").write_text("".join(lines), encoding="utf-8")
    use(world, context.name)
    named = world.env.get("HWBUS_SERVER")
    if named:
        world.err.write(f"note: HWBUS_SERVER={named} is set, and comes before any context\n")


def use(world: World, name: str) -> None:
    """Make the context *name* current. Raises ``FailureError`` if there is none of that name."""
    load(world, name)
    (world.config / _CURRENT).write_text(name + "\n", encoding="utf-8")


def forget(world: World, name: str) -> None:
    """Drop the context *name*; nothing is current afterwards if it was."""
    (_folder(world) / f"{name}.toml").unlink(missing_ok=True)
    if current_name(world) == name:
        (world.config / _CURRENT).unlink()


def names(world: World) -> list[str]:
    """Return the names of all contexts, in order."""
    return sorted(file.stem for file in _folder(world).glob("*.toml"))


def current_name(world: World) -> str:
    """Return the name of the current context, or nothing."""
    try:
        return (world.config / _CURRENT).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def load(world: World, name: str) -> Context:
    """Return the context *name*. Raises ``FailureError`` if it is missing or cannot be read."""
    if name not in names(world):
        raise FailureError(
            Exit.NOT_FOUND, f"there is no context {name!r}", fix="hwbus context ls shows them"
        )
    path = _folder(world) / f"{name}.toml"
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert({"name": name, **fields}, Context)
    except (ValueError, msgspec.ValidationError) as error:
        raise FailureError(
            Exit.USAGE, f"{path} is no context: {error}", fix=f"Correct it, or remove {path}."
        ) from error


def resolve(world: World, server: str | None) -> Context:
    """Return what is meant: ``--server``, ``HWBUS_SERVER``, the current context, or the default."""
    if server:
        return Context(name="", server=server)
    named = world.env.get("HWBUS_SERVER")
    if named:
        return Context(name="", server=named)
    current = current_name(world)
    if current and current in names(world):
        return load(world, current)
    return Context(name="", server=DEFAULT_SERVER)
