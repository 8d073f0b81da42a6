// The official TypeScript SDK's client at work: `node client.mjs ENVIRONMENT DIRECTORY COMMAND...`.
//
// It runs one scenario of background tasks against the stdio server COMMAND (`our_task_server.py`)
// and prints what it saw as one JSON object. The SDK is in ENVIRONMENT/node_modules; marker files
// are written to DIRECTORY.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [environment, directory, command, ...args] = process.argv.slice(2);
const require = createRequire(join(resolve(environment), "package.json"));
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = require("@modelcontextprotocol/sdk/client/stdio.js");
const types = require("@modelcontextprotocol/sdk/types.js");

const UPDATES = 200;
const DEADLINE = 100_000; // milliseconds: less than the test waits
const RELATED = types.RELATED_TASK_META_KEY;

// The messages that the transport received, in order, before the SDK handled them.
const wire = [];
// The errors that the SDK reported.
const complaints = [];

// Resolved when the stream of greet() has said input_required; the answer waits for it.
let sawInputRequired;
const inputRequired = new Promise((resolve) => (sawInputRequired = resolve));
const asked = [];

function makeClient() {
  const client = new Client({ name: "ts1-client", version: "1.0" }, { capabilities: { elicitation: { form: {} } } });
  client.onerror = (error) => complaints.push(String(error.message));
  client.setRequestHandler(types.ElicitRequestSchema, async (request) => {
    const { taskId } = request.params._meta[RELATED];
    const { status } = await client.experimental.tasks.getTask(taskId);
    asked.push({ taskId, status, message: request.params.message, schema: request.params.requestedSchema });
    await inputRequired;
    return { action: "accept", content: { name: "TypeScript" } };
  });
  return client;
}

const text = (result) => result.content.map((block) => block.text).join("");
const outcome = (result) => ({ text: text(result), isError: result.isError ?? false });
const update = ({ progress, total, message }) => [progress, total ?? null, message ?? null];

async function refusal(promise) {
  try {
    return { value: await promise };
  } catch (error) {
    return { code: error.code, message: error.message };
  }
}

/** Drive a tool through the SDK's stream; `kinds` is what it yielded, told in one word each. */
async function stream(client, name, args, { task = {}, onMessage, onprogress } = {}) {
  const seen = { kinds: [], statuses: [], callbacks: [], callbacksAtCreation: null };
  const options = {
    task,
    onprogress: (progress) => {
      seen.callbacks.push(update(progress));
      onprogress?.(progress, seen.task?.taskId);
    },
  };
  const messages = client.experimental.tasks.callToolStream(
    { name, arguments: args },
    types.CallToolResultSchema,
    options,
  );
  for await (const message of messages) {
    seen.kinds.push(message.type);
    if (message.type === "taskCreated") {
      seen.task = message.task;
      seen.callbacksAtCreation = seen.callbacks.length;
    } else if (message.type === "taskStatus") {
      seen.statuses.push(message.task.status);
    } else if (message.type === "result") {
      seen.result = { ...outcome(message.result), related: message.result._meta?.[RELATED]?.taskId };
    } else {
      seen.error = { code: message.error.code, message: message.error.message };
    }
    await onMessage?.(message);
  }
  return seen;
}

/** What the wire had for the call that made a task: its progress, and the task's status. */
function wireOf(taskId, start) {
  const messages = wire.slice(start);
  const created = messages.find((message) => message.result?.task?.taskId === taskId);
  const told = messages.filter(
    ({ method, params }) => method === "notifications/tasks/status" && params.taskId === taskId,
  );
  const progress = messages.filter(
    ({ method, params }) => method === "notifications/progress" && params.progressToken === created.id,
  );
  const final = messages.findIndex(
    ({ method, params }) =>
      method === "notifications/tasks/status" &&
      params.taskId === taskId &&
      ["completed", "failed", "cancelled"].includes(params.status),
  );
  return {
    progress: progress.map(({ params }) => update(params)),
    related: [...new Set(progress.map(({ params }) => params._meta?.[RELATED]?.taskId ?? null))],
    statuses: told.map(({ params }) => params.status),
    finalAfterProgress: messages.indexOf(progress.at(-1)) < final,
    createdBeforeProgress: progress.length === 0 || messages.indexOf(created) < messages.indexOf(progress[0]),
  };
}

async function callDirectly(client) {
  const start = wire.length;
  const callbacks = [];
  const result = await client.callTool({ name: "loop", arguments: { n: UPDATES } }, undefined, {
    onprogress: (progress) => callbacks.push(update(progress)),
  });
  const answered = wire.slice(start).findIndex((message) => "result" in message);
  const progress = wire.slice(start).filter(({ method }) => method === "notifications/progress");
  return {
    ...outcome(result),
    callbacks,
    wire: progress.map(({ params }) => update(params)),
    wireBeforeResult: progress.every((message) => wire.slice(start).indexOf(message) < answered),
  };
}

async function runTask(client) {
  const start = wire.length;
  const tasks = client.experimental.tasks;
  const seen = await stream(client, "loop", { n: UPDATES });
  const { taskId } = seen.task;
  return {
    ...seen,
    wire: wireOf(taskId, start),
    afterwards: await tasks.getTask(taskId),
    resultAgain: outcome(await tasks.getTaskResult(taskId, types.CallToolResultSchema)),
  };
}

async function passGate(client) {
  let opened;
  const seen = await stream(client, "gate", {}, {
    onMessage: async ({ type }) => {
      if (type === "taskStatus" && !opened) {
        opened = true;
        await client.callTool({ name: "open_gate", arguments: {} });
      }
    },
  });
  return seen;
}

async function runAtOnce(client) {
  const runs = Array.from({ length: 10 }, async (_, i) => {
    const base = 100 * i;
    const { result, callbacks } = await stream(client, "mine", { base, n: 50 });
    return { base, text: result.text, callbacks };
  });
  return Promise.all(runs);
}

async function failTask(client) {
  const seen = await stream(client, "fail", {});
  const result = await client.experimental.tasks.getTaskResult(seen.task.taskId, types.CallToolResultSchema);
  return { ...seen, result: { ...outcome(result), related: result._meta?.[RELATED]?.taskId } };
}

async function cancelTask(client) {
  const tasks = client.experimental.tasks;
  const marker = join(directory, "hang-ended");
  let started;
  const reached = new Promise((resolve) => (started = resolve));
  const streamed = stream(client, "hang", { marker }, { onprogress: started });
  await reached;
  const markedBefore = existsSync(marker);
  const { tasks: listed } = await tasks.listTasks();
  const { taskId } = listed[0];
  const working = await tasks.getTask(taskId);
  const cancelled = await tasks.cancelTask(taskId);
  const next = await tasks.getTask(taskId);
  const ended = outcome(await client.callTool({ name: "wait_hang_ended", arguments: {} }));
  return {
    taskId,
    markedBefore,
    working: working.status,
    cancelled: cancelled.status,
    next: next.status,
    ended,
    markedAfter: existsSync(marker),
    again: await refusal(tasks.cancelTask(taskId)),
    result: await refusal(tasks.getTaskResult(taskId, types.CallToolResultSchema)),
    settled: (await tasks.getTask(taskId)).status,
    streamed: await streamed,
  };
}

async function answerTask(client) {
  const start = wire.length;
  const seen = await stream(client, "greet", {}, {
    onMessage: ({ type, task }) => type === "taskStatus" && task.status === "input_required" && sawInputRequired(),
  });
  return {
    ...seen,
    asked,
    wire: wireOf(seen.task.taskId, start),
    afterwards: (await client.experimental.tasks.getTask(seen.task.taskId)).status,
  };
}

async function listAll(client) {
  const pages = [];
  let cursor;
  do {
    const page = await client.experimental.tasks.listTasks(cursor);
    pages.push(page.tasks.map(({ taskId, status, createdAt }) => ({ taskId, status, createdAt })));
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return pages;
}

async function negotiate(client) {
  const params = { name: "required", arguments: {} };
  return {
    // callTool() refuses this one itself; request() lets the server do so.
    requiredBySdk: await refusal(client.callTool(params)),
    requiredDirectly: await refusal(client.request({ method: "tools/call", params }, types.CallToolResultSchema)),
    // Without options: the SDK has learned from tools/list that the tool runs as a task.
    required: await streamKinds(client, "required"),
    forbidden: await streamKinds(client, "forbidden"),
    forbiddenAsTask: await stream(client, "forbidden", {}),
  };
}

async function streamKinds(client, name) {
  const kinds = [];
  for await (const message of client.experimental.tasks.callToolStream({ name, arguments: {} })) {
    kinds.push(message.type === "result" ? ["result", text(message.result)] : [message.type]);
  }
  return kinds;
}

async function refuseUnknown(client) {
  const tasks = client.experimental.tasks;
  return {
    get: await refusal(tasks.getTask("never was")),
    result: await refusal(tasks.getTaskResult("never was", types.CallToolResultSchema)),
    cancel: await refusal(tasks.cancelTask("never was")),
    cursor: await refusal(tasks.listTasks("never was")),
  };
}

async function run(client) {
  const transport = new StdioClientTransport({ command, args });
  // Protocol.connect() keeps it, and calls it before its own.
  transport.onmessage = (message) => wire.push(message);
  await client.connect(transport);
  const { tools } = await client.listTools();
  const report = {
    protocolVersion: wire[0].result.protocolVersion,
    serverVersion: client.getServerVersion(),
    capabilities: client.getServerCapabilities(),
    taskSupport: Object.fromEntries(tools.map((tool) => [tool.name, tool.execution?.taskSupport ?? null])),
    direct: await callDirectly(client),
    task: await runTask(client),
    gate: await passGate(client),
    atOnce: await runAtOnce(client),
    failed: await failTask(client),
    cancelled: await cancelTask(client),
    answered: await answerTask(client),
    negotiation: await negotiate(client),
    unknown: await refuseUnknown(client),
    listed: await listAll(client),
  };
  await client.close();
  const created = wire.filter((message) => message.result?.task).map((message) => message.result.task.taskId);
  return { ...report, created, complaints };
}

const watchdog = setTimeout(() => {
  console.error("the scenario took too long; complaints:", complaints, "the last messages:", wire.slice(-5));
  process.exit(1);
}, DEADLINE);
console.log(JSON.stringify(await run(makeClient())));
clearTimeout(watchdog);
