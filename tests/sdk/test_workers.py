"""Servers and pools with several processes: each sends its own spans, and none is lost when it stops."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec

import pytest

APPLICATION = """
import os
import pennytrace

pennytrace.configure(service="web", endpoint_url=os.environ["SINK"], gpu=False, export_interval_s=60, exit_timeout_s=15)


@pennytrace.observe(endpoint="/chat", model="m")
def chat():
    pennytrace.record_usage(input_tokens=1, output_tokens=1)


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    for _ in range(10):
        chat()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


def wsgi(environ, start_response):
    for _ in range(10):
        chat()
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]


def work(calls):
    for _ in range(calls):
        chat()
    return os.getpid()
"""


@pytest.fixture
def project(tmp_path, sink):
    (tmp_path / "web.py").write_text(APPLICATION)
    paths = filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])
    return tmp_path, {**os.environ, "SINK": sink.url, "PYTHONPATH": os.pathsep.join(paths)}


def ask(url, times, workers):
    """Ask so often, and until every worker answered; how many times were left (fewer than none, if it took more)."""
    deadline = time.monotonic() + 60
    pids = set()
    while len(pids) < workers or times > 0:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                pids.add(answer.read())
            times -= 1
        except OSError:
            time.sleep(0.05)
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected {workers} workers to answer, got {pids}")
    return times


def serve_and_stop(project, command, workers):
    folder, environment = project
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", *command(port)], cwd=folder, env=environment)
    asked = 20
    try:
        left = ask(f"http://127.0.0.1:{port}/", asked, workers)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        process.kill()
        process.wait()
    return 10 * (asked - left)


@pytest.mark.parametrize("workers", [1, 2])
def test_uvicorn_loses_nothing_at_sigterm_though_it_ends_by_the_signal(project, sink, workers):
    made = serve_and_stop(
        project,
        lambda port: ["uvicorn", "web:asgi", "--workers", str(workers), "--port", str(port), "--log-level", "warning"],
        workers,
    )
    assert len({span.span_id for span in sink.spans()}) == len(sink.spans()) == made


@pytest.mark.skipif(find_spec("gunicorn") is None, reason="needs gunicorn")
@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_gunicorn_workers_lose_nothing_at_sigterm_also_when_forked_after_configure(project, sink, preload):
    made = serve_and_stop(
        project, lambda port: ["gunicorn", "web:wsgi", "--workers", "2", "--bind", f"127.0.0.1:{port}", *preload], 2
    )
    assert len({span.span_id for span in sink.spans()}) == len(sink.spans()) == made


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_children_of_every_start_method_send_what_they_made(project, sink, method):
    folder, environment = project
    (folder / "main.py").write_text(
        "import web, sys\n"
        "from multiprocessing import get_context\n"
        "if __name__ == '__main__':\n"
        "    web.work(5)\n"
        f"    children = [get_context({method!r}).Process(target=web.work, args=(50,)) for _ in range(2)]\n"
        "    [child.start() for child in children]\n"
        "    [child.join() for child in children]\n"
        "    sys.exit(max(child.exitcode for child in children))\n"
    )
    subprocess.run([sys.executable, "main.py"], cwd=folder, env=environment, timeout=60, check=True)
    assert len({span.span_id for span in sink.spans()}) == len(sink.spans()) == 105


def test_a_process_pool_sends_what_its_workers_made(project, sink):
    folder, environment = project
    (folder / "main.py").write_text(
        "import web\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "if __name__ == '__main__':\n"
        "    with ProcessPoolExecutor(2) as pool:\n"
        "        assert len(list(pool.map(web.work, [25] * 4))) == 4\n"
    )
    subprocess.run([sys.executable, "main.py"], cwd=folder, env=environment, timeout=60, check=True)
    assert len({span.span_id for span in sink.spans()}) == 100


def test_workers_of_one_machine_are_one_replica(project, sink):
    folder, environment = project
    code = "import web, os\nif os.fork() == 0:\n    web.work(1)\n    raise SystemExit\nos.wait()\nweb.work(1)\n"
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, timeout=60, check=True)
    assert len({resource["service.instance.id"] for resource in sink.resources()}) == 1
    assert len(sink.spans()) == 2
