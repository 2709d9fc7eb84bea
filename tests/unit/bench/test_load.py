"""A closed loop against a server in this process."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from veilseg.bench.load import Load, closed_loop, medians
from veilseg.wire import Message

MESSAGE = Message(b"tile", None)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    statuses = (200,)
    met = 0
    most = 0
    inside = 0
    lock = threading.Lock()

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        own = type(self)
        with own.lock:
            own.inside += 1
            own.most = max(own.most, own.inside)
            status = own.statuses[own.met % len(own.statuses)]
            own.met += 1
        assert self.rfile.read(int(self.headers["content-length"])) == b"tile"
        with own.lock:
            own.inside -= 1
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def serve() -> Iterator:
    opened = []

    def start(*statuses: int):
        handler = type("Chosen", (Handler,), {"statuses": statuses, "lock": threading.Lock()})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        opened.append((server, thread))
        return handler, f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in opened:
        server.shutdown()
        server.server_close()
        thread.join()


def test_each_client_has_one_request_under_way(serve):
    handler, url = serve(200)
    load = closed_loop([url], "/infer", MESSAGE, clients=4, budget_s=0.1)
    assert load.failures == {}
    assert len(load.latencies_s) == handler.met >= 4 * 2
    assert handler.most <= 4
    # Little's law: in a closed loop, throughput times latency is the number of clients, less what
    # each loses at the end, when the others are still under way.
    mean = sum(load.latencies_s) / len(load.latencies_s)
    assert load.throughput * mean <= 4 * 1.05


def test_clients_share_out_the_replicas(serve):
    one, first = serve(200)
    other, second = serve(200)
    closed_loop([first, second], "/infer", MESSAGE, clients=4, budget_s=0.0)
    assert (one.met, other.met) == (4, 4)


def test_refusals_are_counted_and_no_latencies(serve):
    _, url = serve(200, 429)
    load = closed_loop([url], "/infer", MESSAGE, clients=1, budget_s=0.0)
    assert (len(load.latencies_s), load.failures) == (1, {"429": 1})
    found = medians([load, load])
    assert (found["n"], found["failures"]) == (2, {"429": 2})


def test_a_server_that_is_gone_is_a_failure():
    load = closed_loop(["http://127.0.0.1:9"], "/infer", MESSAGE, clients=1, budget_s=0.0)
    assert load.latencies_s == []
    assert sum(load.failures.values()) == 2
    assert load.summary()["n"] == 0


def test_medians_are_over_rounds():
    rounds = [Load(1.0, [0.1] * count) for count in (2, 4, 9)]
    found = medians(rounds)
    assert (found["throughput"], found["p95_ms"], found["n"]) == (4.0, 100.0, 15)
