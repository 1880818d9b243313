"""A config as plain data: read as written, whatever stands in it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasx.config.identity import config_hash, differences, in_words, merged
from nasx.config.plain import drop, get, parse_plain, put, to_yaml
from nasx.errors import ConfigError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
CONFIGS = st.dictionaries(
    st.text(min_size=1),
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3)
    ),
    min_size=1,
    max_size=4,
)


@given(CONFIGS)
def test_a_config_survives_writing_and_reading(config):
    assert parse_plain(to_yaml(config).encode(), "x") == config


def test_bytes_of_a_path_that_are_not_utf8_survive():
    config = {"root": b"caf\xe9".decode("utf-8", "surrogateescape"), "line\x85": "\u2028"}

    assert parse_plain(to_yaml(config).encode(), "x") == config


@pytest.mark.parametrize("text", ["1e3", "5e-4", "true", "null", "~", "2024-01-01", "on", "0x1f", "1_0", ".5", "12:30"])
def test_texts_that_look_like_something_else_stay_texts(text):
    assert parse_plain(to_yaml({"a": text}).encode(), "x") == {"a": text}


def test_numbers_and_interpolations_are_read_as_written():
    found = parse_plain(b"a: 1e-3\nb: ${oc.env:HOME}\nc: 2024-01-01\nd: .nan\n", "x")

    assert (found["a"], found["b"], found["c"], math.isnan(found["d"])) == (0.001, "${oc.env:HOME}", "2024-01-01", True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"[1]", "must be a mapping of keys to values"),
        (b"\xff", "is not UTF-8"),
        (b"a: 1\na: 2", "line 2: the key 'a' occurs twice"),
        (b"a: {b: 1, b: 2}", "the key 'b' occurs twice"),
        (b"a: !!python/name:os.system", "could not determine a constructor"),
        (b"a: !!binary aGk=", "line 1: could not determine a constructor"),
        (b"a: !!timestamp 2024-01-01", "line 1: could not determine a constructor"),
        (b"a: !!set {b}", "line 1: could not determine a constructor"),
        (b"a: [", "x, line 1"),
        (b"a: &a [*a]", "nested too deeply, or an alias contains itself"),
        (b"[" * 5000, "nested too deeply|line"),
        (b"? [1]\n: 2", "line 1|unhashable"),
        (b"a: \x00", "x"),
        (b"#" * 2_000_000, "larger than 1,000,000 bytes"),
    ],
)
def test_anything_but_a_plain_mapping_is_refused_in_one_line(content, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_plain(content, "x")

    assert "\n" not in str(caught.value)


def test_full_keys_are_read_set_and_removed():
    config = {"a": {"b": 1}, "c": 2}

    assert (get(config, "a.b"), get(config, "a.x", 7), get(config, "c.d")) == (1, 7, None)
    assert put(config, "a.x.y", 3) == {"a": {"b": 1, "x": {"y": 3}}, "c": 2}
    assert drop(config, "a.b") == {"a": {}, "c": 2}
    assert drop(config, "x.y") == config
    assert config == {"a": {"b": 1}, "c": 2}


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ({"a": 1}, {"a": 1.0}, ""),
        ({"a": math.nan}, {"a": math.nan}, ""),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ""),
        ({"a": True}, {"a": 1}, "a was true, is 1 now"),
        ({"a": "1"}, {"a": 1}, "a was '1', is 1 now"),
        ({"a": [1, 2]}, {"a": [2, 1]}, "a was [1, 2], is [2, 1] now"),
        ({"a": {}}, {"a": {"b": 1}}, "a.b was not set, is 1 now"),
        ({"a": {"b": 1}}, {"a": {}}, "a.b was 1, is not set now"),
        ({"a": {"b": 1}}, {}, "a.b was 1, is not set now"),
        ({"a": {"b": 1}}, {"a": 3}, "a was not set, is 3 now; a.b was 1, is not set now"),
        (dict.fromkeys("abcde", 0), dict.fromkeys("abcde", 1), "c was 0, is 1 now; and 2 more"),
    ],
)
def test_differences_are_named_with_both_values(before, now, words):
    assert in_words(differences(before, now)).endswith(words)
    assert bool(differences(before, now)) == bool(words)


def test_an_equal_number_keeps_its_original_form():
    assert repr(merged({"a": 1.0, "b": 2}, {"a": 1, "b": 3})) == "{'a': 1.0, 'b': 3}"


def test_the_hash_ignores_what_only_says_where_how_fast_or_how_much():
    config = {"seed": 0, "algorithm": {"evaluations": 4, "x": 1}, "dataset": {"root": "a", "n": 2}, "search": {"y": 1}}

    assert config_hash(config) == config_hash({**config, "search": {}, "algorithm": {"x": 1}, "dataset": {"n": 2}})
    assert config_hash(config) != config_hash({**config, "seed": 1})
