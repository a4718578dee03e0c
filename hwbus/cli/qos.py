"""Quality of service: how fast volumes may be used, each by itself or as its class allows."""

from typing import Annotated, Any

from cyclopts import Parameter

from hwbus.cli.attaching import Iops, Rate
from hwbus.cli.cells import Row
from hwbus.cli.changing import change
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.nouns import AtClass, QosClassName, VolumeName
from hwbus.cli.options import CHANGE, OPTIONS, VIEWING, Change, Deadline, Options, Viewing, noun
from hwbus.cli.output import heading, print_data, print_fields, print_table
from hwbus.cli.paint import clean
from hwbus.cli.reading import listing, one, rest, show_row
from hwbus.cli.session import conversation, print_call, run
from hwbus.cli.tables import BEHIND
from hwbus.cli.world import world
from hwbus.client import query_call
from schemas.attaching import LimitVolume
from schemas.attachment import Limits
from schemas.qos import ChangeQosClass, CreateQosClass, DeleteQosClass

app = noun("qos", "How fast volumes may be used, by class or each by itself.")
classes = noun("class", "Limits with a name, for as many volumes as are given it.")
app.command(classes)

_SOME_LIMIT = "Name at least one limit, such as --write-iops 200 or --read-bytes 20MiB/s."
NewClass = Annotated[str, Parameter(help="What to call it.")]


def _limits(
    read_iops: int | None, write_iops: int | None, read_bytes: int | None, write_bytes: int | None
) -> Limits:
    return Limits(
        read_iops=read_iops,
        write_iops=write_iops,
        read_bytes_per_s=read_bytes,
        write_bytes_per_s=write_bytes,
    )


@app.command(name="set")
def set_(
    name: VolumeName,
    /,
    *,
    qos: AtClass = None,
    read_iops: Iops = None,
    write_iops: Iops = None,
    read_bytes: Rate = None,
    write_bytes: Rate = None,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Give a volume a class, or limits of its own; what is said last counts, and counts alone."""
    limits = _limits(read_iops, write_iops, read_bytes, write_bytes)
    if limits.any is (qos is not None):
        raise FailureError(
            Exit.USAGE,
            "a class and limits contradict one another" if qos else "no limit was named",
            fix="Name a class alone, with --class NAME." if qos else f"{_SOME_LIMIT} Or a --class.",
        )
    return change(
        LimitVolume(volume=name, limits=limits, qos=qos, deadline_s=deadline), options, how
    )


@app.command
def unset(
    name: VolumeName,
    /,
    *,
    deadline: Deadline = 600,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Take class and limits from a volume: it may be used as fast as it goes."""
    return change(LimitVolume(volume=name, deadline_s=deadline), options, how)


@app.command
def show(name: VolumeName, /, *, options: Viewing = VIEWING) -> int:
    """Show the limits that a volume shall have, and those that the kernel has, since when."""
    if options.show_call:
        return print_call(query_call("volume", {"name": name}), options)
    return run(_show(name, options))


async def _show(name: str, options: Options) -> int:
    async with conversation(options) as client:
        page, row = await one(client, "volume", {"name": name}, f"volume {name[:80]!r}", options)
        object_ = f"attachment/{row.get('node')}/{name}"
        findings = (await rest(client, "drift", {"object": object_}, page)).items
    told = _told(row, str(findings[0].get("observed") or "it differs") if findings else "")
    if options.output in {"json", "yaml"}:
        print_data("Qos", [told], options.output, seq=page.seq)
    elif options.output == "name":
        world().out.write(f"volume/{clean(name)}\n")
    else:
        print_fields(told, everything=True)
    return Exit.OK


def _told(row: Row, finding: str) -> Row:
    """Return what is known of the limits of a volume; ``applied`` only if its node has said so."""
    wanted, kernel = row.get("wanted_limits") or {}, row.get("kernel_limits")
    code = row.get("code")
    if not row.get("consumer"):
        state = "unattached"
    elif finding or (kernel != wanted and code):
        state = "alarm"
    else:
        state = "applied" if kernel == wanted else "changing"
    about = {key: row.get(key) for key in ("node", "consumer", "cgroup", "qos", "operation")}
    told: dict[str, Any] = {"volume": row.get("name"), "state": state, **about}
    told |= {"wanted_limits": wanted, "kernel_limits": kernel or {}}
    told |= {"kernel_since": row.get("kernel_since"), "code": code}
    return told | {"why": finding or row.get("why")}


@classes.command(name="ls", alias="list")
def ls(*, options: Viewing = VIEWING) -> int:
    """List the classes, and how many volumes carry the limits of each."""
    return listing("qos", {}, options)


@classes.command(name="show")
def show_class(name: QosClassName, /, *, options: Viewing = VIEWING) -> int:
    """Show one class, the volumes that have it, and those that do not carry its limits yet."""
    if options.show_call:
        return print_call(query_call("qos", {"name": name}), options)
    return run(_show_class(name, options))


async def _show_class(name: str, options: Options) -> int:
    async with conversation(options) as client:
        page, row = await one(client, "qos", {"name": name}, f"QoS class {name[:80]!r}", options)
        if options.output in {"table", "wide"}:
            print_fields(row, hide=("behind",), everything=options.output == "wide")
            if row.get("behind"):
                heading("Not yet")
                print_table(BEHIND, row["behind"])
        else:
            show_row("qos", page, options)
    return Exit.OK


@classes.command
def create(
    name: NewClass,
    /,
    *,
    read_iops: Iops = None,
    write_iops: Iops = None,
    read_bytes: Rate = None,
    write_bytes: Rate = None,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Give limits a name: hwbus qos set VOLUME --class NAME gives them to a volume."""
    limits = _limits(read_iops, write_iops, read_bytes, write_bytes)
    return change(CreateQosClass(qos=name, limits=limits), options, how)


@classes.command(name="set")
def set_class(
    name: QosClassName,
    /,
    *,
    read_iops: Iops = None,
    write_iops: Iops = None,
    read_bytes: Rate = None,
    write_bytes: Rate = None,
    options: Options = OPTIONS,
    how: Change = CHANGE,
) -> int:
    """Say all limits of a class anew: every volume that has it follows, while it is used."""
    limits = _limits(read_iops, write_iops, read_bytes, write_bytes)
    return change(ChangeQosClass(qos=name, limits=limits), options, how)


@classes.command(alias="rm")
def delete(name: QosClassName, /, *, options: Options = OPTIONS, how: Change = CHANGE) -> int:
    """Forget a class that no volume has."""
    return change(DeleteQosClass(qos=name), options, how)
