"""The tree of commands: each noun is imported when it is named, and not before."""

from collections.abc import Sequence

from cyclopts import App, CycloptsError
from cyclopts.exceptions import UnknownCommandError

from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.paint import RED, Pen
from hwbus.cli.tree import COMMANDS, HELP, HELP_WORDS, root_help
from hwbus.cli.world import World, enter

_ALIASES = {"volume": "vol", "snapshot": "snap", "schedule": "sched", "events": "event"}
_GROUPS = frozenset(
    name for name, where, _, _ in COMMANDS if where.endswith((":app", ":protections"))
) | {*_ALIASES.values()}
_INNER = frozenset({("backup", "target"), ("qos", "class")})
_TAKE_VALUE = frozenset({"-o", "--output", "--server", "--actor", "--id", "--timeout"})


def build(*, plain: bool = True) -> App:
    """Return the root of the tree; nothing below it is imported yet."""
    app = App(
        name="hwbus",
        help=HELP,
        version_flags=[],
        help_format="plaintext",
        help_formatter="plain" if plain else "default",
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    for name, where, help_, group in COMMANDS:
        app.command(
            f"hwbus.cli.{where}", name=name, alias=_ALIASES.get(name), help=help_, group=group
        )
    return app


def hoist(argv: Sequence[str]) -> list[str]:
    """Return *argv* with options that stand before the command put behind it.

    So that ``hwbus -o json volume ls`` is understood like ``hwbus volume ls -o json``.
    """
    leading: list[str] = []
    i = 0
    while i < len(argv) and argv[i].startswith("-") and argv[i] not in {"--", "--help", "-h"}:
        taken = 2 if argv[i] in _TAKE_VALUE else 1
        leading += argv[i : i + taken]
        i += taken
    rest = list(argv[i:])
    words = 2 if rest and rest[0] in _GROUPS and not "".join(rest[1:2]).startswith("-") else 1
    words += tuple(rest[:2]) in _INNER
    return [*rest[:words], *leading, *rest[words:]]


def run(argv: Sequence[str], outside: World) -> int:
    """Do what *argv* says, in the world given, and return the exit code."""
    enter(outside)
    pen = Pen(outside, outside.err)
    app = build(plain=not outside.colours(outside.out))
    if list(argv) in HELP_WORDS:
        outside.out.write(root_help())
        return Exit.OK
    try:
        # Completion is asked with the words as they stand: they must not be moved.
        words = list(argv) if argv[:1] == ["__complete"] else hoist(argv)
        result = app(["version"] if words == ["--version"] else words)
    except CycloptsError as error:
        pen.line(f"{pen.colour('error:', RED)} {error}")
        pen.line(f"  {_usage_hint(error)}")
        return Exit.USAGE
    except FailureError as failure:
        pen.line(f"{pen.colour('error:', RED)} {failure.what}")
        if failure.fix:
            pen.line(f"  {failure.fix}")
        return failure.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return result if isinstance(result, int) else Exit.OK


def _usage_hint(error: CycloptsError) -> str:
    if isinstance(error, UnknownCommandError) or not error.command_chain:
        return "hwbus --help lists the commands."
    return f"hwbus {' '.join(error.command_chain)} --help tells how it is written."
