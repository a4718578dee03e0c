"""Scenarios: what happens, one after another, in a file; and what would follow from it."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from hwbus.cli.collecting import said, words_of
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import OPTIONS, Options, Point, PointInTime, parse_point
from hwbus.cli.planning import Step, foretold
from hwbus.cli.sizes import parse_size
from hwbus.cli.world import world
from schemas.refusals import Refusal
from schemas.volume import Layout, ProvisionVolume

_FILE_BYTES_MAX = 1 << 20
_STEPS_MAX = 1000
_HEADING = re.compile(r"\s*\[\[\s*step\s*\]\]")
_AT = re.compile(r"`\$\.?([^`]*)`")


class _Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    run: str


class _NodeDies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node_dies: str
    for_good: bool = False


class _DiskFails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    disk_fails: str


class _Fails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fails: str
    node: str
    code: Refusal = Refusal.TOOL_FAILED


class _Create(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    create: Annotated[int, msgspec.Meta(ge=1, le=_STEPS_MAX)]
    size: str | int
    replicas: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    layout: Literal["linear", "striped", "thin"] = "linear"
    stripes: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    pool: str | None = None
    node: str | None = None
    name: str = "planned"


_KINDS: dict[str, type[msgspec.Struct]] = {
    "run": _Run,
    "node_dies": _NodeDies,
    "disk_fails": _DiskFails,
    "create": _Create,
    "fails": _Fails,
}


class _BadFieldError(Exception):
    def __init__(self, because: str, field: str = "") -> None:
        super().__init__(because)
        self.field = field


def plan(
    file: Annotated[Path, Parameter(help="A scenario, .toml or .json; see docs/what-if.md.")],
    /,
    *,
    at: Annotated[
        PointInTime | None,
        Parameter(help="Begin there: 4711 (a sequence), 15m or a moment; else what the file says."),
    ] = None,
    options: Options = OPTIONS,
) -> int:
    """Tell what would follow from a scenario: nodes die, disks fail, volumes come.

    Nothing is changed: the rules that decide are asked on a fork of the state.
    """
    scenario = _Scenario(file, options.server)
    steps, begins = scenario.read()
    return foretold(steps, options, begins if at is None else at)


class _Scenario:
    """A file, and where in it something is wrong."""

    def __init__(self, file: Path, server: str | None) -> None:
        self._file = file
        self._server = server
        self._lines: list[str] = []

    def read(self) -> tuple[list[Step], Point | None]:
        """Return the steps, and where to begin. Raises ``FailureError`` with line and field."""
        whole = self._parsed()
        if not isinstance(whole, dict) or not isinstance(whole.get("step"), list):
            raise self._wrong("there are no steps: begin each with [[step]]")
        unknown = next((key for key in whole if key not in {"at", "step"}), None)
        if unknown is not None:
            raise self._wrong(f"{unknown!r} is no field of a scenario: there are at and step")
        steps: list[Step] = []
        for number, step in enumerate(whole["step"], start=1):
            try:
                steps += self._steps(step)
            except _BadFieldError as error:
                raise self._wrong(str(error), number, error.field) from error
            except FailureError as error:
                fix = f" {error.fix}" if error.fix else ""
                raise self._wrong(f"{error.what}.{fix}", number, "run") from error
            if len(steps) > _STEPS_MAX:
                raise self._wrong(f"there are more than {_STEPS_MAX} steps", number)
        if not steps:
            raise self._wrong("there are no steps: begin each with [[step]]")
        return steps, self._begin(whole.get("at"))

    def _parsed(self) -> Any:
        try:
            data = self._file.read_bytes()[: _FILE_BYTES_MAX + 1]
            text = data.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise FailureError(Exit.USAGE, f"{self._file} cannot be read: {error}") from error
        if len(data) > _FILE_BYTES_MAX:
            raise FailureError(Exit.USAGE, f"{self._file} is larger than 1 MiB")
        self._lines = text.splitlines()
        try:
            return json.loads(text) if self._file.suffix == ".json" else tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise FailureError(
                Exit.USAGE, f"{self._file}: {error}", fix="docs/what-if.md has examples."
            ) from error

    def _begin(self, at: Any) -> Point | None:
        if at is None or (isinstance(at, int) and not isinstance(at, bool)):
            return at
        try:
            return parse_point(str(at), world().clock.now())
        except ValueError as error:
            raise self._wrong(f"at: {error}") from error

    def _steps(self, step: Any) -> list[Step]:
        if not isinstance(step, dict):
            raise _BadFieldError("it is no table")
        kinds = [kind for kind in _KINDS if kind in step]
        if len(kinds) != 1:
            names = ", ".join(_KINDS)
            raise _BadFieldError(f"it has {kinds or 'none'}, and needs one of {names}")
        try:
            read = msgspec.convert(step, _KINDS[kinds[0]])
        except msgspec.ValidationError as error:
            place = _AT.search(str(error))
            field = place[1] if place else ""
            because = str(error).partition(" - at ")[0]
            unknown = re.search(r"unknown field `([^`]*)`", because)
            raise _BadFieldError(because, unknown[1] if unknown else field) from error
        match read:
            case _Run():
                return self._run(read)
            case _NodeDies():
                return [{"what": "node-dies", "node": read.node_dies, "for_good": read.for_good}]
            case _DiskFails():
                return [{"what": "disk-fails", "disk": read.disk_fails}]
            case _Fails():
                return [
                    {
                        "what": "work-fails",
                        "node": read.node,
                        "event": read.fails,
                        "code": read.code,
                    }
                ]
            case _Create():
                return _creations(read)
            case _:
                raise AssertionError(f"{read!r} is no step")

    def _run(self, step: _Run) -> list[Step]:
        try:
            line = shlex.split(step.run)
        except ValueError as error:
            raise _BadFieldError(f"{step.run!r}: {error}", "run") from error
        return [said(word) for word in words_of(line, self._server)]

    def _wrong(self, because: str, number: int = 0, field: str = "") -> FailureError:
        where = [str(self._file)]
        line = self._line(number, field)
        where += [f"line {line}"] if line else []
        where += [f"step {number}"] if number else []
        where += [field] if field else []
        return FailureError(
            Exit.USAGE, f"{', '.join(where)}: {because}", fix="docs/what-if.md has examples."
        )

    def _line(self, number: int, field: str) -> int:
        """Return the line of a field of a step, or of the step, or 0: only TOML has lines."""
        starts = [n for n, line in enumerate(self._lines, start=1) if _HEADING.match(line)]
        if self._file.suffix == ".json" or not 1 <= number <= len(starts):
            return 0
        first = starts[number - 1]
        last = starts[number] - 1 if number < len(starts) else len(self._lines)
        for n in range(first, last):
            if field and re.match(rf"\s*\"?{re.escape(field)}\"?\s*=", self._lines[n]):
                return n + 1
        return first


def _creations(step: _Create) -> list[Step]:
    try:
        size_bytes = step.size if isinstance(step.size, int) else parse_size(step.size)
    except ValueError as error:
        raise _BadFieldError(str(error), "size") from error
    return [
        said(
            ProvisionVolume(
                volume=f"{step.name}-{number}",
                size_bytes=size_bytes,
                layout=Layout(step.layout),
                stripes=step.stripes,
                replicas=step.replicas,
                pool=step.pool,
                node=step.node,
            )
        )
        for number in range(1, step.create + 1)
    ]
