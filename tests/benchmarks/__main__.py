"""Speed and size of the supervisor beside bare ``socket.io-client`` and bare ``python-socketio`` (README.md here)."""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from tests.benchmarks import report
from tests.benchmarks.certificates import make_certificates
from tests.benchmarks.gateway_process import Gateway, install_packages
from tests.benchmarks.line_process import ChildError
from tests.benchmarks.opponents import OPPONENTS, TRIAL, Opponent, foreign
from tests.benchmarks.scenarios import SCENARIOS, Plan, Run

OFFLINE_SECONDS = 60.0
#: File descriptors that a process needs besides one for each agent.
SPARE_FILES = 300
#: The options that fill a plan, and what each counts.
COUNTS: Final = {
    "agents": "agents online in all but echo and latency",
    "round-trips": "measured echoes in all",
    "echo-agents": "agents that share the echoes, of latency too",
    "in-flight": "unanswered messages per agent",
    "warm-up": "echoes before the measured ones",
    "first-agents": "agents online when memory is read for the first time",
    "hot-adds": "agents added one by one",
    "idle-seconds": "how long idle looks, in seconds",
    "rounds": "turns of each opponent",
    "ping-seconds": "the gateway's ping interval in seconds",
}


def _choice(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        for each in chosen:
            if each not in allowed:
                raise argparse.ArgumentTypeError(f"{each!r} is not one of {', '.join(allowed)}")
        return [each for each in allowed if each in chosen]

    return parse


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return value


def _parser() -> argparse.ArgumentParser:
    plan = Plan()
    names = [each.name for each in OPPONENTS]
    parser = argparse.ArgumentParser(prog="tests/benchmarks/run.py", description=__doc__)
    for name, meaning in COUNTS.items():
        default = getattr(plan, name.replace("-", "_"))
        shown = f"{meaning} (default {default})"
        parser.add_argument(f"--{name}", type=_positive, metavar="N", default=default, help=shown)
    parser.add_argument(
        "--only", type=_choice(list(SCENARIOS)), default=list(SCENARIOS), metavar="NAME,…", help=", ".join(SCENARIOS)
    )
    parser.add_argument("--opponents", type=_choice(names), default=names, metavar="NAME,…", help=", ".join(names))
    parser.add_argument(
        "--latency-rate",
        type=_positive,
        metavar="N",
        default=0,
        help="messages a second in latency (default: half of what the slowest echo of this run carried)",
    )
    parser.add_argument(
        "--trial",
        type=Path,
        metavar="PATH",
        help=f"a further opponent, {TRIAL}: a program that is spoken to like the bare clients",
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as README has it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all samples in FILE")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def allow_files(agents: int) -> None:
    """Raise the limit of open files for us and for the processes we start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = agents + SPARE_FILES
    if hard not in (resource.RLIM_INFINITY, -1) and hard < needed:
        raise RuntimeError(f"{agents} agents need {needed} open files, and the limit is {hard} (ulimit -Hn)")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _take_turn(name: str, run: Run, results: report.Results) -> None:
    """Measure one opponent once; a failure is noted and does not end the others' turns."""
    opponent = run.opponent.name
    started = time.monotonic()
    run.gateway.ask("reset")
    try:
        sample = SCENARIOS[name].measure(run)
    except (ChildError, subprocess.SubprocessError) as error:
        results.failures.append(f"{name}: {opponent}: {error}")
        _say(f"{name}: {opponent}: FAILED: {error}")
    else:
        results.add(name, opponent, sample)
        metric = report.METRICS[name][0]
        figure = metric.statistic(sample[metric.key])
        _say(f"{name}: {opponent}: {figure:.1f} {metric.unit} ({time.monotonic() - started:.0f} s)")
    run.gateway.ask("wait-offline", OFFLINE_SECONDS)


def _at_one_rate(results: report.Results) -> Plan:
    """The plan with the rate of the latency run: what was said, or half of what the slowest opponent carried.

    Raises:
        RuntimeError: neither was said nor measured.
    """
    if results.plan.latency_rate:
        return results.plan
    carried = [rate for each in results.opponents for rate in results.values("echo", each.name, "echo_rate")]
    if not carried:
        raise RuntimeError("latency needs echo in the same run, or --latency-rate")
    return replace(results.plan, latency_rate=max(1, round(min(carried) / 2)))


def _measure(name: str, opponents: Sequence[type[Opponent]], results: report.Results, work: Path) -> None:
    """All rounds of one scenario over one gateway, the opponents taking turns."""
    if name == "latency":
        results.plan = _at_one_rate(results)
    certificates = make_certificates(work) if SCENARIOS[name].tls else None
    with Gateway(work, results.plan.ping_seconds, certificates) as gateway:
        for _ in range(results.plan.rounds):
            for opponent in opponents:
                _take_turn(name, Run(opponent, gateway, results.plan, work), results)


def main() -> int:
    """Measure and show; the exit status is 1 when something could not be measured."""
    arguments = _parser().parse_args()
    given = vars(arguments)
    plan = Plan(**{each.name: given[each.name] for each in fields(Plan)})
    opponents = [each for each in OPPONENTS if each.name in arguments.opponents]
    known = list(OPPONENTS)
    if arguments.trial is not None:
        trial = foreign(arguments.trial.resolve())
        opponents.append(trial)
        known.append(trial)
    results = report.Results(plan, known)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the processes we started end with us
    try:
        allow_files(plan.agents + plan.hot_adds)
        install_packages()
        with tempfile.TemporaryDirectory(prefix="supervisor-benchmark-") as work:
            for name in arguments.only:
                _measure(name, opponents, results, Path(work))
    except (RuntimeError, OSError) as error:
        _say(f"cannot measure: {error}")
        return 1
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.as_json(results), indent=2) + "\n")
    print(report.as_markdown(results) if arguments.markdown else report.as_text(results))
    for note in results.notes():
        _say(f"note: {note}")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
