"""What a refusal code means and what to do about it; needs no control plane."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.cli.exits import Exit, FailureError, for_refusal
from hwbus.cli.options import OPTIONS, Options
from hwbus.cli.output import print_cells, print_data, print_fields
from hwbus.cli.world import world
from schemas.limbo import Limbo
from schemas.node import Drift
from schemas.refusals import Refusal
from schemas.settling import EXPLAINED, WAYS


def explain(
    code: Annotated[
        str | None,
        Parameter(help="A code such as HW-P003, or a finding such as volume-missing."),
    ] = None,
    /,
    *,
    options: Options = OPTIONS,
) -> int:
    """Say what a refusal code, or a kind of finding, means and what to do about it."""
    kind = (code or "").lower().partition("/")[0]
    if kind in set(Drift):
        return _finding(Drift(kind), options)
    if kind.upper() in set(Limbo):
        return _in_limbo(Limbo(kind.upper()), options)
    codes = [_known(code)] if code else list(Refusal)
    items = [
        {
            "code": str(each),
            "name": each.name.lower().replace("_", "-"),
            "meaning": each.meaning,
            "fix": each.advice,
            "exit": int(for_refusal(each)),
        }
        for each in codes
    ]
    if options.output in {"json", "yaml"}:
        print_data("Refusals", items, options.output)
    elif options.output == "name":
        world().out.writelines(f"{each}\n" for each in codes)
    elif code:
        print_fields(items[0])
    else:
        print_cells(("CODE", "MEANING"), [(str(i["code"]), str(i["meaning"])) for i in items])
    return Exit.OK


def _finding(kind: Drift, options: Options) -> int:
    meaning, advice = EXPLAINED[kind]
    ways = [f"hwbus drift {verb.value}" for verb in WAYS.get(kind, ())]
    item = {"finding": kind.value, "meaning": meaning, "fix": advice, "settle": ways}
    if options.output in {"json", "yaml"}:
        print_data("Findings", [item], options.output)
    elif options.output == "name":
        world().out.write(f"{kind.value}\n")
    else:
        print_fields(item)
    return Exit.OK


def _in_limbo(code: Limbo, options: Options) -> int:
    item = {"code": code.value, "check": code.check, "meaning": code.meaning, "fix": code.advice}
    if options.output in {"json", "yaml"}:
        print_data("Findings", [item], options.output)
    elif options.output == "name":
        world().out.write(f"{code}\n")
    else:
        print_fields(item)
    return Exit.OK


def _known(code: str) -> Refusal:
    text = code.upper().replace("_", "-")
    for each in Refusal:
        if text in {each.value, each.name.replace("_", "-")}:
            return each
    raise FailureError(
        Exit.NOT_FOUND,
        f"there is no code {code[:80]!r}",
        fix="hwbus explain, without a code, lists them all.",
    )
