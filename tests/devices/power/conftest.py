"""A real HTTP server on 127.0.0.1 that answers as a meter would, or as it should not."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from devices.device import MeterConfig

Respond = Callable[[BaseHTTPRequestHandler], None]


class Plug:
    """`respond` answers every request; `paths` are those that were asked for."""

    def __init__(self) -> None:
        self.respond: Respond = answer(b"{}")
        self.paths: list[str] = []
        plug = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                plug.paths.append(self.path)
                plug.respond(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    def config(self, kind: str, **more: object) -> MeterConfig:
        return MeterConfig(kind, host="127.0.0.1", port=self.server.server_port, **more)  # type: ignore[arg-type]


def answer(body: bytes, status: int = 200, **headers: str) -> Respond:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return respond


@pytest.fixture
def plug() -> Iterator[Plug]:
    running = Plug()
    thread = threading.Thread(target=running.server.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.server.shutdown()
    running.server.server_close()
    thread.join()


@pytest.fixture(name="answer")
def answer_maker() -> Callable[..., Respond]:
    return answer
