"""The grants without a person from end to end: a client meets a protected server over HTTP, and gets in."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256

import attrs

from tests.oauth.test_dpop import read
from tests.transports.http.http_peer import MODERN, TEXT, Call, answer_modern, serving
from trio_mcp import open_client
from trio_mcp.client.server_requests import Answering
from trio_mcp.oauth.client_credentials import ClientCredentials
from trio_mcp.oauth.enterprise import EnterpriseManaged

TASKS = "io.modelcontextprotocol/tasks"
TOKEN = "s3cret-token"


@attrs.define
class Protected:
    """A server and its authorization servers at one origin; if `is_bound`, each answer has a new nonce."""

    is_bound: bool = False
    nonces: int = 0
    ids: list[str] = attrs.field(factory=list)
    url: str = ""
    forms: list[dict[str, str]] = attrs.field(factory=list)

    async def __call__(self, call: Call) -> None:
        origin = self.url.removesuffix("/mcp")
        if call.path == "/.well-known/oauth-protected-resource/mcp":
            await call.reply_json({"resource": self.url, "authorization_servers": [origin]})
        elif call.path.startswith("/.well-known/"):
            issuer = origin + call.path.removeprefix("/.well-known/oauth-authorization-server")
            await call.reply_json({"issuer": issuer, "token_endpoint": f"{issuer}/token"})
        elif call.path.endswith("/token"):
            await self.give_token(call)
        elif await self.lets_in(call):
            await self.serve(call)

    async def give_token(self, call: Call) -> None:
        fields = call.message
        self.forms.append(fields)
        kind = "DPoP" if "dpop" in call.headers else "Bearer"
        issued = "urn:ietf:params:oauth:token-type:id-jag"
        await call.reply_json({"access_token": TOKEN, "token_type": kind, "issued_token_type": issued})

    async def lets_in(self, call: Call) -> bool:
        if not self.is_bound and call.headers.get("authorization") == f"Bearer {TOKEN}":
            return True
        headers = {"www-authenticate": "Bearer"}
        if self.is_bound and call.headers.get("authorization") == f"DPoP {TOKEN}":
            claims = read(call.headers["dpop"]).claims
            self.ids.append(claims["jti"])
            ath = urlsafe_b64encode(sha256(TOKEN.encode()).digest()).rstrip(b"=").decode()
            assert (claims["htm"], claims["htu"], claims["ath"]) == ("POST", self.url, ath)
            if claims.get("nonce") == f"nonce-{self.nonces}":
                return True
            headers = {"www-authenticate": 'DPoP error="use_dpop_nonce"', **self.next_nonce()}
        await call.reply(401, b"", headers=headers)
        return False

    def next_nonce(self) -> dict[str, str]:
        if not self.is_bound:
            return {}
        self.nonces += 1
        return {"dpop-nonce": f"nonce-{self.nonces}"}

    async def serve(self, call: Call) -> None:
        if not await answer_modern(call):
            await call.result({**TEXT, "resultType": "complete"}, self.next_nonce())


async def test_a_program_gets_in_and_declares_its_extension() -> None:
    protected = Protected()
    async with serving(protected) as app:
        protected.url = app.url
        async with open_client(
            app.url, auth=ClientCredentials("client", "s3cret"), protocol=MODERN
        ) as client:
            await client.call_tool("add")
    assert [form["resource"] for form in protected.forms] == [app.url]
    (call,) = app.made("tools/call")
    extensions = call.message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"]["extensions"]
    assert extensions.keys() == {"io.modelcontextprotocol/oauth-client-credentials", TASKS}
    assert "s3cret" not in str([call.message for call in app.made()])


def test_the_extension_is_declared_to_modern_servers_only() -> None:
    answering = Answering(extension=ClientCredentials.extension)
    assert answering.capabilities(modern=True) == {"extensions": {ClientCredentials.extension: {}}}
    assert answering.capabilities(modern=False) == {}


async def test_a_user_of_an_organization_gets_in() -> None:
    protected = Protected()
    async with serving(protected) as app:
        protected.url = app.url
        auth = EnterpriseManaged(
            "id-token",
            client_id="client",
            client_secret="s3cret",
            idp_client_id="idp-client",
            idp_issuer=app.url.removesuffix("/mcp") + "/idp",
        )
        async with open_client(app.url, auth=auth, protocol=MODERN) as client:
            await client.call_tool("add")
    assert [form.get("subject_token") for form in protected.forms] == ["id-token", None]
    assert protected.forms[1]["assertion"] == TOKEN
    (call,) = app.made("tools/call")
    extensions = call.message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"]["extensions"]
    assert extensions.keys() == {"io.modelcontextprotocol/enterprise-managed-authorization", TASKS}


async def test_the_nonce_of_each_answer_goes_into_the_next_proof() -> None:
    protected = Protected(is_bound=True)
    calls = 3
    async with serving(protected) as app:
        protected.url = app.url
        auth = ClientCredentials("client", "s3cret", dpop=True)
        async with open_client(app.url, auth=auth, protocol=MODERN) as client:
            for _ in range(calls):
                await client.call_tool("add")
    assert len(app.made("server/discover")) == 3, "without a token, without a nonce, with both"
    assert len(app.made("tools/call")) == calls
    assert len(set(protected.ids)) == len(protected.ids), "every request has a proof of its own"
    assert len(protected.forms) == 1
