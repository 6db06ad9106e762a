"""docs/benchmarks.md: one section for each benchmark, so that running one leaves the figures of the others alone."""

import datetime as dt
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from environment import REPOSITORY

PAGE = REPOSITORY / "docs" / "benchmarks.md"
ORDER = ("requests", "requests-3.11", "start", "memory", "scale", "blocking", "wsgi")
"""The sections as they stand on the page; others follow."""

_HEAD = """# Benchmarks

Each section is written by the command that stands in it, on the machine that stands in it; do not edit. Compare only
figures of one table: they were measured side by side. `make bench` runs them all.
"""
_SECTION = re.compile(r"<!-- begin: (\S+) -->\n(.*?)<!-- end: \1 -->\n", re.DOTALL)


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Put this text in the place of the section's last one."""
    old = page.read_text() if page.exists() else ""
    sections = dict(_SECTION.findall(old))
    sections[name] = text.strip("\n") + "\n"
    names = [
        *(known for known in ORDER if known in sections),
        *(other for other in sections if other not in ORDER),
    ]
    marked = [f"<!-- begin: {known} -->\n{sections[known]}<!-- end: {known} -->\n" for known in names]
    page.parent.mkdir(exist_ok=True)
    page.write_text("\n".join([_HEAD, *marked]))
    print(f"\nwritten: the section {name!r} of {page}")


def command() -> str:
    """The command line of this run, as it can be given again."""
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def facts(python: str, versions: Mapping[str, str]) -> str:
    """What the figures depend on, in one paragraph."""
    date = dt.datetime.now(dt.UTC).date().isoformat()
    packages = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    where = f"{date}, {_cpu()}, {platform.system()} {platform.release()}, Python {python}"
    return f"Where it ran: {where}; {packages}."


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def table(rows: list[list[str]]) -> str:
    """Rows, the first of them the heads, as aligned Markdown."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def bar(what: str, value: float, limit: float, unit: str = "") -> str:
    """One line: what was promised, and whether it held. Lower is better."""
    verdict = "held" if value <= limit else "missed"
    return f"- {what}: at most {limit:.4g}{unit}; {verdict} with {value:.3g}"
