import pytest

from asgi_master.settings.target import Target, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("main:app", Target("main", ("app",))),
        ("package.module:object.app", Target("package.module", ("object", "app"))),
        ("main", Target("main", ())),
    ],
)
def test_targets(text, target):
    assert parse_target(text) == target
    assert str(target) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not MODULE:ATTRIBUTE"),
        ("a/\n:b", "control character"),
        (":app", "is not MODULE:ATTRIBUTE"),
        ("main:", "is not MODULE:ATTRIBUTE"),
        ("main:app.", "is not MODULE:ATTRIBUTE"),
        ("main:app:app", "is not MODULE:ATTRIBUTE"),
        ("my-app:app", "is not MODULE:ATTRIBUTE"),
        ("..main:app", "is not MODULE:ATTRIBUTE"),
        ("main.py", 'did you mean "main:app"'),
        ("./src/main.py:application", 'did you mean "src.main:application"'),
        ("src/main:app", 'did you mean "src.main:app"'),
        ("main:create_app()", "--factory main:create_app"),
    ],
)
def test_what_is_no_target_says_how_to_write_it(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_target(text)
