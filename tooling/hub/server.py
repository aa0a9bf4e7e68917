"""Serves a Hub: in a thread for tests and the demo, or in this process until it is stopped."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from tooling.errors import InputError, ToolingError
from tooling.hub.root import Hub
from tooling.hub.routes import create_app

START_SECONDS = 30


@contextmanager
def serve(root: Path | Hub, port: int = 0, *, wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> Iterator[str]:
    """Serves the Hub below `root` on 127.0.0.1 in a thread and yields its address, `http://127.0.0.1:port`.

    Args:
        root: the Hub's folder, or a Hub that is already open (and stays open).
        port: 0 takes a free one.
        wrap: puts a middleware around the application.

    Raises:
        ToolingError: the port is taken, or another process serves this folder.
    """
    hub = root if isinstance(root, Hub) else Hub(root)
    try:
        listener = _listen("127.0.0.1", port)
        server = uvicorn.Server(_config(wrap(create_app(hub))))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="hub", daemon=True)
        thread.start()
        try:
            _wait_started(server, thread)
            yield _address(listener)
        finally:
            server.should_exit = True
            thread.join()
            listener.close()
    finally:
        if hub is not root:
            hub.close()


def run(root: Path, port: int, *, host: str = "127.0.0.1", ready: Callable[[str], None] = lambda address: None) -> None:
    """Serves the Hub below `root` until SIGINT or SIGTERM; `ready` is called with the address when it listens.

    Raises:
        ToolingError: the port is taken, or another process serves this folder.
    """
    hub = Hub(root)
    try:
        listener = _listen(host, port)
        ready(_address(listener))
        uvicorn.Server(_config(create_app(hub))).run(sockets=[listener])
        listener.close()
    finally:
        hub.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _config(app: ASGIApp) -> uvicorn.Config:
    # uvicorn's own access log has the query, which holds signatures; the application logs without it.
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="off",
        server_header=False,
        timeout_keep_alive=75,  # clients close an idle connection after 5 s; the server must not close it first
        timeout_graceful_shutdown=5,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY: without it each answer waits 40 ms for the client's ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InputError(f"{host}:{port}: cannot listen ({error.strerror}); choose another --port") from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _wait_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise ToolingError("the embedded Hub did not start: see its log")
        time.sleep(0.005)
