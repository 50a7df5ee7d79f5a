import shutil
import socket
import subprocess
import time

import pytest

from pennytrace import testing
from pennytrace.levers import RedisStore, set_fingerprint_key


@pytest.fixture
def recorded():
    """Finished spans as plain values; a fault inside a lever fails the test."""
    with testing.recorded() as found, testing.strict():
        yield found


@pytest.fixture
def lenient():
    """The same as serving code has it: faults of ours are counted."""
    with testing.recorded() as found:
        yield found


@pytest.fixture
def clock():
    return testing.MemoryClock()


@pytest.fixture
def fingerprint_key():
    """The secret that shared stores need."""
    set_fingerprint_key("a secret of many characters")
    yield
    set_fingerprint_key(None)


class Model:
    """Answers like OpenAI's API; counts how often it was called. Every answer has an id of its own."""

    def __init__(self):
        self.calls = 0

    def __call__(self, question, *, input_tokens=100, output_tokens=20):
        self.calls += 1
        return {
            "id": f"chatcmpl-{self.calls}",
            "object": "chat.completion",
            "model": "gpt-4o",
            "answer": f"re: {question}",
            "usage": {"prompt_tokens": input_tokens, "completion_tokens": output_tokens},
        }


@pytest.fixture
def model():
    return Model()


class WordTokenizer:
    """One token a word."""

    def encode(self, text):
        return text.split()

    def decode(self, tokens):
        return " ".join(tokens)


@pytest.fixture
def words():
    return WordTokenizer()


@pytest.fixture(scope="session")
def redis_url():
    """A Redis server of our own that answers."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        pytest.skip("needs redis-server or valkey-server on PATH")
    pytest.importorskip("redis", reason="needs the redis package")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    url = f"redis://127.0.0.1:{port}/0"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        wait_for(RedisStore.from_url(url))
        yield url
        server.terminate()


def wait_for(store):
    for _ in range(200):
        try:
            store.get("up?")
        except Exception:  # noqa: BLE001 # whatever a client raises while its server starts
            time.sleep(0.02)
        else:
            return
    pytest.fail("redis-server did not answer within 4 s")
