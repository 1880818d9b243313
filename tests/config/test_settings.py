from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from nasx.config.describe import describe, suggest, yaml_text
from nasx.config.settings import checked, construct, convert, settings
from nasx.errors import ConfigError, SettingError


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Augmentation:
    flip: bool = False
    cutout: float = 0.0

    def __post_init__(self) -> None:
        if self.cutout > 1:
            raise SettingError("cutout", f"must be at most 1, got {self.cutout:g}")


class Gadget:
    """Component in the style of a user: checks by hand."""

    def __init__(
        self, *, size: int, rate: float = 0.1, augmentation: Augmentation | None = None, seed: int = 0, free=None
    ) -> None:
        if size < 4:
            raise SettingError("size", f"must be at least 4, got {size}")
        self.settings = (size, rate, augmentation, seed, free)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, int, 3),
        (3, float, 3.0),
        ("x", str, "x"),
        (None, int | None, None),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, "a"], tuple[int, str], (1, "a")),
        (["a"], Sequence[str], ["a"]),
        ({"a": 1}, Mapping[str, float], {"a": 1.0}),
        ("data", Path, Path("data")),
        ("~/data", Path | None, Path.home() / "data"),
        ("red", Color, Color.RED),
        ("auto", Literal["auto", "cpu"], "auto"),
        ({"flip": True}, Augmentation, Augmentation(flip=True)),
        (None, Augmentation | None, None),
        ({"a": {"cutout": 1}}, dict[str, Augmentation], {"a": Augmentation(cutout=1.0)}),
        ([1, {"any": None}], Any, [1, {"any": None}]),
    ],
)
def test_convert_returns_the_annotated_type(value: Any, annotation: Any, expected: Any) -> None:
    converted = convert(value, annotation, "group.key")

    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        ("many", int, r"^group\.key must be an integer, got 'many'\.$"),
        ("3", int, r"must be an integer, got '3'\."),
        (3.0, int, r"must be an integer, got 3\.0\."),
        (True, int, r"must be an integer, got true\."),
        (None, float, r"must be a number, got null\."),
        (float("nan"), float, r"must be a number, got NaN\."),
        (float("inf"), float | None, r"must be a number or null, got Infinity\."),
        (1, bool, r"must be true or false, got 1\."),
        (2024, str, r"must be text, got 2024\."),
        (1, Path | None, r"must be a path or null, got 1\."),
        ("a", list[int], r"must be a list of integers, got 'a'\."),
        ([1, 2, 3], tuple[int, int], r"must be a list of 2 integers, got \[1, 2, 3\]\."),
        ([1], dict[str, int], r"must be a mapping, got \[1\]\."),
        ("green", Color, r"must be red or blue, got 'green'\."),
        ("float", Literal["auto", "float32", "bfloat16"], r"must be auto, float32 or bfloat16, got 'float'\."),
        ("a", int | str | None, None),
        ([], int | str | None, r"must be an integer, text or null, got \[\]\."),
        (3, Augmentation, r"must be a mapping with the keys flip, cutout, got 3\."),
        ({"flop": 1}, Augmentation, r"^unknown key group\.key\.flop\. Did you mean group\.key\.flip\?$"),
        ({"flip": 1}, Augmentation | None, r"^group\.key\.flip must be true or false, got 1\.$"),
        ({"cutout": 2}, Augmentation, r"^group\.key\.cutout must be at most 1, got 2\.$"),
        ({"a": {"cutout": 2}}, dict[str, Augmentation], r"^group\.key\.a\.cutout must be at most 1, got 2\.$"),
        (2, Annotated[int, Field(ge=4)] | None, r"^group\.key must be at least 4, got 2\.$"),
        (2, Annotated[int, Field(ge=4)], r"^group\.key must be at least 4, got 2\.$"),
        (
            0.8,
            Literal["auto"] | Annotated[float, Field(ge=0, le=0.75)],
            r"^group\.key must be auto or a number, at least 0 and at most 0\.75, got 0\.8\.$",
        ),
        (
            "always",
            Literal["auto"] | Annotated[float, Field(ge=0, le=0.75)],
            r"^group\.key must be auto or a number, got 'always'\.$",
        ),
        (
            [1, 0],
            Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2)],
            r"^group\.key must be a list of integers, length at least 2, each at least 1, got \[1, 0\]\.$",
        ),
        (
            [3],
            Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2)],
            r"^group\.key must be a list of integers, length at least 2, each at least 1, got \[3\]\.$",
        ),
        ([0], complex | Color, r"must be of type complex or red or blue, got \[0\]\."),
    ],
)
def test_convert_names_key_expectation_and_value(value: Any, annotation: Any, message: str | None) -> None:
    if message is None:
        assert convert(value, annotation, "group.key") == value
        return
    with pytest.raises(ConfigError, match=message) as caught:
        convert(value, annotation, "group.key")
    assert "\n" not in str(caught.value)


@given(
    st.one_of(
        st.integers(-(2**63) + 1, 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.booleans()
    )
)
def test_convert_never_changes_a_scalar_of_the_right_type(value: Any) -> None:
    assert convert(value, type(value), "key") == value


@pytest.mark.parametrize("value", [10**26, [1, -(10**26)], {"x": [2**63]}])
def test_an_integer_of_more_than_64_bits_is_refused(value: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"^seed(\.x)? must be at most 9,223,372,036,854,775,807, the largest integer"
    ):
        convert(value, Any, "seed")


def test_bytes_of_a_path_that_are_not_utf_8_stay_as_they_are() -> None:
    given = {"root": "caf\udce9", "list": ["\udcff"]}

    assert convert(given, Mapping[str, Any], "dataset") == given
    assert convert("caf\udce9", Path, "runs_dir") == Path("caf\udce9")


def test_a_long_value_is_shortened_in_messages() -> None:
    assert len(yaml_text(list(range(100)))) == 80
    assert len(yaml_text("x" * 1000)) == 80


def test_construct_passes_checked_settings_and_what_the_search_supplies() -> None:
    gadget = construct(Gadget, {"size": 4, "augmentation": {"cutout": 0.5}, "free": [1]}, "gadget", {"seed": 7})

    assert gadget.settings == (4, 0.1, Augmentation(cutout=0.5), 7, [1])


@pytest.mark.parametrize(
    ("settings", "supplied", "message"),
    [
        ({"siz": 4}, {}, r"^unknown key gadget\.siz\. Did you mean gadget\.size\?$"),
        ({"size": 4, "color": 1}, {"seed": 1}, r"^unknown key gadget\.color\. Known: gadget\.augmentation, .*rate"),
        ({}, {}, r"^gadget\.size is missing: .*Gadget needs an integer\.$"),
        ({"size": 2}, {}, r"^gadget\.size must be at least 4, got 2\.$"),
        ({"size": 4, "seed": 1}, {"seed": 1}, r"^gadget\.seed is set by the search itself: remove it"),
        ({"size": 4}, {"workers": 1}, r"Gadget does not take 'workers', which the search passes to every gadget\.$"),
        ({"size": 4, "augmentation": {"cutout": 3}}, {}, r"^gadget\.augmentation\.cutout must be at most 1, got 3\.$"),
    ],
)
def test_construct_says_which_setting_is_wrong(
    settings: dict[str, Any], supplied: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        construct(Gadget, settings, "gadget", supplied)


def test_the_components_own_error_is_kept_as_the_cause() -> None:
    with pytest.raises(ConfigError) as caught:
        construct(Gadget, {"size": 2}, "gadget")

    assert isinstance(caught.value.__cause__, SettingError)


def test_keyword_arguments_of_any_name_are_passed_to_a_class_that_takes_them() -> None:
    def collect(**settings: Any) -> dict[str, Any]:
        return settings

    assert construct(collect, {"a": 1}, "x", {"seed": 2}) == {"a": 1, "seed": 2}


def test_a_bug_in_a_constructor_is_raised_unchanged() -> None:
    def broken(*, size: int) -> None:
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        construct(broken, {"size": 1}, "x")


def test_undefined_annotations_are_reported() -> None:
    def hidden(*, tensor: Tensor) -> None: ...  # noqa: F821

    with pytest.raises(ConfigError, match=r"annotations of .*hidden cannot be read: name 'Tensor' is not defined"):
        construct(hidden, {"tensor": 1}, "x")  # type: ignore[name-defined]


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("a.sise", "Did you mean a.size?"),
        ("color", "Did you mean b.color?"),
        ("a.zzz", "Known: a.size."),
        ("sede", "Did you mean seed?"),
        ("seed.x", "seed has no settings."),
    ],
)
def test_suggest_looks_next_to_the_key_then_for_its_name_elsewhere(key: str, sentence: str) -> None:
    assert suggest(key, ["seed", "a", "a.size", "a._target_", "b", "b.color"]) == sentence


def test_describe_names_an_unknown_class() -> None:
    assert describe(Gadget) == "of type Gadget"


@settings
class Oven:
    """Component in the style of nasx: declared ranges."""

    degrees: Annotated[int, Field(ge=50, le=300)] = 180
    dishes: tuple[str, ...] = ()
    racks: tuple[Annotated[int, Field(ge=1)], ...] = ()
    turbo: Annotated[float, Field(ge=0, lt=1)] | None = None


class Kettle:
    @checked
    def __init__(self, *, liters: Annotated[float, Field(gt=0)] = 1.5) -> None:
        self.liters = liters


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Oven(degrees=20), r"^degrees must be at least 50 and at most 300, got 20$"),
        (lambda: Oven(degrees="hot"), r"^degrees must be an integer, got 'hot'$"),
        (lambda: Oven(turbo=1.0), r"^turbo must be at least 0 and less than 1, got 1.0$"),
        (lambda: Oven(turbo=float("nan")), r"^turbo must be at least 0 and less than 1, got NaN$"),
        (lambda: Oven(racks=[4, 0]), r"^racks must be a list of integers, each at least 1, got \[4, 0\]$"),
        (lambda: Oven(dishes=[3]), r"^dishes must be a list of text, got \[3\]$"),
        (lambda: Kettle(liters=0), r"^liters must be more than 0, got 0$"),
    ],
)
def test_a_component_made_in_python_checks_types_and_ranges(make, message):
    with pytest.raises(SettingError, match=message):
        make()


@pytest.mark.parametrize("make", [lambda: Oven(grill=True), lambda: Kettle(water=1), lambda: Kettle(2.0)])
def test_an_unknown_or_positional_argument_is_an_error_of_the_caller(make):
    with pytest.raises(TypeError, match=r"Oven|Kettle"):
        make()


def test_a_component_is_a_value():
    oven = Oven(dishes=["pie"])

    assert oven == Oven(dishes=("pie",))
    assert pickle.loads(pickle.dumps(oven)) == oven
    assert hash(oven) == hash(Oven(dishes=("pie",)))
    assert replace(oven, degrees=200) == Oven(degrees=200, dishes=("pie",))
    with pytest.raises(FrozenInstanceError):
        oven.degrees = 60


def test_a_config_is_checked_against_the_same_declaration():
    assert construct(Oven, {"degrees": 60, "dishes": ["pie"]}, "oven") == Oven(degrees=60, dishes=("pie",))
    with pytest.raises(ConfigError, match=r"^oven\.degrees must be at least 50 and at most 300, got 20\.$"):
        construct(Oven, {"degrees": 20}, "oven")
    with pytest.raises(ConfigError, match=r"^oven\.degrees must be an integer, got '60'\.$"):
        construct(Oven, {"degrees": "60"}, "oven")
    with pytest.raises(ConfigError, match=r"^kettle\.liters must be more than 0, got 0\.$"):
        construct(Kettle, {"liters": 0}, "kettle")
