"""What was found: each check is one line, and what could not be checked is one too."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """The lines of one run, printed as they come."""

    failures: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def result(self, what: str, problems: list[str]) -> bool:
        """Tell of a check and what it found; whether that was nothing."""
        print(f"{'FAIL' if problems else 'ok  '} {what}", flush=True)
        for problem in problems:
            print(f"       {problem}", flush=True)
        self.failures += [f"{what}: {problem}" for problem in problems]
        return not problems

    def not_checked(self, what: str, why: str) -> None:
        """Something stays open."""
        self.unchecked.append(f"{what}: {why}")

    def close(self) -> int:
        """Say what stays open and how it ended; the exit code."""
        print("\nNot checked:")
        for line in self.unchecked:
            print(f"  - {line}")
        count = len(self.failures)
        print(f"\n{count} {'problem' if count == 1 else 'problems'}." if count else "\nNo problem found.", flush=True)
        return 1 if count else 0
