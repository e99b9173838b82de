// The official TypeScript SDK v2 as a client: does the steps it is told to, and prints what it got.
//
// usage: node ts_v2.mjs < job.json
// Job and report are those of ts_v1.mjs. The job also has "mode": "legacy" (initialize), "auto" (asks first) or
// "modern" (2026-07-28 or nothing); the report also has "era", "revision", and "questions": what the server asked.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

// The SDK lies in tests/node, not beside this file.
const parts = createRequire(fileURLToPath(new URL("../node/package.json", import.meta.url)));
const load = async (name) => import(pathToFileURL(parts.resolve(name).replace(/\.cjs$/, ".mjs")));
const { Client, SSEClientTransport, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
const { StdioClientTransport } = await load("@modelcontextprotocol/client/stdio");

const job = JSON.parse(readFileSync(0, "utf8"));
const notices = [];
const questions = [];
const timeout = 60_000;

function transport() {
  if (job.transport === "stdio") {
    return new StdioClientTransport({ command: job.command, args: job.args, env: job.env, stderr: "ignore" });
  }
  const url = new URL(job.url);
  return job.transport === "sse" ? new SSEClientTransport(url) : new StreamableHTTPClientTransport(url);
}

async function pages(ask, key) {
  const entries = [];
  let cursor;
  do {
    const page = await ask(cursor === undefined ? {} : { cursor });
    entries.push(...page[key]);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return entries;
}

const actions = {
  tools: (client) => pages((params) => client.listTools(params), "tools"),
  prompts: (client) => pages((params) => client.listPrompts(params), "prompts"),
  resources: (client) => pages((params) => client.listResources(params), "resources"),
  templates: (client) => pages((params) => client.listResourceTemplates(params), "resourceTemplates"),
  ping: (client) => client.ping(),
  level: (client, step) => client.setLoggingLevel(step.level),
  read: (client, step) => client.readResource({ uri: step.uri }),
  subscribe: (client, step) => client.subscribeResource({ uri: step.uri }),
  unsubscribe: (client, step) => client.unsubscribeResource({ uri: step.uri }),
  prompt: (client, step) => client.getPrompt({ name: step.name, arguments: step.arguments }),
  complete: (client, step) => client.complete({ ref: step.ref, argument: step.argument }),
  async call(client, step) {
    const progress = [];
    const options = { timeout };
    if (step.progress) options.onprogress = (note) => progress.push(note);
    const result = await client.callTool({ name: step.name, arguments: step.arguments ?? {} }, options);
    return step.progress ? { result, progress } : result;
  },
  // Opens a subscription of 2026-07-28, which stays open.
  async listen(client, step) {
    return (await client.listen(step.filter)).honoredFilter;
  },
  // Waits until a notification of this method came, however long ago.
  async notice(_, step) {
    for (let tries = 0; tries < 500; tries++) {
      const found = notices.find((notice) => notice.method === step.method);
      if (found) return found;
      await new Promise((later) => setTimeout(later, 20));
    }
    throw new Error(`no ${step.method} within 10 s`);
  },
};

/** The same answers as everywhere in these tests. */
function answer(request) {
  questions.push({ method: request.method, params: request.params ?? {} });
  if (request.method === "roots/list") return { roots: [{ uri: "file:///desk", name: "desk" }] };
  if (request.method === "sampling/createMessage") {
    return { role: "assistant", content: { type: "text", text: "word" }, model: "none", stopReason: "endTurn" };
  }
  return request.params.mode === "url" ? { action: "accept" } : { action: "accept", content: { account: "main" } };
}

const capabilities = job.capabilities ?? { elicitation: { form: {}, url: {} }, sampling: {}, roots: {} };
const mode = job.mode === "modern" ? { pin: "2026-07-28" } : (job.mode ?? "legacy");
const client = new Client({ name: "ts-v2", version: "1.0.0" }, { capabilities, versionNegotiation: { mode } });
client.fallbackNotificationHandler = async (notice) => void notices.push(notice);
if (capabilities.elicitation) client.setRequestHandler("elicitation/create", answer);
if (capabilities.sampling) client.setRequestHandler("sampling/createMessage", answer);
if (capabilities.roots) client.setRequestHandler("roots/list", answer);
await client.connect(transport());
const steps = [];
for (const step of job.steps) {
  try {
    steps.push({ ok: (await actions[step.do](client, step)) ?? null });
  } catch (problem) {
    steps.push({ error: { code: problem.code ?? null, message: problem.message } });
  }
}
const report = {
  era: client.getProtocolEra(),
  revision: client.getNegotiatedProtocolVersion(),
  server: client.getServerVersion(),
  capabilities: client.getServerCapabilities(),
  instructions: client.getInstructions(),
  steps,
  notices,
  questions,
};
await client.close();
process.stdout.write(JSON.stringify(report));
