import pytest

from asgi_master.errors import SettingsError
from asgi_master.settings.exclusions import compile_exclusions, parse_exclusion
from asgi_master.settings.resolve import resolve


def test_what_is_a_pattern():
    assert parse_exclusion("/healthz") == (False, "/healthz")
    assert parse_exclusion("*") == (False, "*")
    assert parse_exclusion("USER-AGENT: curl*") == (True, "curl*")


@pytest.mark.parametrize("text", ["", "healthz", "user-agent:", "user-agent:  ", "http://a/b", "/search?q=*"])
def test_what_is_none(text, tmp_path):
    with pytest.raises(ValueError):
        parse_exclusion(text)
    if text:
        with pytest.raises(SettingsError) as caught:
            resolve({"app": "main:app", "access_log_exclude": [text]}, {}, tmp_path)
        [line] = caught.value.errors
        assert line.startswith("access-log-exclude: ")


def test_several_come_from_everywhere(tmp_path):
    environ = {"ASGI_MASTER_ACCESS_LOG_EXCLUDE": "/healthz, user-agent:kube-probe/*"}
    found = resolve({"app": "main:app"}, environ, tmp_path).settings.logging.access_log_exclude
    assert found == ("/healthz", "user-agent:kube-probe/*")
    compiled = compile_exclusions(found)
    assert compiled.paths is not None
    assert compiled.agents is not None
    assert compile_exclusions([]).paths is None
