"""What a drill says in the end."""

from collections import Counter
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Of the system calls that were made to fail (`test_system_calls.py`): how many pairs, and how they ended."""
    roles: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            known = dict(report.user_properties)
            if report.when != "call" or "role" not in known:
                continue
            roles[known["role"]] += 1
            if outcome == "failed":
                ends["FAILED"] += 1
            elif not known["calls"]:
                ends["not called"] += 1
            else:
                ends["expected exit" if known.get("ended") else "survived"] += 1
    if roles:
        pairs = ", ".join(f"{count} x {role}" for role, count in roles.items())
        said = ("survived", "expected exit", "not called", "FAILED")
        terminalreporter.write_line(f"{pairs} pairs: {', '.join(f'{ends[end]} {end}' for end in said)}")
