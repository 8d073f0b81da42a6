// The twin of full_client.py: `node ts_full_client.mjs ENVIRONMENT MODE TARGET...`.
//
// It uses all of `our_full_server.py` and prints what it saw as one JSON object. TARGET is a URL or the command of a
// stdio server. ENVIRONMENT/node_modules holds one of the two official SDKs: `@modelcontextprotocol/sdk`, which knows
// legacy eras only, or `@modelcontextprotocol/client`, for which MODE is legacy or auto.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [environment, mode, ...target] = process.argv.slice(2);
const require = createRequire(join(resolve(environment), "package.json"));
const isFirst = existsSync(join(environment, "node_modules", "@modelcontextprotocol", "sdk"));
const types = isFirst ? require("@modelcontextprotocol/sdk/types.js") : null;
const isLegacy = isFirst || mode === "legacy";

const DEADLINE = 100_000; // milliseconds: less than the test waits
const PLACE = "config://app";
const ANSWERS = {
  "What?": { what: "tea", size: "l" },
  "First name?": { name: "Ada" },
  "Last name?": { name: "Lovelace" },
};

// The messages that the transport received, in order, before the SDK handled them.
const wire = [];
const complaints = [];

const asked = [];
const heard = [];

function makeEvent() {
  let resolve;
  return { promise: new Promise((set) => (resolve = set)), resolve };
}

let news = makeEvent();

function hear(notification) {
  heard.push(notification);
  news.resolve();
  news = makeEvent();
}

async function waitHeard(count) {
  while (heard.length < count) {
    await news.promise;
  }
}

function answer({ params }) {
  if (params.mode === "url") {
    asked.push(params.url);
    return { action: "accept" };
  }
  asked.push([params.message, Object.keys(params.requestedSchema.properties).sort()]);
  const content = ANSWERS[params.message];
  return content === undefined ? { action: "decline" } : { action: "accept", content };
}

function think({ params }) {
  const [{ content }] = params.messages;
  asked.push((Array.isArray(content) ? content[0] : content).text);
  return { role: "assistant", content: { type: "text", text: "Ada" }, model: "model-1" };
}

const listRoots = () => ({ roots: [{ uri: "file:///work", name: "Work" }] });

function makeClient() {
  const { Client } = require(isFirst ? "@modelcontextprotocol/sdk/client/index.js" : "@modelcontextprotocol/client");
  const capabilities = { elicitation: { form: {}, url: {} }, sampling: {}, roots: {} };
  const client = new Client(
    { name: "ts-client", version: "1.0" },
    { capabilities, ...(isFirst ? {} : { versionNegotiation: { mode } }) },
  );
  client.onerror = (error) => complaints.push(String(error.message));
  const on = (setter, schema, method, handle) => client[setter](isFirst ? types[schema] : method, handle);
  on("setRequestHandler", "ElicitRequestSchema", "elicitation/create", answer);
  on("setRequestHandler", "CreateMessageRequestSchema", "sampling/createMessage", think);
  on("setRequestHandler", "ListRootsRequestSchema", "roots/list", listRoots);
  on("setNotificationHandler", "ToolListChangedNotificationSchema", "notifications/tools/list_changed", hear);
  on("setNotificationHandler", "ResourceUpdatedNotificationSchema", "notifications/resources/updated", hear);
  return client;
}

function makeTransport() {
  const [command, ...args] = target;
  if (command.endsWith("/sse")) {
    const path = isFirst ? "@modelcontextprotocol/sdk/client/sse.js" : "@modelcontextprotocol/client";
    return new (require(path).SSEClientTransport)(new URL(command));
  }
  if (command.startsWith("http")) {
    const path = isFirst ? "@modelcontextprotocol/sdk/client/streamableHttp.js" : "@modelcontextprotocol/client";
    return new (require(path).StreamableHTTPClientTransport)(new URL(command));
  }
  const path = isFirst ? "@modelcontextprotocol/sdk/client/stdio.js" : "@modelcontextprotocol/client/stdio";
  return new (require(path).StdioClientTransport)({ command, args, env: process.env });
}

const client = makeClient();

async function findRefusal(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code;
  }
  throw new Error("it was not refused");
}

async function call(name, args = {}, options = {}) {
  const params = { name, arguments: args };
  const result = await (isFirst ? client.callTool(params, undefined, options) : client.callTool(params, options));
  return result.content[0].text;
}

const read = async (uri) => (await client.readResource({ uri })).contents[0];

async function useResources() {
  const logo = await read("logo://app");
  return {
    resources: (await client.listResources()).resources.map(({ uri, mimeType }) => [uri, mimeType]),
    templates: (await client.listResourceTemplates()).resourceTemplates.map((template) => template.uriTemplate),
    config: (await read(PLACE)).text,
    logo: [logo.mimeType, logo.blob],
    profile: (await read("users://7/profile")).text,
    unknown: await findRefusal(read("nowhere://at/all")),
  };
}

async function usePrompts() {
  const { prompts } = await client.listPrompts();
  const review = await client.getPrompt({ name: "review", arguments: { text: "Ishmael" } });
  const [picture] = (await client.getPrompt({ name: "look" })).messages;
  const complete = async (ref, argument, context) =>
    (await client.complete({ ref, argument, ...(context && { context }) })).completion.values;
  const style = { type: "ref/prompt", name: "review" };
  const user = { type: "ref/resource", uri: "users://{user_id}/profile" };
  return {
    prompts: prompts.map((prompt) => prompt.name),
    arguments: prompts[1].arguments.map(({ name, required }) => [name, required]),
    messages: review.messages.map(({ role, content }) => [role, content.text]),
    picture: [picture.content.type, picture.content.mimeType, picture.content.data],
    missing: await findRefusal(client.getPrompt({ name: "review" })),
    styles: await complete(style, { name: "style", value: "d" }, { arguments: { text: "x" } }),
    users: await complete(user, { name: "user_id", value: "4" }),
  };
}

async function hearChanges() {
  let subscription;
  if (isLegacy) {
    await client.subscribeResource({ uri: PLACE });
  } else {
    const resourceSubscriptions = [PLACE, "nowhere://at/all"];
    subscription = await client.listen({ toolsListChanged: true, promptsListChanged: true, resourceSubscriptions });
  }
  await call("show");
  await waitHeard(1);
  await call("touch");
  await waitHeard(2);
  const honoured = subscription?.honoredFilter;
  if (isLegacy) {
    await client.unsubscribeResource({ uri: PLACE });
  } else if (JSON.stringify(honoured.resourceSubscriptions) !== JSON.stringify([PLACE])) {
    throw new Error(`honoured: ${JSON.stringify(honoured)}`);
  }
  const tools = (await client.listTools()).tools.map((tool) => tool.name);
  await subscription?.close();
  return {
    told: heard.map((notification) => notification.method).sort(),
    uris: heard.filter(({ method }) => method.endsWith("/updated")).map(({ params }) => params.uri),
    prompts_honoured: honoured?.promptsListChanged ?? null,
    tools,
    hidden: await call("hide"),
  };
}

async function useQuestions() {
  const order = await call("order");
  const start = wire.length;
  // The SDK forgets the callback of a call with its answer, so the wire says what arrived. Without a callback
  // it would ask for no progress.
  const introduced = await call("introduce", { greeting: "Hello" }, { onprogress: () => {} });
  const progress = wire
    .slice(start)
    .filter(({ method }) => method === "notifications/progress")
    .map(({ params }) => [params.progress, params.total, params.message]);
  return { order, introduced, declined: await call("decide"), asked, progress };
}

async function run() {
  const transport = makeTransport();
  // The SDK's connect() keeps it, and calls it before its own.
  transport.onmessage = (message) => wire.push(message);
  await client.connect(transport);
  const version = isFirst
    ? (transport.protocolVersion ?? wire[0].result.protocolVersion)
    : client.getNegotiatedProtocolVersion();
  const report = {
    version,
    server: client.getServerVersion()?.name ?? null,
    declared: Object.keys(client.getServerCapabilities()).sort(),
    ...(await useResources()),
    ...(await usePrompts()),
    ...(await hearChanges()),
    ...(await useQuestions()),
  };
  if (isLegacy) {
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
