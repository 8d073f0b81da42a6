"""Hints that pydantic reads: models, its types, and its metadata on other types."""

import dataclasses
import datetime
import decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import annotated_types
import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest
import typing_extensions
from pydantic import AnyUrl, BaseModel, Field, SecretStr

from trio_mcp.errors import ArgumentError, ReturnError, ToolDefinitionError
from trio_mcp.schema.answers import read_answer_form
from trio_mcp.schema.parameters import Parameters, read_parameters
from trio_mcp.schema.result_types import convert_result, decode_result
from trio_mcp.schema.returns import Returns, read_returns

T = TypeVar("T")


class Context:
    pass


class Photo(BaseModel):
    """A picture."""

    name: str
    taken: datetime.date | None = Field(None, alias="takenAt")

    @pydantic.computed_field
    @property
    def label(self) -> str:
        return self.name.upper()


class Album(BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    photos: list[Photo]
    day: datetime.date = datetime.date(2026, 1, 1)

    @pydantic.field_validator("photos")
    @classmethod
    def check(cls, photos: list[Photo]) -> list[Photo]:
        if len(photos) > 2:
            raise ValueError("an album has two photos at most")
        return photos


class Names(pydantic.RootModel[list[str]]):
    pass


class Page(BaseModel, Generic[T]):
    items: list[T]
    following: "Page[T] | None" = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    size: float


class Less(BaseModel):
    x: int


class More(BaseModel):
    x: int
    y: int = 0


@pydantic.dataclasses.dataclass
class Point:
    x: int = Field(alias="left")


@dataclasses.dataclass
class Plain:
    photo: Photo
    count: int = 1


@attrs.define
class Defined:
    photos: list[Photo]


class Struct(msgspec.Struct):
    photo: Photo | None = None


@dataclasses.dataclass
class Bounded:
    count: Annotated[int, msgspec.Meta(ge=1)]


class Typed(typing_extensions.TypedDict):
    photo: typing_extensions.NotRequired[Photo]


class Locked(typing_extensions.TypedDict):
    photo: typing_extensions.ReadOnly[Photo]


def parameters_for(annotation: Any) -> Parameters:
    def tool(value): ...

    tool.__annotations__ = {"value": annotation}
    return read_parameters(tool, Context, dereference=True)


def convert(annotation: Any, text: bytes) -> Any:
    return parameters_for(annotation).convert(b'{"value": ' + text + b"}")["value"]


def refusal(annotation: Any, text: bytes) -> str:
    with pytest.raises(ArgumentError) as caught:
        convert(annotation, text)
    return str(caught.value)


def returns_for(annotation: Any) -> Returns:
    def tool(): ...

    tool.__annotations__ = {"return": annotation}
    return read_returns(tool, dereference=True)


def definition_flaw(annotation: Any, part: str = "value") -> str:
    with pytest.raises(ToolDefinitionError) as caught:
        returns_for(annotation) if part == "return" else parameters_for(annotation)
    return str(caught.value)


PHOTO = Photo(name="sea", takenAt=datetime.date(2026, 7, 1))
DUMPED = {"name": "sea", "takenAt": "2026-07-01", "label": "SEA"}


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (Photo, b'{"name": "sea", "takenAt": "2026-07-01"}', PHOTO),
        (list[Photo], b'[{"name": "sea"}]', [Photo(name="sea")]),
        (dict[str, Photo], b'{"a": {"name": "sea"}}', {"a": Photo(name="sea")}),
        (tuple[Photo, int], b'[{"name": "sea"}, 1]', (Photo(name="sea"), 1)),
        (Photo | None, b"null", None),
        (Photo | None, b'{"name": "sea"}', Photo(name="sea")),
        (Photo | str, b'"sea"', "sea"),
        (str | Photo, b'{"name": "sea"}', Photo(name="sea")),
        (Plain, b'{"photo": {"name": "sea"}}', Plain(Photo(name="sea"))),
        (Defined, b'{"photos": [{"name": "sea"}]}', Defined([Photo(name="sea")])),
        (Struct, b'{"photo": {"name": "sea"}}', Struct(Photo(name="sea"))),
        (Struct, b"{}", Struct()),
        (Typed, b'{"photo": {"name": "sea"}}', {"photo": Photo(name="sea")}),
        (Locked, b'{"photo": {"name": "sea"}}', {"photo": Photo(name="sea")}),
        (Album, b'{"photos": [], "day": "2026-02-03"}', Album(photos=[], day=datetime.date(2026, 2, 3))),
        (Names, b'["a"]', Names(["a"])),
        (
            Page[int],
            b'{"items": [1], "following": {"items": []}}',
            Page[int](items=[1], following=Page[int](items=[])),
        ),
        (Point, b'{"left": 3}', Point(left=3)),
        (Less | More, b'{"x": 1, "y": 2}', More(x=1, y=2)),
        (Cat | Dog | str, b'{"kind": "dog", "size": 1}', Dog(kind="dog", size=1)),
        (Annotated[Cat | Dog, Field(discriminator="kind")], b'{"kind": "cat"}', Cat(kind="cat")),
        (AnyUrl, b'"https://example.com/a"', AnyUrl("https://example.com/a")),
        (SecretStr, b'"secret"', SecretStr("secret")),
        (pydantic.PositiveInt, b"3", 3),
        (pydantic.Json[int], b'"3"', 3),
        (pydantic.Base64Bytes, b'"aGk="', b"hi"),
        (Annotated[int, pydantic.AfterValidator(lambda value: value * 2)], b"3", 6),
        (Annotated[str, pydantic.StringConstraints(strip_whitespace=True, min_length=1)], b'" a "', "a"),
        (Annotated[int, Field(strict=False)], b'"3"', 3),
        (Annotated[decimal.Decimal, Field(max_digits=3)], b'"1.25"', decimal.Decimal("1.25")),
        (
            Annotated[str, annotated_types.Predicate(str.islower), pydantic.AfterValidator(str.upper)],
            b'"a"',
            "A",
        ),
    ],
)
def test_what_pydantic_reads_becomes_its_value(annotation, text, expected):
    value = convert(annotation, text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "text", "message"),
    [
        (Photo, b"{}", "value: missing required field 'name'"),
        (Photo, b"[]", "value: input should be an object"),
        (
            Photo,
            b'{"name": 1, "takenAt": "soon"}',
            "value.name: input should be a valid string; value.takenAt: input should be a valid date or "
            "datetime, input is too short",
        ),
        (
            Album,
            b'{"photos": [{"name": "a"}, {}], "more": 1}',
            "value.photos[1]: missing required field 'name'; value: unexpected field 'more'",
        ),
        (
            Album,
            b'{"photos": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}',
            "value.photos: an album has two photos at most",
        ),
        (dict[str, list[Photo]], b'{"a": [], "b": [{}]}', "value['b'][0]: missing required field 'name'"),
        (Defined, b'{"photos": [{"name": 1}]}', "value.photos[0].name: input should be a valid string"),
        (
            Photo | int,
            b'"a"',
            "value: expected Photo or int (Photo: input should be an object; int: expected int, got str)",
        ),
        (
            Annotated[Cat | Dog, Field(discriminator="kind")],
            b'{"kind": "dog"}',
            "value: missing required field 'size'",
        ),
        (
            Annotated[SecretStr, Field(min_length=8)],
            b'"abc"',
            "value: value should have at least 8 items after validation, not 3",
        ),
    ],
)
def test_problems_have_the_path_and_no_value(annotation, text, message):
    assert refusal(annotation, text) == message


def test_problems_are_no_more_than_an_answer_holds():
    message = refusal(list[int] | Names, b"[" + b", ".join([b'{"a": 1}'] * 1000) + b"]")
    assert len(message) < 2000
    assert refusal(Names, b"[" + b"1, " * 1000 + b"1]").endswith("and 981 more")


def test_the_schema_is_that_of_pydantic():
    schema = parameters_for(Album).schema["properties"]["value"]
    expected = Album.model_json_schema()
    photo = expected.pop("$defs")["Photo"]
    expected["properties"]["photos"]["items"] = photo
    assert schema == expected
    assert photo["properties"].keys() == {"name", "takenAt"}
    result = returns_for(Photo)
    assert result.schema == Photo.model_json_schema(mode="serialization")
    assert not result.wrapped


def test_schemas_that_refer_to_themselves_are_kept_as_definitions():
    schema = parameters_for(Page[int]).schema
    assert schema["properties"]["value"] == {"$ref": "#/$defs/Page_int_"}
    assert schema["$defs"].keys() == {"Page_int_"}


def test_two_classes_of_one_name_have_two_definitions():
    @dataclasses.dataclass
    class Photo:  # another one, that msgspec describes
        size: int

    def tool(a: Photo, b: globals()["Photo"], c: Defined): ...

    properties = read_parameters(tool, Context, dereference=True).schema["properties"]
    assert properties["a"]["properties"].keys() == {"size"}
    assert properties["b"]["properties"].keys() == {"name", "takenAt"}
    assert properties["c"]["properties"]["photos"]["items"] == properties["b"]
    kept = read_parameters(tool, Context).schema
    assert kept["properties"]["b"] == {"$ref": "#/$defs/Photo_2"}


def test_a_field_gives_a_description_a_default_and_another_name():
    def tool(
        photo: Annotated[Photo, Field(description="Which.")],
        count: int = Field(3, alias="how-many", ge=1),
        kind: Annotated[str, Field(validation_alias="type")] = "jpg",
        pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat(kind="cat"),  # noqa: B008  # pydantic's way
    ):
        """Show it.

        Args:
            kind: Of file.
        """

    parameters = read_parameters(tool, Context, dereference=True)
    properties = parameters.schema["properties"]
    assert list(properties) == ["photo", "how-many", "type", "pet"]
    assert properties["photo"]["description"] == "Which."
    assert properties["how-many"] == {"type": "integer", "minimum": 1, "default": 3}
    assert properties["type"] == {"type": "string", "description": "Of file.", "default": "jpg"}
    assert properties["pet"]["default"] == {"kind": "cat", "lives": 9}
    assert parameters.schema["required"] == ["photo"]
    assert parameters.convert(b'{"photo": {"name": "a"}}') == {"photo": Photo(name="a"), "count": 3}
    assert parameters.convert(b'{"photo": {"name": "a"}, "how-many": 5, "type": "b"}') == {
        "photo": Photo(name="a"),
        "count": 5,
        "kind": "b",
    }
    with pytest.raises(ArgumentError, match="unexpected argument 'count'; how-many: expected int >= 1"):
        parameters.convert(b'{"photo": {"name": "a"}, "count": 5, "how-many": 0}')


def test_a_default_is_shown_if_a_caller_could_send_it():
    class Closed(BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        name: str

        @pydantic.computed_field
        @property
        def label(self) -> str:
            return self.name.upper()

    closed = Closed(name="a")

    def tool(
        photos: list[Photo] = [PHOTO],  # noqa: B006  # as users write it
        closed: list[Closed] = [closed],  # noqa: B006
        url: AnyUrl = AnyUrl("https://example.com/"),  # noqa: B008
        secret: SecretStr = SecretStr("hidden"),  # noqa: B008
    ): ...

    properties = read_parameters(tool, Context).schema["properties"]
    assert properties["photos"]["default"] == [DUMPED]
    assert properties["url"]["default"] == "https://example.com/"
    assert "default" not in properties["closed"]
    assert "default" not in properties["secret"]
    for annotation, default in (
        (list[Photo], [{"name": "a"}]),
        (Photo, {"name": "a"}),
        (AnyUrl, "https://a"),
    ):

        def other(value=default): ...

        other.__annotations__ = {"value": annotation}
        with pytest.raises(ToolDefinitionError, match=r"'value': the default .* is no "):
            read_parameters(other, Context)


def test_an_alias_that_another_parameter_has_is_refused():
    def tool(a: int, b: Annotated[int, Field(alias="a")]): ...

    with pytest.raises(ToolDefinitionError, match="parameter 'b': its alias 'a' is the name of another"):
        read_parameters(tool, Context)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (
            Annotated[str, msgspec.Meta(max_length=3), pydantic.AfterValidator(str.strip)],
            "max_length is not seen by pydantic, which reads the other metadata: give it in a Field",
        ),
        (
            Annotated[list[Bounded], pydantic.AfterValidator(list)],
            "field 'count' of Bounded: ge is not seen by pydantic",
        ),
        (Annotated[list[Struct], pydantic.AfterValidator(len)], r"pydantic cannot read list\[Struct\]"),
        (Annotated[float, Field(max_digits=3)], "float cannot have max_digits, which is for Decimal"),
        (Annotated[int, Field(exclude=True)], "the option exclude of pydantic's Field"),
        (list[Annotated[int, Field(alias="x")]], "the option alias of pydantic's Field"),
        (set[Photo], "Photo is not hashable"),
        (dict[Photo, int], "Photo cannot be a key in JSON"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_the_parameter(annotation, reason):
    with pytest.raises(ToolDefinitionError, match=f"tool 'tool', parameter 'value': .*{reason}"):
        parameters_for(annotation)


def test_a_model_without_a_schema_is_refused_with_the_parameter():
    class Unready(BaseModel):
        value: "Missing"  # noqa: F821

    class Callback(BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        value: typing_extensions.Callable[[], None]

    for model in (Unready, Callback):
        assert "parameter 'value': pydantic cannot read " in definition_flaw(model)
        assert "return annotation: pydantic cannot read " in definition_flaw(model, "return")


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Photo, PHOTO, DUMPED),
        (Photo, {"name": "sea", "takenAt": "2026-07-01"}, DUMPED),
        (list[Photo], [PHOTO], [DUMPED]),
        (Photo | None, None, None),
        (Plain, Plain(PHOTO), {"photo": DUMPED, "count": 1}),
        (Defined, Defined([PHOTO]), {"photos": [DUMPED]}),
        (Struct, Struct(PHOTO), {"photo": DUMPED}),
        (Typed, {"photo": PHOTO}, {"photo": DUMPED}),
        (
            Any,
            [PHOTO, {"a": SecretStr("b"), "c": AnyUrl("https://example.com/")}],
            [DUMPED, {"a": "*" * 10, "c": "https://example.com/"}],
        ),
        (Names, Names(["a"]), ["a"]),
        (Point, Point(left=3), {"left": 3}),
        (list[Point], [Point(left=3)], [{"left": 3}]),
        (SecretStr, "secret", "*" * 10),
        (AnyUrl, AnyUrl("https://example.com/a"), "https://example.com/a"),
        (Annotated[str, pydantic.AfterValidator(str.upper)], "a", "A"),
        (Annotated[int, pydantic.PlainSerializer(str, return_type=str)], 3, "3"),
    ],
)
def test_a_result_is_dumped_by_pydantic(annotation, value, expected):
    assert returns_for(annotation).to_builtins(value) == expected


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (Photo, {"takenAt": None}, "missing required field 'name'"),
        (list[Photo], [PHOTO, 3], r"\[1\]: input should be"),
        (Plain, Plain(PHOTO, "3"), "count: expected int, got str"),
        (
            dict[str, Plain],
            {"a": Plain(PHOTO), "b": Plain(PHOTO, "3")},
            r"\['b'\].count: expected int, got str",
        ),
        (Annotated[str, Field(max_length=3)], "long text", "expected str of length <= 3"),
    ],
)
def test_a_result_that_does_not_fit_is_refused(annotation, value, problem):
    with pytest.raises(ReturnError, match=f"returned value does not match its annotation: {problem}"):
        returns_for(annotation).to_builtins(value)


def test_a_form_may_be_a_model():
    class Order(BaseModel):
        size: Literal["s", "l"]
        count: int = Field(1, ge=1, le=9, description="How many.")
        note: str | None = None

    form = read_answer_form(Order)
    properties = form.schema["properties"]
    assert properties["size"]["enum"] == ["s", "l"]
    assert properties["count"]["maximum"] == 9
    assert properties["note"]["type"] == "string"
    assert form.schema["required"] == ["size"]
    assert form.convert({"size": "s", "count": 2}) == Order(size="s", count=2)
    with pytest.raises(ArgumentError, match="count: input should be less than or equal to 9"):
        form.convert({"size": "s", "count": 20})


def test_a_client_may_ask_for_a_model():
    assert convert_result(DUMPED, Photo) == PHOTO
    assert convert_result([{"kind": "cat"}], list[Cat | Dog]) == [Cat(kind="cat")]
    with pytest.raises(ValueError, match=r"\[1\]: missing required field 'name'"):
        convert_result([DUMPED, {}], list[Photo])


def test_what_is_kept_as_json_comes_back_as_a_model():
    assert decode_result(msgspec.Raw(b'{"name": "sea", "takenAt": "2026-07-01"}'), Photo) == PHOTO
    assert decode_result(msgspec.Raw(b"[3.0]"), list[int]) == [3]
    with pytest.raises(ValueError, match="missing required field 'name'"):
        decode_result(msgspec.Raw(b"{}"), Photo | None)
    with pytest.raises(TypeError, match="complex has no JSON form"):
        decode_result(msgspec.Raw(b"{}"), complex)
