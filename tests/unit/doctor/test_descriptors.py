"""Whether the file descriptors suffice, as ``doctor`` says it."""

from __future__ import annotations

import os
import resource

from supervisor.doctor.deployment import check_descriptors
from supervisor.doctor.findings import Finding, Level
from supervisor.net.descriptors import REMEDY, Budget


def test_too_few_are_told_with_how_many_agents_will_wait() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    found: list[Finding] = []
    check_descriptors(3, None, found.append)
    check_descriptors(hard, os.getpid(), found.append)
    check_descriptors(3, 1 << 30, found.append)
    well, short = found
    assert (well.level, well.advice) == (Level.OK, "")
    assert "one started here may have" in well.text
    assert (short.level, short.advice) == (Level.WARN, REMEDY)
    assert f"{hard - Budget(resource.getrlimit(resource.RLIMIT_NOFILE)[0]).agents} of them will wait" in short.text
