"""What machines ask over HTTP: is it alive, is it ready, what are the figures."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Readiness = Callable[[], list[str]]
"""Returns why the process is not ready: an empty list when it is."""


def application(registry: CollectorRegistry, unready: Readiness) -> Starlette:
    """Return the three routes; ``/readyz`` answers 503 and the reasons while there are any."""

    async def alive(_: Request) -> Response:
        return JSONResponse({"alive": True})

    async def ready(_: Request) -> Response:
        reasons = unready()
        return JSONResponse(
            {"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200
        )

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/livez", alive), Route("/readyz", ready), Route("/metrics", metrics)]
    )


@contextlib.asynccontextmanager
async def serving(app: Starlette, host: str, port: int) -> AsyncIterator[None]:
    """Serve *app* until the context is left. Raises ``OSError`` when the port is taken."""
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    sockets = [socket.create_server((host, port))]
    task = asyncio.create_task(server._serve(sockets))  # noqa: SLF001 -- serve() would take our signals
    try:
        yield
    finally:
        server.should_exit = True
        await task
