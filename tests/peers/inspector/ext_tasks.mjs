// Calls task tools of a server with the official client of the tasks extension, @modelcontextprotocol/ext-tasks.
//
// Usage: node ext_tasks.mjs DIRECTORY_OF_NODE_MODULES legacy|modern URL. Prints what it saw as JSON.

import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [, , modules, era, address] = process.argv;
const load = (file) => import(pathToFileURL(path.join(modules, "node_modules", "@modelcontextprotocol", file)).href);
const { Client, StreamableHTTPClientTransport } = await load("client/dist/index.mjs");
const { createApplicationInputHandler, createTaskSessionFromClient } = await load("ext-tasks/dist/client/index.js");

const isLegacy = era === "legacy";
const info = { name: "ext-tasks", version: "0.2.2" };
const capabilities = isLegacy
  ? { elicitation: {} }
  : { elicitation: { form: {} }, extensions: { "io.modelcontextprotocol/tasks": {} } };
const url = new URL(address);
const client = new Client(info, { capabilities, ...(isLegacy ? {} : { versionNegotiation: { mode: "auto" } }) });
await client.connect(new StreamableHTTPClientTransport(url));

// The SDK's own client refuses the messages of the extension, so its host sends them.
let last = 0;
async function rawDispatch(request, options) {
  const message = { jsonrpc: "2.0", id: `raw-${++last}`, ...request };
  const headers = new Headers({
    "content-type": "application/json",
    accept: "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": message.method,
  });
  const name = message.params?.name ?? message.params?.taskId;
  if (name !== undefined) headers.set("mcp-name", name);
  for (const [key, value] of Object.entries(options?.context?.headers ?? {})) headers.set(key, value);
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(message), signal: options?.signal });
  const text = await response.text();
  let messages;
  if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
    const lines = text.split("\n").filter((line) => line.startsWith("data: {"));
    messages = lines.map((line) => JSON.parse(line.slice("data: ".length)));
  } else {
    messages = [JSON.parse(text)];
  }
  const answer = messages.find((each) => each.id === message.id);
  return answer.error ? { kind: "error", error: answer.error } : { kind: "result", result: answer.result };
}

const asked = [];
const NAMES = { "Your first name?": "Grace", "Your last name?": "Hopper" };
async function elicit(request) {
  const { message } = request.params;
  asked.push(message);
  return { action: "accept", content: { name: NAMES[message] ?? "Ada" } };
}

const raw = isLegacy
  ? {}
  : { rawDispatch, v2RequestFraming: { protocolVersion: "2026-07-28", clientInfo: info, clientCapabilities: capabilities } };
const session = createTaskSessionFromClient(client, {
  endpointId: "tests",
  onInputRequest: createApplicationInputHandler({ elicitation: elicit }),
  ...raw,
});

async function call(name, args = {}) {
  const kinds = [];
  const records = []; // the progress on the record of each event that has one
  const execution = await session.callTool(name, args, { task: { preference: "prefer" } });
  const { outcome, lastTask } = await execution.settle({
    onEvent: (event) => {
      kinds.push(event.type === "task" ? event.task.status : event.type);
      records.push(event.task?.raw._meta?.["io.github.trio-mcp/progress"]);
    },
  });
  const { status, result, error } = outcome;
  return { kind: execution.kind, status, result, error: error && String(error), kinds, records, last: lastTask?.status };
}

async function cancelHanging() {
  const directory = await mkdtemp(path.join(tmpdir(), "ext-tasks-"));
  const marker = path.join(directory, "marker");
  const execution = await session.callTool("hang", { marker }, { task: { preference: "prefer" } });
  await session.cancelTask(execution.handle.taskId);
  const { outcome } = await execution.settle();
  await client.callTool({ name: "wait_hang_ended", arguments: {} });
  const cancelled = { status: outcome.status, ended: existsSync(marker) };
  await rm(directory, { recursive: true });
  return cancelled;
}

const report = { era: client.getProtocolEra(), capabilities: session.capabilities };
for (const name of ["required", "fail", "greet", "interview", "forbidden"]) report[name] = await call(name);
report.hang = await cancelHanging();
report.asked = asked;
console.log(JSON.stringify(report));
await session.close();
await client.close();
process.exit(0);
