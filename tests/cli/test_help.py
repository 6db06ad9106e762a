import pytest

from asgi_master.cli.help import COMMAND_OPTIONS, FIRST, all_pages, first_page
from asgi_master.settings.model import SETTINGS


def _words(text: str) -> set[str]:
    return {word.strip(",.;") for word in text.split()}


def test_the_first_page_fits_a_screen():
    lines = first_page().splitlines()
    assert max(len(line) for line in lines) <= 80
    assert len(lines) <= 50


def test_the_first_page_has_25_options_and_three_examples():
    names = {setting.name for setting in SETTINGS}
    first = [name for words in FIRST.values() for name in words]
    assert set(first) <= names
    assert len(first) == len(set(first))
    options = [line for line in first_page().splitlines() if line.startswith("  -")]
    assert len(options) == 25
    assert sum(line.startswith("  asgi-master ") for line in first_page().splitlines()) == 3


def test_names_on_the_first_page_are_whole():
    words = _words(first_page())
    for title in FIRST.values():
        for name in title:
            assert f"--{name.replace('_', '-')}" in words


@pytest.mark.parametrize("width", [60, 80, 100])
def test_every_option_is_shown_whole_in_any_width(width):
    text = all_pages(width)
    words = _words(text)
    for setting in SETTINGS:
        if setting.option.argument:
            continue
        assert setting.flag in words
        assert not setting.off_flag or setting.off_flag in words
        assert not setting.option.short or setting.option.short in words
        assert setting.title in text
        assert " ".join(setting.option.help.split()) in " ".join(text.split())
    for flag, _short, _metavar, _meaning in COMMAND_OPTIONS:
        assert flag in words
    explained = [line for line in text.splitlines() if not line.startswith("  -")]
    assert max(len(line) for line in explained) <= max(width, 80)


def test_names_fit_80_columns():
    assert max(len(line) for line in all_pages(80).splitlines()) <= 80


def test_what_a_terminal_library_would_take_for_markup_stands_as_it_is():
    text = all_pages(80)
    assert "[IPV6]:PORT" in text
    assert "[USER][:GROUP]" in text
    assert "[default: 127.0.0.1:8000]" in text


def test_the_number_of_further_options_is_told():
    shown = sum(len(words) for words in FIRST.values())
    assert f"--help-all has {len(SETTINGS) - 1 - shown} more." in first_page()
