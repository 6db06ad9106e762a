"""The help: the most used options on one screen (`--help`), and all of them (`--help-all`).

Formatted here, as a library's tables truncate names, which must stay whole to be copied.
"""

import shutil
import textwrap
from collections.abc import Iterator

from asgi_master.settings.fields import Setting
from asgi_master.settings.model import SETTINGS
from asgi_master.settings.sources import FILE_NAME
from asgi_master.settings.values import SWITCH

PROGRAM = "asgi-master"

COMMAND_OPTIONS = (
    ("--config", "-c", "FILE", f"Settings file instead of {FILE_NAME}."),
    ("--check", "", "", "Test a start: import and startup, but no bind."),
    ("--check-config", "", "", "Check the settings and exit; the application is not imported."),
    ("--print-config", "", "", "Print all settings, with their origins, and exit."),
    ("--version", "", "", "Print the version and exit."),
    ("--help", "-h", "", "Print the most used options and exit."),
    ("--help-all", "", "", "Print every option and exit."),
)
"""Name, short name, metavar (empty for a switch) and meaning of the options that are not settings."""

FIRST = {
    "Serving": {
        "bind": "HOST:PORT, unix:PATH, https://HOST:PORT, ...",
        "workers": "Worker processes; auto is one per usable CPU",
        "app_dir": "Directory to import the application from",
        "factory": "Call APP to get the application",
        "env_file": "KEY=VALUE lines for its environment",
        "root_path": "Path prefix that a proxy adds",
        "forwarded_allow_ips": "Proxies trusted to name clients; or unix",
        "certfile": "Certificate and chain for https:// addresses",
        "keyfile": "Its private key",
        "user": "User of the application; the master stays root",
    },
    "Limits": {
        "limit_body_size": "Maximum size of a request body, such as 10M",
        "request_timeout": "Time until a response must begin",
        "drain_timeout": "Time a worker has to finish its requests",
        "max_requests": "Replace a worker after this many",
    },
    "Watching": {
        "health_path": "Path that must succeed before a worker serves",
        "admin_bind": "Address of health, metrics, status page",
        "access_log": "Write a line for each request",
        "log_level": "Minimum level of messages to log",
        "log_format": "Text or JSON",
        "log_config": "Configures Python's logging instead",
    },
    "Developing": {
        "reload": "Reload when files of the application change",
    },
}
"""The most used settings, in order of use, each with a few words."""

_FIRST_COMMAND_OPTIONS = ("--config", "--check", "--check-config", "--print-config")
_EXAMPLES = (
    ("asgi-master main:app", "on http://127.0.0.1:8000"),
    ("asgi-master dev", "while you develop"),
    ("asgi-master -w auto -b 0.0.0.0:8000 main:app", "a worker for each CPU"),
)
_INTRODUCTION = f"""\
Usage: {PROGRAM} [OPTIONS] APP

Serve an ASGI application with supervised worker processes.
APP is MODULE:ATTRIBUTE, such as main:app or package.module:object.app."""
_PLACES = (
    "Each option can also stand as ASGI_MASTER_OPTION_NAME in the environment, or as option-name in "
    f"{FILE_NAME}; flags win over the environment, which wins over the file."
)
_NAME_WIDTH = 29
_NARROWEST, _WIDEST = 60, 100
_UNBROKEN = "\N{NO-BREAK SPACE}"


def first_page() -> str:
    """The most used options."""
    by_name = {setting.name: setting for setting in SETTINGS}
    lines = [_INTRODUCTION, "", "Examples:"]
    width = max(len(command) for command, _ in _EXAMPLES)
    lines += [f"  {command:<{width}}  {meaning}" for command, meaning in _EXAMPLES]
    for title, words in FIRST.items():
        lines += ["", f"{title}:"]
        lines += [_row(_first_names(by_name[name]), meaning) for name, meaning in words.items()]
    lines += ["", "Asking:"]
    lines += [
        _row(_names(short, flag, metavar), meaning.partition(";")[0].rstrip("."))
        for flag, short, metavar, meaning in COMMAND_OPTIONS
        if flag in _FIRST_COMMAND_OPTIONS
    ]
    rest = len(SETTINGS) - 1 - sum(len(words) for words in FIRST.values())
    lines += ["", f"--help-all has {rest} more. {_FILE_HINT}"]
    return "\n".join(lines) + "\n"


def all_pages(width: int | None = None) -> str:
    """Every option, in lines of `width` columns; by default the terminal's width."""
    columns = width if width is not None else shutil.get_terminal_size().columns
    columns = min(max(columns, _NARROWEST), _WIDEST)
    lines = [_INTRODUCTION, "", *textwrap.wrap(_PLACES, columns)]
    title = ""
    for setting in SETTINGS:
        if setting.option.argument:
            continue
        if setting.title != title:
            title = setting.title
            lines += ["", f"{title}:"]
        lines += _entry(_all_names(setting), setting.option.help + _default(setting), columns)
    lines += ["", "Command:"]
    for flag, short, metavar, meaning in COMMAND_OPTIONS:
        lines += _entry(_names(short, flag, metavar), meaning, columns)
    return "\n".join(lines) + "\n"


_FILE_HINT = f"All can be set in {FILE_NAME} or as ASGI_MASTER_*."


def _row(names: str, meaning: str) -> str:
    return f"  {names:<{_NAME_WIDTH}} {meaning}"


def _entry(names: str, meaning: str, columns: int) -> Iterator[str]:
    yield f"  {names}"
    indent = " " * 6
    lines = textwrap.wrap(
        meaning,
        columns,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    yield from (line.replace(_UNBROKEN, " ") for line in lines)


def _first_names(setting: Setting) -> str:
    """A switch is shown with the flag that changes its default."""
    if setting.option.value_type is SWITCH:
        return setting.off_flag if setting.option.default else setting.flag
    names = _all_names(setting)
    if len(names) <= _NAME_WIDTH:
        return names
    # A word for the values is preferred to truncated names.
    word = (
        setting.key.rpartition("-")[2] if setting.option.choices else setting.option.metavar.partition("|")[0]
    )
    return _names(setting.option.short, setting.flag, word.upper())


def _all_names(setting: Setting) -> str:
    if setting.option.value_type is SWITCH:
        return f"{setting.flag}, {setting.off_flag}"
    return _names(setting.option.short, setting.flag, setting.option.metavar)


def _names(short: str, flag: str, metavar: str) -> str:
    return ", ".join(filter(None, [short, flag])) + (f" {metavar}" if metavar else "")


def _default(setting: Setting) -> str:
    """The default as the help shows it; empty if there is none."""
    option = setting.option
    value = option.default
    if option.value_type is SWITCH:
        text = "on" if value else "off"
    elif isinstance(value, str | tuple):
        text = value if isinstance(value, str) else ", ".join(value)
    else:
        text = option.value_type.write(value)
    return f" [default:{_UNBROKEN}{text}]" if text else ""
