"""Errors of the start are in the form that was asked for the log, as far as that can be known."""

import json

import pytest

from asgi_master.cli.app import main


@pytest.mark.parametrize(
    ("arguments", "variable", "file"),
    [
        (["--log-format", "json"], None, None),
        (["--log-format=gcp"], "text", None),
        ([], "ecs", None),
        ([], None, 'log-format = "datadog"'),
    ],
)
@pytest.mark.parametrize("wrong", [["--workers", "zero", "--backlog", "-5"], ["--no-such-option"]])
def test_wrong_settings_are_json_where_that_was_asked_for(
    arguments, variable, file, wrong, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    if variable:
        monkeypatch.setenv("ASGI_MASTER_LOG_FORMAT", variable)
    if file:
        (tmp_path / "asgi-master.toml").write_text(file)
    assert main([*wrong, *arguments, "probe:app"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all("message" in json.loads(line) for line in lines)


@pytest.mark.parametrize("form", ["text", "yaml", "auto"])
def test_they_are_text_otherwise(form, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["--workers", "zero", "--log-format", form, "probe:app"]) == 2
    assert capsys.readouterr().err.startswith("asgi-master: error: ")
