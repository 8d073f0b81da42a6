// The TypeScript SDK's client, kept connected: `node typescript_worker.mjs ENVIRONMENT stdio|http`.
//
// It understands what the Python workers do (`measurements.py`): each line of stdin asks for one
// measurement, each line of stdout is its sample.

import { spawn } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const [environment, transport] = process.argv.slice(2);
const require = createRequire(join(resolve(environment), "package.json"));
const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
const SERVER = fileURLToPath(new URL("typescript_server.mjs", import.meta.url));

const MESSAGE = "working";
// This client drops a call's handler with its answer, so an update that was not handled by then never is.
const LATE_DEADLINE = 500;
const SLOW_MILLISECONDS = 2;

const now = () => performance.now() / 1000;

// The same as gauge.py.
class Gauge {
  constructor(pid) {
    this.proc = `/proc/${pid}`;
    try {
      writeFileSync(`${this.proc}/clear_refs`, "5");
      this.begin = { cpu: this.cpu(), held: this.status("VmRSS") };
    } catch {
      this.begin = null;
    }
  }

  read() {
    if (!this.begin) {
      return {};
    }
    const peak = this.status("VmHWM");
    return { cpu: this.cpu() - this.begin.cpu, peak, growth: Math.max(peak - this.begin.held, 0) };
  }

  cpu() {
    const tasks = readdirSync(`${this.proc}/task`);
    const spent = (task) => Number(readFileSync(`${this.proc}/task/${task}/schedstat`, "utf8").split(" ")[0]);
    return tasks.reduce((sum, task) => sum + spent(task), 0) / 1e9;
  }

  status(name) {
    const found = readFileSync(`${this.proc}/status`, "utf8").match(new RegExp(`^${name}:\\s+(\\d+)`, "m"));
    return Number(found[1]) * 1024;
  }
}

// The same as the tallies in tally.py.
class Tally {
  constructor(expected) {
    this.expected = expected;
    this.count = 0;
    this.correct = true;
    this.finishedAt = 0;
    this.complete = new Promise((resolve) => (this.onComplete = resolve));
  }

  update({ progress, total, message }) {
    this.count++;
    this.correct &&= progress === this.count && total === this.expected && message === MESSAGE;
    this.finish();
  }

  finish() {
    if (this.count === this.expected) {
      this.finishedAt = now();
      this.onComplete();
    }
  }
}

class SlowTally extends Tally {
  misordered = 0;
  newest = 0;

  async update({ progress, total, message }) {
    await new Promise((resolve) => setTimeout(resolve, progress % 2 ? SLOW_MILLISECONDS : 0));
    this.count++;
    this.misordered += progress < this.newest ? 1 : 0;
    this.newest = Math.max(this.newest, progress);
    this.correct &&= total === this.expected && message === MESSAGE;
    this.finish();
  }
}

class Stopwatch extends Tally {
  latencies = [];

  update({ progress, total, message }) {
    this.latencies.push(Number(process.hrtime.bigint() - BigInt(message)) / 1e9);
    this.count++;
    this.correct &&= progress === this.count && total === this.expected;
    this.finish();
  }

  percentiles() {
    const ordered = Float64Array.from(this.latencies).sort();
    const at = (place) => ordered[Math.floor(place * (ordered.length - 1))] ?? 0;
    return { p50: at(0.5), p99: at(0.99), max: at(1) };
  }
}

const client = new Client({ name: "benchmark", version: "1.0" }, { versionNegotiation: { mode: "auto" } });
let server = 0;

async function call(name, args, tally) {
  const onprogress = tally && ((update) => tally.update(update));
  const result = await client.callTool({ name, arguments: args }, { onprogress, timeout: 180_000 });
  return result.content[0].text;
}

async function sampleOf(tallies, start) {
  const returnedAt = now();
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const late = sum(tallies.map((tally) => tally.expected - tally.count));
  let timer;
  const deadline = new Promise((resolve) => (timer = setTimeout(resolve, LATE_DEADLINE)));
  await Promise.race([deadline, Promise.all(tallies.map((tally) => tally.complete))]);
  clearTimeout(timer);
  return {
    seconds: Math.max(returnedAt, ...tallies.map((tally) => tally.finishedAt)) - start,
    count: sum(tallies.map((tally) => tally.count)),
    correct: tallies.every((tally) => tally.correct),
    late,
  };
}

const measurements = {
  async burst(n) {
    const tally = new Tally(n);
    const gauge = new Gauge(server);
    const start = now();
    await call("burst", { n }, tally);
    return { ...(await sampleOf([tally], start)), ...gauge.read() };
  },

  async fan(n, calls) {
    const tallies = Array.from({ length: calls }, () => new Tally(Math.floor(n / calls)));
    const gauge = new Gauge(server);
    const start = now();
    const outcomes = await Promise.allSettled(tallies.map((t) => call("burst", { n: t.expected }, t)));
    const sample = await sampleOf(tallies, start);
    const failures = outcomes.filter(({ status }) => status === "rejected").map(({ reason }) => String(reason));
    return { ...sample, ...gauge.read(), failed: failures.length, failures: failures.slice(0, 1) };
  },

  async echo(n) {
    const texts = Array.from({ length: n }, (_, i) => `text ${i}`);
    const answers = [];
    const gauge = new Gauge(server);
    const start = now();
    for (const text of texts) {
      answers.push(await call("echo", { text }));
    }
    const seconds = now() - start;
    const correct = answers.every((answer, i) => answer === texts[i]);
    return { seconds, count: answers.length, correct, late: 0, ...gauge.read() };
  },

  async slow(n) {
    const tally = new SlowTally(n);
    const gauge = new Gauge(process.pid);
    const start = now();
    await call("burst", { n }, tally);
    return { ...(await sampleOf([tally], start)), ...gauge.read(), misordered: tally.misordered };
  },

  async paced(n, rate) {
    const tally = new Stopwatch(n);
    const start = now();
    await call("paced", { n, rate }, tally);
    return { ...(await sampleOf([tally], start)), ...tally.percentiles() };
  },
};

async function makeTransport() {
  if (transport === "stdio") {
    const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");
    return new StdioClientTransport({ command: process.execPath, args: [SERVER, environment] });
  }
  // The server ends with this process, which holds its standard input.
  const child = spawn(process.execPath, [SERVER, environment, "http"], { stdio: ["pipe", "pipe", "inherit"] });
  const { value: url } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  return new StreamableHTTPClientTransport(new URL(url));
}

await client.connect(await makeTransport());
server = Number(await call("pid", {}));
const versions = { node: process.versions.node };
for (const name of ["client", "server", "node"]) {
  const path = join(environment, "node_modules", "@modelcontextprotocol", name, "package.json");
  versions[`@modelcontextprotocol/${name}`] = JSON.parse(readFileSync(path, "utf8")).version;
}
console.log(JSON.stringify({ versions, protocol: client.getNegotiatedProtocolVersion() }));
for await (const line of createInterface({ input: process.stdin })) {
  const [what, n] = line.split(" ");
  const [name, argument] = what.split("-");
  console.log(JSON.stringify(await measurements[name](Number(n), Number(argument))));
}
process.exit();
