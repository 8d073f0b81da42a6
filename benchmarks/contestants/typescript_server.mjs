// The benchmark's server, made with the TypeScript SDK: `node typescript_server.mjs ENVIRONMENT [http]`.
//
// `trio_mcp_server.py` has the same tools. ENVIRONMENT/node_modules holds the SDK. Over HTTP it prints the URL of
// its endpoint, and serves until its standard input ends.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [environment, transport] = process.argv.slice(2);
const require = createRequire(join(resolve(environment), "package.json"));
const { McpServer, createMcpHandler } = require("@modelcontextprotocol/server");
const { z } = require("zod");

const MESSAGE = "working";

const textResult = (text) => ({ content: [{ type: "text", text }] });
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

function reporter(context) {
  const progressToken = context.mcpReq._meta?.progressToken;
  return async (progress, total, message) => {
    if (progressToken !== undefined) {
      const params = { progressToken, progress, total, message };
      await context.mcpReq.notify({ method: "notifications/progress", params });
    }
  };
}

async function burst({ n }, context) {
  const report = reporter(context);
  for (let i = 0; i < n; i++) {
    await report(i + 1, n, MESSAGE);
  }
  return textResult("done");
}

async function paced({ n, rate }, context) {
  const report = reporter(context);
  const start = performance.now();
  for (let i = 0; i < n; i++) {
    const early = i / rate - (performance.now() - start) / 1000;
    if (early > 0) {
      await pause(early);
    }
    await report(i + 1, n, String(process.hrtime.bigint()));
  }
  return textResult("done");
}

function makeServer() {
  const server = new McpServer({ name: "benchmark", version: "1.0" });
  const tool = (name, description, inputSchema, run) =>
    server.registerTool(name, { description, inputSchema: z.object(inputSchema) }, run);
  tool("burst", "Report n updates in a tight loop.", { n: z.number().int() }, burst);
  tool("paced", "Report n updates, so many a second.", { n: z.number().int(), rate: z.number() }, paced);
  tool("echo", "Return the text.", { text: z.string() }, async ({ text }) => textResult(text));
  tool("pid", "Return the number of this process.", {}, async () => textResult(String(process.pid)));
  return server;
}

if (transport === "http") {
  const { toNodeHandler } = require("@modelcontextprotocol/node");
  const server = createServer(toNodeHandler(createMcpHandler(makeServer)));
  server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/mcp`));
  process.stdin.resume().on("end", () => process.exit());
} else {
  const { serveStdio } = require("@modelcontextprotocol/server/stdio");
  serveStdio(makeServer);
}
