"""The bookshop of `fastmcp_server.py`, moved from FastMCP 4.2 to trio_mcp."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, computed_field, field_validator

from trio_mcp import (
    Bearer,
    Context,
    Depends,
    Image,
    Message,
    Principal,
    ResourceError,
    Server,
    StaticTokens,
    ToolAnnotations,
    ToolContext,
    ToolError,
)

Isbn = Annotated[str, Field(pattern=r"^\d{13}$", description="13 digits, without hyphens")]


class Book(BaseModel):
    """A book that the shop sells."""

    isbn: Isbn
    title: str = Field(min_length=1)
    authors: list[str]
    price: Decimal = Field(gt=0, decimal_places=2)
    genre: Literal["novel", "science", "children"] = "novel"
    copies: int = Field(default=0, ge=0, description="how many are in stock")


class Line(BaseModel):
    """So many copies of one book."""

    isbn: Isbn
    copies: int = Field(default=1, ge=1, le=20)


class Address(BaseModel):
    """Where an order is sent to."""

    street: str
    city: str
    zip_code: str = Field(validation_alias="zip", pattern=r"^\d{4,5}$")

    @field_validator("city")
    @classmethod
    def check_city(cls, city: str) -> str:
        if city.lower() == "atlantis":
            raise ValueError("we do not deliver below the sea")
        return city.title()


class Order(BaseModel):
    """What a customer has ordered."""

    number: int
    customer: str
    lines: list[Line]
    address: Address | None = None
    total: Decimal

    @computed_field  # type: ignore[prop-decorator]
    @property
    def copies(self) -> int:
        return sum(line.copies for line in self.lines)


class Shop:
    """The books and the orders. A real one has a database."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.orders: list[Order] = []
        self.calls: Counter[str] = Counter()
        self.changes: list[str] = []

    def find(self, isbn: str) -> Book:
        try:
            return self.books[isbn]
        except KeyError:
            raise ToolError(f"there is no book {isbn}") from None


STOCK = [
    ("9780141439587", "Emma", "Jane Austen", "8.50"),
    ("9780141439518", "Pride and Prejudice", "Jane Austen", "7.99"),
    ("9780553380163", "A Brief History of Time", "Stephen Hawking", "12.00"),
]


@asynccontextmanager
async def open_shop(server: Server) -> AsyncIterator[dict[str, Any]]:
    shop = Shop()
    for isbn, title, author, price in STOCK:
        shop.books[isbn] = Book(isbn=isbn, title=title, authors=[author], price=Decimal(price), copies=5)
    yield {"shop": shop}


async def count_calls(ctx: ToolContext, call_next: Any) -> Any:
    """Counts how often each tool is called, and how often it fails."""
    shop: Shop = ctx.lifespan["shop"]
    shop.calls[ctx.name] += 1
    try:
        return await call_next(ctx)
    except Exception:
        shop.calls[f"{ctx.name} failed"] += 1
        raise


async def without_hyphens(ctx: ToolContext, call_next: Any) -> Any:
    """Lets models write ISBNs as they stand on books."""
    if isinstance(ctx.arguments.get("isbn"), str):
        ctx.arguments["isbn"] = ctx.arguments["isbn"].replace("-", "")
    return await call_next(ctx)


tokens = StaticTokens(
    {
        "ada-token": Principal("ada", scopes=["shop"]),
        "carl-token": Principal("carl", scopes=["shop", "stock"]),
    }
)
auth = Bearer(tokens, scopes=["shop"])
mcp = Server(
    "bookshop",
    instructions="Search for books before you order them.",
    lifespan=open_shop,
)
mcp.add_tool_middleware(count_calls)
mcp.add_tool_middleware(without_hyphens)


def get_shop(ctx: Context) -> Shop:
    shop: Shop = ctx.lifespan["shop"]
    return shop


def get_customer(ctx: Context) -> str:
    assert ctx.principal is not None
    return ctx.principal.name


@asynccontextmanager
async def open_change(
    shop: Shop = Depends(get_shop), customer: str = Depends(get_customer)
) -> AsyncIterator[list[str]]:
    """What a handler changes is kept if it succeeds."""
    changes: list[str] = []
    try:
        yield changes
    except BaseException:
        shop.changes.append(f"{customer}: nothing")
        raise
    shop.changes.extend(f"{customer}: {change}" for change in changes)


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True))
def search_books(
    text: Annotated[str, Field(min_length=2, description="a part of a title or of an author's name")],
    limit: Annotated[int, Field(ge=1, le=50)] = 10,
    shop: Shop = Depends(get_shop),
) -> list[Book]:
    """Search for books."""
    words = text.lower()
    found = [book for book in shop.books.values() if words in f"{book.title} {book.authors}".lower()]
    return found[:limit]


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True))
def get_book(isbn: Isbn, shop: Shop = Depends(get_shop)) -> Book:
    """Look at one book."""
    return shop.find(isbn)


@mcp.tool
async def order_books(
    lines: Annotated[list[Line], Field(min_length=1)],
    ctx: Context,
    address: Address | None = None,
    shop: Shop = Depends(get_shop),
    customer: str = Depends(get_customer),
    changes: list[str] = Depends(open_change),
) -> Order:
    """Order books. Without an address the customer fetches them."""
    total = Decimal(0)
    for number, line in enumerate(lines, start=1):
        book = shop.find(line.isbn)
        if book.copies < line.copies:
            raise ToolError(f"only {book.copies} copies of {book.title} are left")
        total += book.price * line.copies
        await ctx.report_progress(number, len(lines), f"{line.copies} x {book.title}")
    for line in lines:
        shop.find(line.isbn).copies -= line.copies
        changes.append(f"-{line.copies} {line.isbn}")
    order = Order(number=len(shop.orders) + 1, customer=customer, lines=lines, address=address, total=total)
    shop.orders.append(order)
    await ctx.info(f"order {order.number} of {customer}")
    return order


@mcp.tool(scopes=["stock"], tags={"staff"})
async def add_book(
    book: Book, shop: Shop = Depends(get_shop), changes: list[str] = Depends(open_change)
) -> str:
    """Add a book, or more copies of it."""
    book.copies += shop.books[book.isbn].copies if book.isbn in shop.books else 0
    shop.books[book.isbn] = book
    changes.append(f"{book.copies} {book.isbn}")
    return f"{book.copies} copies of {book.title}"


@mcp.tool
def draw_cover(isbn: Isbn, shop: Shop = Depends(get_shop)) -> Image:
    """Draw the cover of a book."""
    return Image(data=b"\x89PNG " + shop.find(isbn).title.encode(), format="png")


@mcp.resource("shop://rules", mime_type="text/plain")
def rules() -> str:
    """The rules of the shop."""
    return "Books are returned within 14 days."


@mcp.resource("shop://journal", mime_type="application/json")
def journal(shop: Shop = Depends(get_shop)) -> dict[str, Any]:
    """What was called and changed."""
    return {"calls": dict(shop.calls), "changes": shop.changes}


@mcp.resource("shop://books/{isbn}", mime_type="application/json")
async def read_book(isbn: str, shop: Shop = Depends(get_shop)) -> str:
    """One book of the shop."""
    if isbn not in shop.books:
        raise ResourceError(f"there is no book {isbn}")
    return shop.books[isbn].model_dump_json()


@mcp.prompt
def recommend(genre: str, count: int = 3) -> str:
    """Ask for a recommendation."""
    return f"Recommend {count} books of the genre {genre}."


@mcp.prompt
async def review(isbn: str, shop: Shop = Depends(get_shop)) -> list[Message]:
    """Talk about a book."""
    title = shop.books[isbn].title
    return [Message(f"I have read {title}."), Message("How did you like it?", role="assistant")]


if __name__ == "__main__":
    mcp.run("http", auth=auth)
