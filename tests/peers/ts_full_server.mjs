// The twin of `our_full_server.py` made with the official TypeScript SDKs: `node ts_full_server.mjs ENVIRONMENT [http]`.
//
// It is a stdio server. With `http` it prints the URL of its endpoint, and serves until its standard input ends.
// ENVIRONMENT/node_modules holds one of the two SDKs: `@modelcontextprotocol/sdk`, whose tools await an answer, or
// `@modelcontextprotocol/server`, whose tools return what they want to know, in both eras.

import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [environment, way] = process.argv.slice(2);
const require = createRequire(join(resolve(environment), "package.json"));
const isFirst = existsSync(join(environment, "node_modules", "@modelcontextprotocol", "sdk"));
const { McpServer, ResourceTemplate } = require(
  isFirst ? "@modelcontextprotocol/sdk/server/mcp.js" : "@modelcontextprotocol/server",
);
const { completable } = require(
  isFirst ? "@modelcontextprotocol/sdk/server/completable.js" : "@modelcontextprotocol/server",
);
const types = isFirst ? require("@modelcontextprotocol/sdk/types.js") : null;
const { inputRequired } = isFirst ? {} : require("@modelcontextprotocol/server");
const z = require("zod");

const PLACE = "config://app";
const STEPS = ["before all", "one name", "both names", "done"];

const text = (text) => ({ content: [{ type: "text", text }] });
const base64 = (text) => Buffer.from(text, "latin1").toString("base64");

// What is asked.

const form = (message, ...fields) => {
  const properties = Object.fromEntries(fields.map((field) => [field, { type: "string" }]));
  return { mode: "form", message, requestedSchema: { type: "object", properties, required: [fields[0]] } };
};
const page = { mode: "url", message: "Pay", url: "https://example.com/pay" };
const thought = (question) => ({
  messages: [{ role: "user", content: { type: "text", text: question } }],
  maxTokens: 10,
});

const describeOrder = (form, page, model, { roots }) =>
  text(
    `${form.content.what} ${form.content.size ?? "s"} ${page.action} ${model.content.text} ` +
      `['${roots.map((root) => root.name).join("', '")}']`,
  );
const describeIntroduction = (greeting, [first, last, opinion]) => text(`${greeting}, ${first} ${last}: ${opinion}`);

function progressTo(context) {
  const { _meta, notify } = isFirst ? { ...context, notify: context.sendNotification } : context.mcpReq;
  return async (done) => {
    const progress = { progress: done + 1, total: 4, message: STEPS[done] };
    const params = { ...progress, progressToken: _meta?.progressToken };
    await notify({ method: "notifications/progress", params });
  };
}

/** Tools that await each answer. Over HTTP the questions go by the stream of the call. */
function askAtOnce(mcp) {
  const ask = (context) => {
    const options = { relatedRequestId: context.requestId };
    return {
      elicit: (params) => mcp.server.elicitInput(params, options),
      think: (params) => mcp.server.createMessage(params, options),
      roots: () => mcp.server.listRoots({}, options),
    };
  };
  return {
    async order(_args, context) {
      const { elicit, think, roots } = ask(context);
      const answer = await elicit(form("What?", "what", "size"));
      const opened = await elicit({ ...page, elicitationId: "pay" });
      return describeOrder(answer, opened, await think(thought("A name?")), await roots());
    },
    async introduce({ greeting }, context) {
      const { elicit, think } = ask(context);
      const report = progressTo(context);
      await report(0);
      const first = await elicit(form("First name?", "name"));
      await report(1);
      const last = await elicit(form("Last name?", "name"));
      await report(2);
      const opinion = await think(thought("Is that a good name?"));
      await report(3);
      return describeIntroduction(greeting, [first.content.name, last.content.name, opinion.content.text]);
    },
  };
}

/** Tools that return what they ask, and are called again with the answers. */
const askInRounds = () => ({
  async order(_args, context) {
    const answers = context.mcpReq.inputResponses;
    if (answers === undefined) {
      return inputRequired({
        inputRequests: {
          form: inputRequired.elicit(form("What?", "what", "size")),
          page: inputRequired.elicitUrl({ message: page.message, url: page.url }),
          model: inputRequired.createMessage(thought("A name?")),
          roots: inputRequired.listRoots(),
        },
      });
    }
    return describeOrder(answers.form, answers.page, answers.model, answers.roots);
  },
  async introduce({ greeting }, context) {
    const known = JSON.parse(context.mcpReq.requestState() ?? "[]");
    for (const answer of Object.values(context.mcpReq.inputResponses ?? {})) {
      known.push("action" in answer ? answer.content.name : answer.content.text);
    }
    await progressTo(context)(known.length);
    if (known.length === 3) {
      return describeIntroduction(greeting, known);
    }
    const questions = [
      () => inputRequired.elicit(form("First name?", "name")),
      () => inputRequired.elicit(form("Last name?", "name")),
      () => inputRequired.createMessage(thought("Is that a good name?")),
    ];
    const inputRequests = { [`question-${known.length}`]: questions[known.length]() };
    return inputRequired({ inputRequests, requestState: JSON.stringify(known) });
  },
});

function addReadable(mcp) {
  mcp.registerResource("config", PLACE, { mimeType: "application/json" }, async (uri) => ({
    contents: [{ uri: uri.href, mimeType: "application/json", text: '{"level": 3}' }],
  }));
  mcp.registerResource("logo", "logo://app", { mimeType: "image/png" }, async (uri) => ({
    contents: [{ uri: uri.href, mimeType: "image/png", blob: base64("\x89PNG\r\n") }],
  }));
  const complete = { user_id: (value) => [`${value}0`, `${value}1`] };
  const template = new ResourceTemplate("users://{user_id}/profile", { list: undefined, complete });
  mcp.registerResource("profile", template, {}, async (uri, { user_id }) => ({
    contents: [{ uri: uri.href, text: `user ${user_id}` }],
  }));
}

function addPrompts(mcp) {
  const styles = (value, context) => ["ry", "ramatic"].map((end) => `${value}${end} ${context?.arguments?.text}`);
  // Each of the SDKs looks for what completes at another place.
  const style = isFirst ? completable(z.string().optional(), styles) : completable(z.string(), styles).optional();
  const schema = { text: z.string(), style };
  mcp.registerPrompt(
    "review",
    { description: "Ask for a review.", argsSchema: isFirst ? schema : z.object(schema) },
    ({ text, style = "dry" }) => ({
      messages: [
        { role: "user", content: { type: "text", text: `Review in ${style} style: ${text}` } },
        { role: "assistant", content: { type: "text", text: "My first remark:" } },
      ],
    }),
  );
  mcp.registerPrompt("look", { description: "Show a picture." }, () => ({
    messages: [{ role: "user", content: { type: "image", data: base64("picture"), mimeType: "image/png" } }],
  }));
}

function addChanges(mcp) {
  const hidden = mcp.registerTool("hidden", { description: "Be listed only if somebody shows it." }, async () =>
    text("seen"),
  );
  if (!isShown) {
    hidden.disable();
  }
  mcp.registerTool("show", { description: "Show the tool that is hidden." }, async () => {
    isShown = true;
    hidden.enable(); // which tells of it
    notifier?.toolsChanged();
    return text("shown");
  });
  mcp.registerTool("touch", { description: "Tell that the resource has changed." }, async () => {
    if (notifier !== undefined) {
      notifier.resourceUpdated(PLACE);
    } else if (!isFirst || subscribed.has(PLACE)) {
      await mcp.server.sendResourceUpdated({ uri: PLACE });
    }
    return text("touched");
  });
}

// The URIs to which the client of the first SDK has subscribed: its server has to keep them itself.
const subscribed = new Set();
// Over HTTP the second SDK has a server for each request, so that what is shown, and what tells subscribers, is kept here.
let isShown = false;
let notifier;

function makeServer() {
  const capabilities = { resources: { subscribe: true }, tools: { listChanged: true } };
  const mcp = new McpServer({ name: "ts-server", version: "1.0" }, { capabilities });
  addReadable(mcp);
  addPrompts(mcp);
  addChanges(mcp);
  const asking = isFirst ? askAtOnce(mcp) : askInRounds();
  mcp.registerTool("order", { description: "Ask for an order, a page, a model and the roots." }, (...args) =>
    // Without a schema the SDK passes the context alone.
    asking.order({}, ...args),
  );
  const greeting = { greeting: z.string() };
  const inputSchema = isFirst ? greeting : z.object(greeting);
  mcp.registerTool("introduce", { description: "Ask for two names and an opinion.", inputSchema }, asking.introduce);
  const on = (schema, method, handle) => mcp.server.setRequestHandler(isFirst ? types[schema] : method, handle);
  on("SubscribeRequestSchema", "resources/subscribe", ({ params }) => {
    subscribed.add(params.uri);
    return {};
  });
  on("UnsubscribeRequestSchema", "resources/unsubscribe", ({ params }) => {
    subscribed.delete(params.uri);
    return {};
  });
  return mcp;
}

async function serveHttp() {
  let handle;
  if (isFirst) {
    const { StreamableHTTPServerTransport } = require("@modelcontextprotocol/sdk/server/streamableHttp.js");
    const sessions = new Map();
    handle = async (request, response) => {
      let transport = sessions.get(request.headers["mcp-session-id"]);
      if (transport === undefined) {
        transport = new StreamableHTTPServerTransport({
          sessionIdGenerator: randomUUID,
          onsessioninitialized: (id) => sessions.set(id, transport),
        });
        await makeServer().connect(transport);
      }
      await transport.handleRequest(request, response);
    };
  } else {
    const { createMcpHandler } = require("@modelcontextprotocol/server");
    const { toNodeHandler } = require("@modelcontextprotocol/node");
    const handler = createMcpHandler(makeServer);
    notifier = handler.notify;
    handle = toNodeHandler(handler);
  }
  const server = createServer(handle);
  server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/mcp`));
  process.stdin.resume().on("end", () => process.exit());
}

if (way === "http") {
  await serveHttp();
} else if (isFirst) {
  const { StdioServerTransport } = require("@modelcontextprotocol/sdk/server/stdio.js");
  await makeServer().connect(new StdioServerTransport());
} else {
  require("@modelcontextprotocol/server/stdio").serveStdio(makeServer);
}
