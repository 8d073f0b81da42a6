"""`trio-mcp read`, `prompt` and `complete`, and what `list` shows beside tools, from end to end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import command, environment, run, show_in_terminal
from tests.support.limits import HANG_SECONDS

SERVER = '''
import trio
from trio_mcp import Context, Message, ResourceContents, Server

server = Server("shop", version="1.0")
PICTURE = bytes(range(256))


@server.resource("config://app", mime_type="text/plain")
def config() -> str:
    """How the shop is set up."""
    return "caf\\u00e9\\n"


@server.resource("logo://shop", mime_type="image/png")
async def logo(ctx: Context) -> bytes:
    await ctx.report_progress(1, 2, "drawing")
    return PICTURE


@server.resource("both://shop")
def both() -> list[ResourceContents]:
    return [ResourceContents(uri="a://a", text="one"), ResourceContents(uri="b://b", text="two")]


@server.resource("mixed://shop")
def mixed() -> list[ResourceContents]:
    return [ResourceContents(uri="a://a", text="one"), ResourceContents(uri="b://b", blob="YWJj")]


@server.resource("never://shop")
async def never() -> str:
    await trio.sleep_forever()


@server.resource("users://{user_id}/profile{?language}")
def profile(user_id: int, language: str = "en") -> str:
    """The profile of a user."""
    return f"{user_id} in {language}"


@server.prompt(title="Plan a day")
async def plan(ctx: Context, country: str, city: str = "Rome") -> list[Message]:
    await ctx.report_progress(1, 1, "planned")
    return [Message(f"A day in {city}, {country}."), Message("Yes:\\nuser: no", role="assistant")]


@plan.complete("city")
def complete_city(value: str, arguments: dict[str, str]) -> list[str]:
    cities = {"Italy": ["Rome", "Pisa", "Parma"], "Many": [f"P{number}" for number in range(150)]}
    return [city for city in cities.get(arguments.get("country", ""), []) if city.startswith(value)]
'''

BARE = """
from trio_mcp import Server
server = Server("bare")
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.py"
    path.write_text(SERVER)
    return path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "bare.py"
    path.write_text(BARE)
    return path


def output(*arguments: str | Path) -> bytes:
    """What the command writes to stdout, as bytes."""
    return subprocess.run(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=HANG_SECONDS,
        env=environment(120),
        check=True,
    ).stdout


def test_list_shows_resources_templates_and_prompts(shop: Path) -> None:
    shown = run("list", shop).stdout
    for words in ("config://app", "text/plain", "How the shop is set up.", "users://{user_id}/profile"):
        assert words in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["plan", "country*", "Plan", "a", "day"] in rows
    assert ["city"] in rows
    assert "Tool" not in shown, "there is no table of what the server does not have"


@pytest.mark.parametrize("protocol", ["2026-07-28", "2025-11-25"])
def test_list_prints_everything_as_json(shop: Path, protocol: str) -> None:
    listed = json.loads(run("list", shop, "--json", "--protocol", protocol).stdout)
    assert listed["tools"] == []
    assert [resource["uri"] for resource in listed["resources"]][:2] == ["config://app", "logo://shop"]
    assert [item["uriTemplate"] for item in listed["resourceTemplates"]] == [
        "users://{user_id}/profile{?language}"
    ]
    assert listed["prompts"][0]["arguments"][0] == {"name": "country", "required": True}


def test_list_says_that_a_server_has_nothing(bare: Path) -> None:
    assert "It has no tools, resources or prompts." in run("list", bare).stdout
    listed = json.loads(run("list", bare, "--json").stdout)
    assert [listed[kind] for kind in ("tools", "resources", "resourceTemplates", "prompts")] == [[]] * 4


@pytest.mark.parametrize(
    ("uri", "printed"),
    [
        ("config://app", "café\n".encode()),
        ("users://7/profile?language=fr", b"7 in fr"),
        ("logo://shop", bytes(range(256))),
        ("both://shop", b"one\ntwo\n"),
    ],
)
def test_a_program_gets_the_contents_as_they_are(shop: Path, uri: str, printed: bytes) -> None:
    assert output("read", shop, uri) == printed


def test_a_resource_is_written_to_a_file(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "logo.png"
    done = run("read", shop, "logo://shop", "--output", path)
    assert (done.returncode, done.stdout) == (0, "")
    assert path.read_bytes() == bytes(range(256))
    assert f"256 bytes written to {path}\n" in done.stderr
    assert run("read", shop, "config://app", "-o", path).returncode == 0
    assert path.read_text() == "café\n"


def test_a_terminal_is_told_what_bytes_there_are(shop: Path) -> None:
    shown, status = show_in_terminal("read", shop, "logo://shop", columns=80)
    assert status == 0
    assert "[image/png, 256 bytes: --output FILE writes them]" in shown
    assert "\x01" not in shown
    shown, _ = show_in_terminal("read", shop, "mixed://shop", columns=80)
    assert shown.splitlines() == ["one", "[no MIME type, 3 bytes: --output FILE writes them]"]


def test_read_prints_json(shop: Path) -> None:
    assert json.loads(run("read", shop, "mixed://shop", "--json").stdout)["contents"] == [
        {"uri": "a://a", "text": "one"},
        {"uri": "b://b", "blob": "YWJj"},
    ]


def test_progress_of_a_read_and_of_a_prompt_is_shown(shop: Path) -> None:
    assert " 50% 1/2 drawing\n" in run("read", shop, "logo://shop", "--json").stderr
    assert "100% 1/1 planned\n" in run("prompt", shop, "plan", "country=Italy").stderr
    assert run("prompt", shop, "plan", "country=Italy", "--quiet").stderr == ""


def test_prompt_prints_messages_of_which_none_looks_like_another(shop: Path) -> None:
    done = run("prompt", shop, "plan", "country=Italy", "city=Pisa")
    assert done.stdout == "user:\n  A day in Pisa, Italy.\nassistant:\n  Yes:\n  user: no\n"


def test_prompt_prints_json(shop: Path) -> None:
    messages = json.loads(run("prompt", shop, "plan", "country=Italy", "--json").stdout)["messages"]
    assert messages[0] == {"role": "user", "content": {"type": "text", "text": "A day in Rome, Italy."}}


def test_complete_prints_a_value_on_each_line(shop: Path) -> None:
    assert run("complete", shop, "plan", "city=P", "country=Italy").stdout == "Pisa\nParma\n"
    words = command("run", shop)
    assert run("complete", "plan", "city=R", "country=Italy", "--", *words).stdout == "Rome\n"


def test_complete_says_that_there_are_more_values_or_none(shop: Path) -> None:
    done = run("complete", shop, "plan", "city=", "country=Many")
    assert len(done.stdout.splitlines()) == 100
    assert done.stderr == "and 50 more\n"
    done = run("complete", shop, "plan", "city=")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no values\n")


def test_complete_prints_json(shop: Path) -> None:
    found = json.loads(run("complete", shop, "plan", "city=P", "country=Italy", "--json").stdout)
    assert found == {"values": ["Pisa", "Parma"], "total": 2, "hasMore": False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["read", "SHOP", "conf://app"], "the server does not read 'conf://app'"),
        (["read", "SHOP", "conf://app"], "did you mean 'config://app'?"),
        (["read", "SHOP", "users://x/profile"], "user_id: expected int"),
        (["read", "SHOP", "logo://shop", "--json", "-o", "x"], "makes no sense beside --output"),
        (["read", "SHOP", "mixed://shop"], "has 2 contents, and some are no text; --json prints all"),
        (["read", "SHOP", "both://shop", "-o", "x"], "has 2 contents, and --output takes one"),
        (["read", "SHOP", "logo://shop", "-o", "no/such/place"], "cannot write 'no/such/place': No such"),
        (["read", "BARE", "config://app"], "the server has no resources"),
        (["read", "SHOP"], "URI"),
        (["prompt", "SHOP", "plam"], "the server has no prompt 'plam': did you mean 'plan'?"),
        (["prompt", "SHOP", "plan"], "'plan' needs country=..."),
        (["prompt", "SHOP", "plan", "land=x"], "'plan' has no argument 'land'"),
        (["prompt", "SHOP", "plan", "country"], "'country' is no argument: write key=value"),
        (["prompt", "SHOP", "plan", "country=a", "country=b"], "'country' is given twice"),
        (["prompt", "BARE", "plan"], "the server has no prompt 'plan': it has none"),
        (["complete", "SHOP", "plam", "city="], "the server has no prompt 'plam': did you mean 'plan'?"),
        (["complete", "SHOP", "users://{id}", "id="], "the server has no template 'users://{id}'"),
        (["complete", "SHOP", "plan", "town="], "'plan' has no argument 'town'"),
        (["complete", "SHOP", "plan", "city=", "x=1"], "'plan' has no argument 'x'"),
        (["complete", "SHOP", "plan"], "KEY=VALUE"),
        (["complete", "BARE", "plan", "city="], "does not declare completions"),
    ],
)
def test_errors_are_one_line_that_says_what_is_wrong(
    shop: Path, bare: Path, arguments: list[str], message: str
) -> None:
    places = {"SHOP": str(shop), "BARE": str(bare)}
    done = run(*(places.get(word, word) for word in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line for line in done.stderr.splitlines() if line.startswith("trio-mcp: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.stderr


def test_a_read_that_takes_too_long_is_status_124(shop: Path) -> None:
    done = run("read", shop, "never://shop", "--idle-timeout", "0.2")
    assert done.returncode == 124
    assert "resource 'never://shop' made no progress for 0.2 seconds" in done.stderr
