"""Archives as they are named on a command line: a file, a folder, or s3://BUCKET/PREFIX."""

from typing import Annotated

from cyclopts import Parameter

from hwbus.archives import Source, source_of
from hwbus.cli.world import world

Endpoint = Annotated[
    str,
    Parameter(help="https://HOST:PORT of the store. [default: AWS_ENDPOINT_URL, or that of AWS]"),
]
Recorded = Annotated[
    str,
    Parameter(
        help="What hwbus audit archive or support-bundle wrote: a file, folder or s3://BUCKET/…"
    ),
]


def source(where: str, endpoint: str) -> Source:
    """Return what is named so. Raises ``PlaceError``."""
    return source_of(where, endpoint, world().env)
