// A stdio server of background tasks made with the official TypeScript SDK: `node server.mjs ENVIRONMENT`.
//
// Only the SDK itself waits for a clock: every POLL milliseconds it looks for messages to a tasks/result
// that waits. The SDK is in ENVIRONMENT/node_modules.

import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const require = createRequire(join(resolve(process.argv[2]), "package.json"));
const { McpServer } = require("@modelcontextprotocol/sdk/server/mcp.js");
const { StdioServerTransport } = require("@modelcontextprotocol/sdk/server/stdio.js");
const { InMemoryTaskMessageQueue, InMemoryTaskStore } = require(
  "@modelcontextprotocol/sdk/experimental/tasks/stores/in-memory.js",
);
const types = require("@modelcontextprotocol/sdk/types.js");
const z = require("zod");

const POLL = 20;

const server = new McpServer(
  { name: "ts1-server", version: "1.0" },
  {
    capabilities: { tasks: { list: {}, cancel: {}, requests: { tools: { call: {} } } } },
    taskStore: new InMemoryTaskStore(),
    taskMessageQueue: new InMemoryTaskMessageQueue(),
  },
);

const text = (text) => ({ content: [{ type: "text", text }] });

/** A task whose work fails would never end; nobody should wait for it. */
function failHard(error) {
  console.error(error);
  process.exit(1);
}

/** A tool whose `work` goes on after its task was created; what it returns is the task's result. */
function taskTool(name, inputSchema, work, taskSupport = "optional") {
  server.experimental.tasks.registerToolTask(
    name,
    { description: name, inputSchema, execution: { taskSupport } },
    {
      async createTask(args, extra) {
        const { taskStore } = extra;
        const task = await taskStore.createTask({ ttl: extra.taskRequestedTtl, pollInterval: POLL });
        const store = (result) => taskStore.storeTaskResult(task.taskId, result.isError ? "failed" : "completed", result);
        // Later, so that the client gets the answer that creates the task before its messages.
        setImmediate(() => work(args, extra, task.taskId).then(store).catch(failHard));
        return { task };
      },
      getTask: (_args, { taskId, taskStore }) => taskStore.getTask(taskId),
      getTaskResult: (_args, { taskId, taskStore }) => taskStore.getTaskResult(taskId),
    },
  );
}

async function loop({ n }, extra, taskId) {
  const { progressToken } = extra._meta;
  for (let i = 1; i <= n; i++) {
    const params = { progressToken, progress: i, total: n, message: `update ${i}` };
    const _meta = { [types.RELATED_TASK_META_KEY]: { taskId } };
    await extra.sendNotification({ method: "notifications/progress", params: { ...params, _meta } });
  }
  return text(`looped ${n}`);
}

async function greet(_args, extra, taskId) {
  await extra.taskStore.updateTaskStatus(taskId, "input_required");
  const requestedSchema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
  const params = { mode: "form", message: "Who are you?", requestedSchema };
  const request = { method: "elicitation/create", params };
  const { content } = await server.server.request(request, types.ElicitResultSchema, { relatedTask: { taskId } });
  await extra.taskStore.updateTaskStatus(taskId, "working");
  return text(`Hello, ${content.name}!`);
}

taskTool("loop", { n: z.number() }, loop);
taskTool("greet", {}, greet);
taskTool("fail", {}, async () => ({ ...text("failed on purpose"), isError: true }));
taskTool("hang", {}, () => new Promise(() => {}));
taskTool("required", {}, async () => text("in a task"), "required");
server.registerTool("echo", { inputSchema: { text: z.string() } }, async (args) => text(args.text));

await server.connect(new StdioServerTransport());
