import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_master.settings import values
from asgi_master.settings.values import ValueType


@pytest.mark.parametrize(
    ("value_type", "raw", "value"),
    [
        (values.TEXT, "any thing", "any thing"),
        (values.INTEGER, "8", 8),
        (values.INTEGER, 8, 8),
        (values.INTEGER, "-3", -3),
        (values.INTEGER, " 8 ", 8),
        (values.WORKERS, "auto", "auto"),
        (values.WORKERS, "AUTO", "auto"),
        (values.WORKERS, 4, 4),
        (values.SECONDS, "30", 30.0),
        (values.SECONDS, 30, 30.0),
        (values.SECONDS, 0.5, 0.5),
        (values.SECONDS, "1.5", 1.5),
        (values.SECONDS, "500ms", 0.5),
        (values.SECONDS, "30s", 30.0),
        (values.SECONDS, "5 m", 300.0),
        (values.SECONDS, "1h", 3600.0),
        (values.BYTES, "8192", 8192),
        (values.BYTES, 8192, 8192),
        (values.BYTES, "64k", 65536),
        (values.BYTES, "64KiB", 65536),
        (values.BYTES, "16M", 16 * 1024**2),
        (values.BYTES, "1.5g", 3 * 512 * 1024**2),
        (values.SWITCH, "yes", True),
        (values.SWITCH, "1", True),
        (values.SWITCH, "On", True),
        (values.SWITCH, "false", False),
        (values.SWITCH, "0", False),
        (values.SWITCH, False, False),
        (values.MODE, "660", 0o660),
        (values.MODE, "0660", 0o660),
        (values.MODE, "0o600", 0o600),
        (values.MODE, 0o666, 0o666),
        (values.LIST, "a, b,,c", ("a", "b", "c")),
        (values.LIST, ["a, b", "c"], ("a, b", "c")),
        (values.LINES, "X-A: 1, 2\nX-B: 3\n", ("X-A: 1, 2", "X-B: 3")),
    ],
)
def test_values_are_read(value_type: ValueType, raw, value):
    read = value_type.read(raw)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("value_type", "raw", "reason"),
    [
        (values.TEXT, 3, "is not a string"),
        (values.TEXT, "a\0b", "NUL"),
        (values.TEXT, "caf\udce9", "is not UTF-8"),
        (values.INTEGER, "x", "is not a number"),
        (values.INTEGER, "", "is not a number"),
        (values.INTEGER, "1_000", "is not a number"),
        (values.INTEGER, "٣", "is not a number"),
        (values.INTEGER, True, "is not a number"),
        (values.INTEGER, 2.5, "is not a whole number"),
        (values.INTEGER, 10**30, "is out of range"),
        (values.INTEGER, "9" * 5000, "is not a number"),
        (values.SECONDS, "soon", "is not a duration"),
        (values.SECONDS, "5 parsecs", "is not a duration"),
        (values.SECONDS, "-5", "is not a duration"),
        (values.SECONDS, True, "is not a duration"),
        (values.SECONDS, float("nan"), "is not a duration"),
        (values.SECONDS, float("inf"), "is longer than a year"),
        (values.SECONDS, 10**400, "is longer than a year"),
        (values.SECONDS, "9000h", "is longer than a year"),
        (values.BYTES, "64q", "is not a size"),
        (values.BYTES, 1.5, "is not a size"),
        (values.SWITCH, "maybe", "is neither true nor false"),
        (values.SWITCH, 1, "is neither true nor false"),
        (values.MODE, "rw-rw----", "is not a file mode"),
        (values.MODE, "999", "is not a file mode"),
        (values.MODE, 660, "octal only with 0o"),
        (values.MODE, True, "is not a file mode"),
        (values.LIST, 3, "is not a list of strings"),
        (values.LIST, ["a", 3], "is not a list of strings"),
        (values.LIST, ["a\0"], "NUL"),
    ],
)
def test_what_cannot_be_read_says_why(value_type: ValueType, raw, reason):
    with pytest.raises(ValueError, match=reason):
        value_type.read(raw)


_WRITTEN = st.one_of(
    st.tuples(
        st.just(values.TEXT), st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
    ),
    st.tuples(st.just(values.INTEGER), st.integers(-(10**15), 10**15)),
    st.tuples(st.just(values.SECONDS), st.floats(0, 10**6)),
    st.tuples(st.just(values.BYTES), st.integers(0, 10**15)),
    st.tuples(st.just(values.SWITCH), st.booleans()),
    st.tuples(st.just(values.MODE), st.integers(0, 0o777)),
    st.tuples(st.just(values.WORKERS), st.one_of(st.just("auto"), st.integers(1, 1000))),
    st.tuples(
        st.just(values.LIST),
        st.lists(st.text(st.characters(codec="ascii", exclude_characters="\0"))).map(tuple),
    ),
)


@settings(max_examples=200)
@given(_WRITTEN)
def test_a_written_value_reads_back_from_toml(written):
    value_type, value = written
    assert value_type.read(tomllib.loads(f"value = {value_type.write(value)}")["value"]) == value


@settings(max_examples=200)
@given(
    st.sampled_from(
        [
            values.TEXT,
            values.INTEGER,
            values.SECONDS,
            values.BYTES,
            values.SWITCH,
            values.MODE,
            values.WORKERS,
            values.LIST,
        ]
    ),
    st.one_of(
        st.text(),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.lists(st.integers()),
        st.dictionaries(st.text(), st.text()),
    ),
)
def test_nothing_but_a_value_error_comes_out_of_reading(value_type, raw):
    reason = ""
    try:
        value_type.read(raw)
    except ValueError as error:
        reason = str(error)
    assert "\n" not in f"{values.show(raw)} {reason}"


def test_text_is_shown_in_quotes_and_on_one_line():
    assert values.show("a\nb\x85\U000e0001é") == '"a\\nb\\u0085\\U000e0001é"'
    assert values.show(True) == "true"
    assert values.show(3) == "3"
