// What the two generations of the TypeScript SDK do alike as clients: finding the SDK, the job, its steps, the answers.
//
// The job and the report are described in ts_v1.mjs; what differs between the generations stands in their own files.
import { createRequire } from "node:module";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

// The SDKs lie in tests/node, not beside this file.
const parts = createRequire(fileURLToPath(new URL("../node/package.json", import.meta.url)));
export const load = async (name) => import(pathToFileURL(parts.resolve(name).replace(/\.cjs$/, ".mjs")));

export const job = JSON.parse(readFileSync(0, "utf8"));
export const notices = [];
export const questions = [];
const timeout = 60_000;

/** The transport the job names, of the SDK's classes. */
export function transport({ StdioClientTransport, SSEClientTransport, StreamableHTTPClientTransport }) {
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
  // Says that it is here, and waits until the test says go.
  async meet(_, step) {
    writeFileSync(step.at, "");
    for (let tries = 0; tries < 1500; tries++) {
      if (existsSync(step.go)) return;
      await new Promise((later) => setTimeout(later, 20));
    }
    throw new Error("nobody said go within 30 s");
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
export async function answer(request) {
  questions.push({ method: request.method, params: request.params ?? {} });
  if (request.method === "roots/list") return { roots: [{ uri: "file:///desk", name: "desk" }] };
  if (request.method === "sampling/createMessage") {
    return { role: "assistant", content: { type: "text", text: "word" }, model: "none", stopReason: "endTurn" };
  }
  return request.params.mode === "url" ? { action: "accept" } : { action: "accept", content: { account: "main" } };
}

/** What a step of a call wants besides its arguments; `progress` is filled while the call runs. */
export function wishes(step, progress) {
  const options = { timeout };
  if (step.progress) options.onprogress = (note) => progress.push(note);
  if (step.cancel_after_ms) options.signal = AbortSignal.timeout(step.cancel_after_ms);
  return options;
}

/** Does the job's steps, one after the other; `own` are the actions of one generation. */
export async function perform(client, own) {
  const all = { ...actions, ...own };
  const steps = [];
  for (const step of job.steps) {
    try {
      steps.push({ ok: (await all[step.do](client, step)) ?? null });
    } catch (problem) {
      steps.push({ error: { code: problem.code ?? null, message: problem.message } });
    }
  }
  return steps;
}
