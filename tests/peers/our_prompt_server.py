"""A stdio server with prompts made with trio_mcp; `sdk_prompts.py serve` is its twin."""

from trio_mcp import Image, Message, Server

server = Server("our-prompts", version="1.0")


@server.prompt
def review(text: str, style: str = "dry") -> list[Message]:
    """Ask for a review."""
    return [Message(f"Review in {style} style: {text}"), Message("My first remark:", role="assistant")]


@review.complete("style")
def complete_style(value: str, arguments: dict[str, str]) -> list[str]:
    return [f"{value}{ending} {arguments.get('text', '')}" for ending in ("ry", "ramatic")]


@server.prompt
def look() -> Image:
    """Show a picture."""
    return Image(b"picture", "png")


if __name__ == "__main__":
    server.run()
