"""The contract for other programs."""

from hwbus.cli.exits import Exit
from hwbus.cli.options import OPTIONS, Options, noun
from hwbus.cli.world import world

app = noun("api", "The contract for other programs.")


@app.command
def asyncapi(*, options: Options = OPTIONS) -> int:
    """Print the AsyncAPI 3 document of every command, event, refusal and query."""
    from schemas import asyncapi as contract

    if options.output == "yaml":
        import msgspec

        world().out.write(msgspec.yaml.encode(contract.document()).decode())
    else:
        world().out.write(contract.text().rstrip() + "\n")
    return Exit.OK
