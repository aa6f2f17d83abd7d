"""How many file descriptors there are, and what they suffice for."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from supervisor.net import describe_error
from supervisor.net.descriptors import NONE_LEFT, Budget, Spare, exhausted, needed, of_process


@pytest.mark.parametrize("limit", [16, 64, 100, 200, 256, 1024, 4096, 20_000, 1 << 20])
def test_all_of_it_is_given_to_something(limit: int) -> None:
    budget = Budget(limit)
    assert budget.agents + budget.reserved + budget.second == limit
    assert min(budget.agents, budget.second) >= 1
    assert budget.agents >= limit // 4


@pytest.mark.parametrize("agents", [0, 1, 7, 50, 300, 1000, 5000])
def test_what_is_needed_suffices(agents: int) -> None:
    assert Budget(needed(agents)).agents >= agents
    assert needed(agents) <= 2 * agents + 112, "what is said in docs/operate.md"


def test_the_limits_of_a_process_are_read() -> None:
    assert of_process(os.getpid()) == resource.getrlimit(resource.RLIMIT_NOFILE)
    assert of_process(1 << 30) is None


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    script = "from supervisor.net import descriptors; print(descriptors.raise_limit().limit)"
    shell = f"ulimit -Sn 200 && ulimit -Hn 300 && exec {sys.executable} -c '{script}'"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "300\n"


KEY = ConnectionKey("chat.example", 443, True, True, None, None, None)


def test_the_lack_of_descriptors_is_named() -> None:
    error = aiohttp.ClientConnectorError(KEY, OSError(errno.EMFILE, "Too many open files"))
    assert describe_error(error, "chat.example", otherwise="") == f"chat.example was not reached: {NONE_LEFT}"


def test_a_look_up_that_fails_for_the_lack_of_descriptors_is_none_of_the_name() -> None:
    error = aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_AGAIN, "Temporary failure"))
    assert "cannot be resolved" in describe_error(error, "chat.example", otherwise="")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Fewer than are open: no further one is to be had.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        said = describe_error(error, "chat.example", otherwise="")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert said == f"chat.example was not reached: {NONE_LEFT}"


def test_spare_descriptors_are_there_when_all_others_are_taken() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 400), hard))
    spare = Spare(4)
    taken: list[int] = []
    try:
        assert not spare.look()
        with pytest.raises(OSError, match="Too many"):
            taken.extend(os.dup(0) for _ in range(400))
        assert spare.look(), "none were left"
        assert not exhausted()
        assert spare.look(), "too few to take them again"
        assert not exhausted()
        while taken:
            os.close(taken.pop())
        assert not spare.look()
        assert not spare.look()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        spare.release()
        for one in taken:
            os.close(one)
