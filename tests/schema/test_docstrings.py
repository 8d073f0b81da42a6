"""Docstrings: the description of a tool, and those of its parameters."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.schema.docstrings import read_docstring


def documented(text: str | None):
    def tool(): ...

    tool.__doc__ = text
    return read_docstring(tool)


GOOGLE = """Add numbers.

    More: about it.

    Args:
        a: The first.
        b (int): The second,
            on two lines.

            And more.

    Returns:
        The sum.

    Example:
        add(1, 2)

    Raises:
        ValueError: Never.
    """

NUMPY = """Add numbers.

    More: about it.

    Parameters
    ----------
    a, c : int
        The first.
    b : int, optional
        The second,
        on two lines.

    Returns
    -------
    int
        The sum.

    Example
    -------
    add(1, 2)
    """

REST = """Add numbers.

    More: about it.

    :param a: The first.
    :param int b: The second,
        on two lines.
    :type a: int
    :returns: The sum.
    :raises ValueError: Never.
    """


def test_google_sections_are_read():
    docs = documented(GOOGLE)
    assert docs.description == "Add numbers.\n\nMore: about it.\n\nExample:\n    add(1, 2)"
    assert docs.parameters == {"a": "The first.", "b": "The second, on two lines. And more."}


def test_numpy_sections_are_read():
    docs = documented(NUMPY)
    assert docs.description == "Add numbers.\n\nMore: about it.\n\nExample\n-------\nadd(1, 2)"
    assert docs.parameters == {"a": "The first.", "c": "The first.", "b": "The second, on two lines."}


def test_rest_fields_are_read():
    docs = documented(REST)
    assert docs.description == "Add numbers.\n\nMore: about it."
    assert docs.parameters == {"a": "The first.", "b": "The second, on two lines."}


@pytest.mark.parametrize(
    ("text", "description"),
    [
        (None, None),
        ("", None),
        ("   \n  ", None),
        ("One line.", "One line."),
        ("\n    First.\n\n        Indented.\n    ", "First.\n\n    Indented."),
        ("Parameters: are explained elsewhere.", "Parameters: are explained elsewhere."),
        ("Args:\n\nNothing indented.", "Args:\n\nNothing indented."),
        ("\n    Args:\n        a: Only this.\n    ", None),
    ],
)
def test_a_docstring_without_sections_is_the_description(text, description):
    assert documented(text).description == description


@given(st.text(alphabet="aArgs:param \n-Returns", max_size=60))
def test_odd_docstrings_never_fail(text):
    documented(text)


class Callable:
    """The class."""

    def __call__(self, a: int) -> int:
        """The call."""
        return a


class Silent:
    """The class."""

    def __call__(self) -> None: ...


class Methods:
    def method(self) -> None:
        """The method."""


def wrapped():
    def original():
        """The original."""

    @functools.wraps(original)
    def wrapper(*args): ...

    return wrapper


@pytest.mark.parametrize(
    ("function", "description"),
    [
        (Callable(), "The call."),
        (Silent(), "The class."),
        (Methods().method, "The method."),
        (functools.partial(Methods().method), "The method."),
        (functools.partial(Callable(), 1), "The call."),
        (wrapped(), "The original."),
    ],
)
def test_the_nearest_docstring_is_found(function, description):
    assert read_docstring(function).description == description
