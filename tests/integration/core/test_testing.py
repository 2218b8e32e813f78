"""What services and plugin authors test with: faults on demand, and fixtures as somebody else's pytest sees them."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from asyncwb import BackendUnavailable, Buffer, RecordRejected, SaveError
from asyncwb.testing import FaultyBackend, MemoryBackend
from asyncwb.testing.contract import put
from tests.harness.environments import clean_environment


@pytest.fixture
def backend() -> FaultyBackend:
    return FaultyBackend(MemoryBackend())


async def test_saves_fail_as_often_as_asked(backend: FaultyBackend) -> None:
    backend.fail_saves = 2
    backend.fail_saves_with = BackendUnavailable("away")
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="away"):
            await backend.save([put("a", 1)])
    assert await backend.load(["a"]) == {}
    assert await backend.save([put("a", 1)]) == 0
    assert (backend.faults, len(backend.saves)) == (2, 3)


async def test_save_may_do_its_work_and_fail_then(backend: FaultyBackend) -> None:
    backend.fail_saves_after = 1
    with pytest.raises(ConnectionError):
        await backend.save([put("a", 1)])
    assert set(await backend.load(["a"])) == {"a"}
    assert await backend.save([put("a", 1)]) == 1, "it was saved"


async def test_everything_fails_while_asked(backend: FaultyBackend) -> None:
    backend.fail_with = BackendUnavailable("away")
    for call in (backend.save([put("a", 1)]), backend.load(["a"]), backend.new_epoch(1)):
        with pytest.raises(BackendUnavailable):
            await call
    backend.fail_with = None
    assert await backend.new_epoch(1) == 1


async def test_some_keys_are_refused(backend: FaultyBackend) -> None:
    backend.poison["b"] = RecordRejected("no")
    with pytest.raises(SaveError) as caught:
        await backend.save([put("a", 1), put("b", 1)])
    assert caught.value.failed == backend.poison
    assert set(await backend.load(["a", "b"])) == {"a"}


async def test_calls_are_delayed(backend: FaultyBackend) -> None:
    backend.delay_seconds = 0.05
    started = asyncio.get_running_loop().time()
    await backend.save([put("a", 1)])
    await backend.load(["a"])
    assert asyncio.get_running_loop().time() - started > 0.09


@pytest.mark.parametrize("gate", ["before_save", "after_save", "before_load"])
async def test_calls_hang_at_a_gate(backend: FaultyBackend, gate: str) -> None:
    getattr(backend, gate).clear()
    call = backend.load(["a"]) if gate == "before_load" else backend.save([put("a", 1)])
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0.02)
    assert not task.done()
    assert isinstance(backend.inner, MemoryBackend)
    assert set(backend.inner.records) == ({"a"} if gate == "after_save" else set())
    getattr(backend, gate).set()
    await task


async def test_save_whose_answer_is_lost_is_stale_the_second_time(backend: FaultyBackend, valkey_url: str) -> None:
    backend.fail_saves_after = 1
    async with Buffer(valkey_url, backend=backend, namespace="lost", backoff_max_seconds=0.05) as buffer:
        await buffer.set("a", 1)
        await buffer.drain()
        assert (buffer.totals.retried, buffer.totals.stale) == (1, 1)


TESTS_OF_A_SERVICE = """
from asyncwb.testing import FaultyBackend, MemoryBackend

async def test_value_is_saved(asyncwb_buffer, asyncwb_backend):
    await asyncwb_buffer.set("42", {"name": "Ada"})
    await asyncwb_buffer.drain()
    assert asyncwb_backend.inner.values == {"42": {"name": "Ada"}}

async def test_nothing_is_left_of_another_test(asyncwb_buffer, asyncwb_backend):
    assert await asyncwb_buffer.get("42") is None
    assert asyncwb_backend.inner.values == {}

async def test_outage(asyncwb_buffer, asyncwb_backend):
    asyncwb_backend.fail_with = ConnectionError("away")
    await asyncwb_buffer.set("42", 1)
    assert await asyncwb_buffer.get("42") == 1
    asyncwb_backend.fail_with = None

def test_server_is_there(asyncwb_server):
    assert asyncwb_server.startswith("unix://")
"""


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_fixtures_work_in_somebody_elses_pytest(tmp_path: Path, mode: str) -> None:
    tests = TESTS_OF_A_SERVICE
    if mode == "strict":
        tests = tests.replace("async def", "@pytest.mark.asyncio\nasync def").replace("\n", "\nimport pytest\n", 1)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["asyncwb.testing.fixtures"]\n')
    (tmp_path / "test_service.py").write_text(tests)
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=clean_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
