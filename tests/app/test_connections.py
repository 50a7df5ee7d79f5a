"""HTTP connections that try to be held: raw sockets against the guarded server."""

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager

import pytest
from fastapi import FastAPI, Request, Response

from app.connections import ConnectionLimits
from app.listening import WebServer
from tests.app.certificate import make_certificate

LIMITS = ConnectionLimits(
    connections_max=5, head_timeout_s=0.5, idle_timeout_s=1, drain_timeout_s=0.5, stall_timeout_s=0.5
)
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = b"POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


def application():
    app = FastAPI()

    @app.get("/")
    def root() -> Response:
        return Response("ok")

    @app.get("/slow")
    def slow() -> Response:
        time.sleep(1.2)
        return Response("at last")

    @app.get("/large")
    def large() -> Response:
        return Response(bytes(64 << 20))

    @app.post("/early")
    async def early() -> Response:
        return Response("no", 401)

    @app.post("/read")
    async def read(request: Request) -> Response:
        return Response(str(len(await request.body())))

    return app


class Server:
    def __init__(self, web, port, ended):
        self.web, self.port, self.ended = web, port, ended

    @contextmanager
    def connect(self, *sent):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            for part in sent:
                connection.sendall(part)
            yield connection


@contextmanager
def running(limits=LIMITS, tls=None):
    ended = Counter()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    web = WebServer(application(), listener, "test", limits, lambda reason: ended.update([reason]), tls)
    try:
        yield Server(web, listener.getsockname()[1], ended)
    finally:
        web.stop()


@pytest.fixture(scope="module")
def shared():
    with running() as server:
        yield server


@pytest.fixture
def server(shared):
    shared.ended.clear()
    wait_until(lambda: shared.web.connections == 0)
    return shared


def wait_until(holds, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rest_of(connection):
    """Everything until the server closes."""
    parts = []
    try:
        while part := connection.recv(1 << 20):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def answer(connection):
    """One short answer: its status and its body."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(65536)
        assert part, head
        head += part
    head, _, body = head.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), body


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\nx: "])
def test_a_head_that_does_not_come_ends_the_connection(server, sent):
    with server.connect(sent) as connection:
        assert rest_of(connection) == b""
    assert server.ended == {"slow_head": 1}


def test_a_head_that_trickles_ends_the_connection(server):
    def trickle(connection):
        try:
            for _ in range(100):
                connection.sendall(b"x: y\r\n")
                time.sleep(0.05)
        except OSError:
            pass

    with server.connect(b"GET / HTTP/1.1\r\n") as connection:
        sender = threading.Thread(target=trickle, args=(connection,))
        sender.start()
        assert rest_of(connection) == b""
        sender.join()
    assert server.ended == {"slow_head": 1}


def test_a_connection_serves_many_requests_and_ends_when_it_stays_idle(server):
    with server.connect() as connection:
        for _ in range(3):
            connection.sendall(GET)
            assert answer(connection) == (200, b"ok")
            time.sleep(0.6)  # longer than a head may take
        assert rest_of(connection) == b""
    assert server.ended == {}


def test_an_idle_connection_is_not_kept_by_bytes_that_are_no_request(server):
    with server.connect(GET) as connection:
        answer(connection)
        connection.sendall(b"\r\n")
        assert rest_of(connection) == b""
    assert server.ended == {"slow_head": 1}


def test_a_slow_answer_is_waited_for(server):
    with server.connect(GET.replace(b" / ", b" /slow ")) as connection:
        assert answer(connection) == (200, b"at last")
    assert server.ended == {}


def test_a_client_that_has_closed_its_half_still_gets_its_answer(server):
    with server.connect(GET.replace(b" / ", b" /slow ")) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert rest_of(connection).endswith(b"at last")
    wait_until(lambda: server.web.connections == 0)


def test_a_client_that_closes_its_half_within_a_request_is_let_go(server):
    with server.connect(CHUNKED + b"5\r\nabc") as connection:
        connection.shutdown(socket.SHUT_WR)
        assert rest_of(connection) == b""
    wait_until(lambda: server.web.connections == 0)


def test_requests_sent_ahead_are_answered_in_order(server):
    with server.connect(GET.replace(b" / ", b" /slow ") + GET + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n") as connection:
        connection.settimeout(3)
        seen = b""
        while not seen.endswith(b"\r\n\r\n3"):
            seen += connection.recv(65536)
    assert seen.index(b"at last") < seen.index(b"\r\n\r\nok") < seen.index(b"\r\n\r\n3")


def test_past_the_largest_number_of_connections_the_next_is_told_to_try_again():
    limits = ConnectionLimits(connections_max=3, head_timeout_s=5, idle_timeout_s=5)
    with running(limits) as crowded:
        held = [socket.create_connection(("127.0.0.1", crowded.port)) for _ in range(3)]
        wait_until(lambda: crowded.web.connections == 3)
        with crowded.connect(GET) as connection:
            said = rest_of(connection)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in said
        assert crowded.ended == {"too_many": 1}
        held[0].sendall(GET)
        assert answer(held[0]) == (200, b"ok")
        held.pop().close()
        wait_until(lambda: crowded.web.connections == 2)
        with crowded.connect(GET) as connection:
            assert answer(connection) == (200, b"ok")
        for each in held:
            each.close()


def flood(connection, part, parts=400):
    try:
        for _ in range(parts):
            connection.sendall(part)
    except OSError:
        return True
    return False


def test_a_head_without_end_is_refused(server):
    with server.connect(b"GET / HTTP/1.1\r\nx: ") as connection:
        assert flood(connection, b"y" * 65536)
        assert rest_of(connection)[:13] in {b"HTTP/1.1 431 ", b""}  # the reset may overtake the answer
    assert server.ended == {"head_too_large": 1}


def test_trailers_without_end_are_cut_off(server):
    with server.connect(CHUNKED + b"3\r\nabc\r\n0\r\n") as connection:
        assert flood(connection, b"x: " + b"y" * 65536 + b"\r\n")
    assert server.ended == {"head_too_large": 1}


def test_a_body_in_single_bytes_is_read(server):
    with server.connect(CHUNKED + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n") as connection:
        assert answer(connection) == (200, b"50000")
    assert server.ended == {}


def test_after_an_early_answer_the_rest_of_the_body_is_read_off(server):
    head = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
    with server.connect(head + bytes(500)) as connection:
        assert answer(connection) == (401, b"no")
        connection.sendall(bytes(500))
        connection.sendall(GET)
        assert answer(connection) == (200, b"ok")
        assert rest_of(connection) == b""  # idle again
    assert server.ended == {}


def test_after_an_early_answer_the_rest_of_the_body_is_not_waited_for_long(server):
    head = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
    with server.connect(head + bytes(500)) as connection:
        assert answer(connection) == (401, b"no")
        assert rest_of(connection) == b""
    assert server.ended == {"unread_body": 1}


def test_a_client_that_takes_its_answer_steadily_gets_all_of_it(server):
    began, seen = time.monotonic(), 0
    with server.connect(GET.replace(b" / ", b" /large ")) as connection:
        while seen < 64 << 20:
            part = connection.recv(1 << 18)
            assert part, server.ended
            seen += len(part)
            time.sleep(0.01)
    assert time.monotonic() - began > 2 * LIMITS.stall_timeout_s
    assert server.ended == {}


def test_a_client_that_takes_next_to_nothing_is_let_go(server):
    with server.connect(GET.replace(b" / ", b" /large ")) as connection:
        deadline = time.monotonic() + 10
        while not server.ended:
            assert time.monotonic() < deadline
            connection.recv(10)
            time.sleep(0.05)
    assert server.ended == {"stalled": 1}


def test_a_client_that_does_not_take_its_answer_is_let_go(server):
    with server.connect(GET.replace(b" / ", b" /large ")) as connection:
        wait_until(lambda: server.ended == {"stalled": 1})
        assert len(rest_of(connection)) < 64 << 20


UPGRADE = (
    b"POST /read HTTP/1.1\r\nhost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
)


def test_a_request_that_offers_another_protocol_is_read_whole(server):
    requests = [
        UPGRADE + b"content-length: 5\r\n\r\nabcde",
        UPGRADE + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ]
    for sent, length in zip(requests, (b"5", b"2"), strict=True):
        with server.connect(sent) as connection:  # at once, and several on one connection
            assert answer(connection) == (200, length)
            connection.sendall(sent)
            assert answer(connection) == (200, length)
        with server.connect() as connection:
            for byte in sent:  # in parts
                connection.send(bytes([byte]))
            assert answer(connection) == (200, length)
    assert server.ended == {}


def test_offers_sent_ahead_are_each_declined(server):
    number = 300
    with server.connect((UPGRADE + b"content-length: 3\r\n\r\nabc") * number) as connection:
        seen = b""
        while seen.count(b"\r\n\r\n3") < number:
            part = connection.recv(65536)
            assert part
            seen += part
    assert server.ended == {}


def test_a_request_for_a_tunnel_is_refused(server):
    with server.connect(b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n") as connection:
        assert rest_of(connection).startswith(b"HTTP/1.1 400 ")
    assert server.ended == {"not_http": 1}


def test_what_is_not_http_is_refused_and_counted(server):
    with server.connect(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") as connection:
        assert rest_of(connection).startswith(b"HTTP/1.1 400 ")
    assert server.ended == {"not_http": 1}


def test_a_tls_handshake_that_does_not_come_ends_the_connection(tmp_path):
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running(tls=context) as server:
        began = time.monotonic()
        with server.connect() as connection:
            assert rest_of(connection) == b""
        assert time.monotonic() - began < 5
        trusting = ssl.create_default_context(cafile=certificate)
        with server.connect() as connection, trusting.wrap_socket(connection, server_hostname="localhost") as secure:
            secure.sendall(GET)
            assert answer(secure) == (200, b"ok")


def test_handshakes_count_as_connections(tmp_path):
    certificate, key = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    limits = ConnectionLimits(connections_max=3, head_timeout_s=30, idle_timeout_s=5)
    trusting = ssl.create_default_context(cafile=certificate)

    def ask(connection):
        with trusting.wrap_socket(connection, server_hostname="localhost") as secure:
            secure.sendall(GET)
            assert answer(secure) == (200, b"ok")

    with running(limits, context) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        wait_until(lambda: server.web.connections == 3)
        with server.connect() as connection:
            assert rest_of(connection) == b""
        assert server.ended == {"too_many": 1}
        with silent.pop() as other:
            other.sendall(b"not a handshake")
            wait_until(lambda: server.web.connections == 2)
        with server.connect() as connection:
            ask(connection)
        for each in silent:
            each.close()
        wait_until(lambda: server.web.connections == 0)


def test_what_keeps_a_server_from_starting_is_raised():
    @asynccontextmanager
    async def broken(_app):
        raise RuntimeError("no such thing")
        yield

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    with pytest.raises(RuntimeError):
        WebServer(FastAPI(lifespan=broken), listener, "test", LIMITS, print)
    listener.close()


@pytest.mark.parametrize(("files", "wanted", "connections"), [(600, 2000, 75), (4000, 2000, 500), (4000, 200, 200)])
def test_each_port_takes_as_many_connections_as_there_are_files(files, wanted, connections):
    asked = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, {files}))
from app.listening import connections_that_fit
print(connections_that_fit({wanted}, 4), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [str(connections), str(files), str(files)]
    assert ("too few open files" in done.stderr) == (connections < wanted)
