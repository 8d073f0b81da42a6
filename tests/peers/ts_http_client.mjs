// The official TypeScript SDK's clients at work: `node ts_http_client.mjs ENVIRONMENT MODE URL`.
//
// It runs one scenario against the server at URL (`our_http_server.py`), over HTTP+SSE if it ends in /sse, and prints what
// it saw as one JSON object. ENVIRONMENT/node_modules holds one of the two SDKs: `@modelcontextprotocol/sdk`,
// which knows legacy eras only, or `@modelcontextprotocol/client`, for which MODE is legacy or auto.

import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [environment, mode, url] = process.argv.slice(2);
const require = createRequire(join(resolve(environment), "package.json"));
const isFirst = existsSync(join(environment, "node_modules", "@modelcontextprotocol", "sdk"));

const UPDATES = 200;
const DEADLINE = 100_000; // milliseconds: less than the test waits

// The messages that the transport received, in order, before the SDK handled them.
const wire = [];
// The errors that the SDK reported.
const complaints = [];
const logs = [];
let sawLog;
const logged = new Promise((resolve) => (sawLog = resolve));

const onLog = ({ params }) => {
  logs.push([params.level, params.data]);
  sawLog();
};

function makeClient() {
  const info = { name: "ts-client", version: "1.0" };
  if (isFirst) {
    const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
    const { LoggingMessageNotificationSchema } = require("@modelcontextprotocol/sdk/types.js");
    const client = new Client(info);
    client.setNotificationHandler(LoggingMessageNotificationSchema, onLog);
    return client;
  }
  const { Client } = require("@modelcontextprotocol/client");
  const client = new Client(info, { versionNegotiation: { mode } });
  client.setNotificationHandler("notifications/message", onLog);
  return client;
}

function makeTransport() {
  if (url.endsWith("/sse")) {
    const sse = isFirst ? "@modelcontextprotocol/sdk/client/sse.js" : "@modelcontextprotocol/client";
    return new (require(sse).SSEClientTransport)(new URL(url));
  }
  const path = isFirst ? "@modelcontextprotocol/sdk/client/streamableHttp.js" : "@modelcontextprotocol/client";
  const { StreamableHTTPClientTransport } = require(path);
  return new StreamableHTTPClientTransport(new URL(url));
}

const client = makeClient();

function call(name, args, options = {}) {
  const params = { name, arguments: args };
  return isFirst ? client.callTool(params, undefined, options) : client.callTool(params, options);
}

const outcome = (result) => ({
  text: result.content.map((block) => block.text).join(""),
  is_error: result.isError ?? false,
});
const update = ({ progress, total, message }) => [progress, total ?? null, message ?? null];

async function callLoop() {
  const start = wire.length;
  const callbacks = [];
  const result = await call("loop", { n: UPDATES }, { onprogress: (progress) => callbacks.push(update(progress)) });
  const atReturn = callbacks.length;
  // After a round trip, an update that was sent behind the result is on record.
  await call("echo", { text: "after" });
  const seen = wire.slice(start);
  const cut = seen.findIndex((message) => "result" in message || "error" in message);
  const updates = (part) =>
    part.filter(({ method }) => method === "notifications/progress").map(({ params }) => update(params));
  return {
    ...outcome(result),
    wire_before_result: updates(seen.slice(0, cut)),
    wire_after_result: updates(seen.slice(cut)),
    callbacks,
    callbacks_at_return: atReturn,
  };
}

async function callAndCancel() {
  const key = randomUUID();
  const aborting = new AbortController();
  const options = { signal: aborting.signal, onprogress: () => aborting.abort("no longer wanted") };
  let refused = null;
  try {
    await call("slow", { seconds: 3600, key }, options);
  } catch (error) {
    refused = String(error);
  }
  return {
    cancelled: aborting.signal.aborted && refused !== null,
    server_saw: outcome(await call("wait_cancelled", { key })),
    next_call: outcome(await call("echo", { text: "still here" })),
  };
}

async function callLog() {
  // From 2026-07-28 on a request carries the level itself.
  if (isFirst || mode === "legacy") {
    await client.setLoggingLevel("info");
  }
  const params = { name: "log", arguments: { text: "a log line" } };
  const _meta = { "io.modelcontextprotocol/logLevel": "info" };
  const result = await client.callTool(isFirst || mode === "legacy" ? params : { ...params, _meta });
  await logged;
  return { ...outcome(result), logs };
}

async function run() {
  client.onerror = (error) => complaints.push(String(error.message));
  const transport = makeTransport();
  // The SDK's connect() keeps it, and calls it before its own.
  transport.onmessage = (message) => wire.push(message);
  await client.connect(transport);
  const report = {
    protocol_version: isFirst ? (transport.protocolVersion ?? transport._protocolVersion) : client.getNegotiatedProtocolVersion(),
    server_name: client.getServerVersion()?.name ?? null,
    tools: (await client.listTools()).tools.map((tool) => tool.name),
    echo: outcome(await call("echo", { text: "hello" })),
    loop: await callLoop(),
    error: outcome(await call("fail", {})),
    cancel: await callAndCancel(),
    log: await callLog(),
    ping: isFirst || mode === "legacy" ? await client.ping() : null,
  };
  if (isFirst || mode === "legacy") {
    await transport.terminateSession?.();
  }
  await client.close();
  return { ...report, complaints };
}

const watchdog = setTimeout(() => {
  console.error("the scenario took too long; complaints:", complaints, "the last messages:", wire.slice(-5));
  process.exit(1);
}, DEADLINE);
console.log(JSON.stringify(await run()));
clearTimeout(watchdog);
