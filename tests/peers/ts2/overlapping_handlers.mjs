// The twin of ../overlapping_handlers.py: `node overlapping_handlers.mjs ENVIRONMENT URL`.

import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [environment, url] = process.argv.slice(2);
const require = createRequire(join(resolve(environment), "package.json"));
const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");

const UPDATES = 5;
const MILLISECONDS = 60_000;

function makeEvent() {
  let set;
  const happened = new Promise((resolve) => (set = resolve));
  const tooLong = new Promise((resolve) => setTimeout(resolve, MILLISECONDS).unref());
  return { set, wait: () => Promise.race([happened, tooLong]) };
}

const returned = makeEvent();
const ends = Array.from({ length: UPDATES + 1 }, makeEvent);
ends[UPDATES].set();
let begun = 0;
const ended = [];

async function onprogress({ progress }) {
  begun++;
  await returned.wait();
  await ends[progress].wait();
  ended.push(progress);
  ends[progress - 1].set();
}

const client = new Client({ name: "ts-client", version: "1.0" }, { versionNegotiation: { mode: "auto" } });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
await client.callTool({ name: "loop", arguments: { n: UPDATES } }, { onprogress });
const atReturn = { begun, ended: ended.length };
returned.set();
await ends[0].wait();
await client.close();
console.log(JSON.stringify({ at_return: atReturn, ended }));
