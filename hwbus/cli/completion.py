"""Completion for shells, with the names that live in the control plane."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from cyclopts import Parameter

from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.options import noun
from hwbus.cli.output import say
from hwbus.cli.world import world

app = noun("completion", "Completion for bash, zsh and fish.")
Known = Literal["bash", "zsh", "fish"]
Shell = Annotated[
    Known | None,
    Parameter(help="Which shell; else the one in SHELL."),
]


@app.command
def show(shell: Shell = None, /) -> int:
    """Print the script that completes hwbus."""
    world().out.write(_script(_chosen(shell)))
    return Exit.OK


@app.command
def install(shell: Shell = None, /) -> int:
    """Write the script where the shell looks for it."""
    chosen = _chosen(shell)
    path = _place(chosen)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_script(chosen), encoding="utf-8")
    say(f"written to {path}; open a new shell")
    if chosen == "zsh":
        say(f"zsh looks there if ~/.zshrc has, before compinit:  fpath=({path.parent} $fpath)")
    return Exit.OK


def _chosen(shell: Known | None) -> Known:
    if shell is not None:
        return shell
    name = Path(world().env.get("SHELL", "")).name
    for known in get_args(Known):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise FailureError(
        Exit.USAGE, f"the shell is not known: {name!r}", fix="Name it: bash, zsh or fish."
    )


def _place(shell: Known) -> Path:
    here = world()
    match shell:
        case "fish":
            return here.config.parent / "fish" / "completions" / "hwbus.fish"
        case "zsh":
            return here.home / ".zfunc" / "_hwbus"
        case _:
            data = here.directory("XDG_DATA_HOME", ".local/share").parent
            return data / "bash-completion" / "completions" / "hwbus"


def _script(shell: Known) -> str:
    from hwbus.cli.app import build

    text: str = build().generate_completion(prog_name="hwbus", shell=shell)
    return text
