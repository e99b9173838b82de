// The official TypeScript SDK v1 as a client: does the steps it is told to, and prints what it got.
//
// usage: node ts_v1.mjs < job.json     job: {"transport": "http"|"sse"|"stdio", "url" | "command","args","env", "steps": [...]}
// prints: {"server": {...}, "steps": [{"ok": ...} | {"error": {"code", "message"}}], "notices": [...], "questions": [...]}
//
// With "capabilities" in the job, it declares them, and answers what the server asks; without, it declares none.
// The same job, word for word, goes to py_client.py; a test gives it a server directly and through the daemon.
import { existsSync } from "node:fs";
import { answer, job, load, notices, perform, questions, transport, wishes } from "./ts_common.mjs";

const sdk = (path) => load(`@modelcontextprotocol/sdk/${path}`);
const { Client } = await sdk("client/index.js");
const { StdioClientTransport } = await sdk("client/stdio.js");
const { SSEClientTransport } = await sdk("client/sse.js");
const { StreamableHTTPClientTransport } = await sdk("client/streamableHttp.js");
const types = await sdk("types.js");

const own = {
  async call(client, step) {
    const progress = [];
    const result = await client.callTool({ name: step.name, arguments: step.arguments ?? {} }, undefined, wishes(step, progress));
    return step.progress ? { result, progress } : result;
  },
  // Calls at a steady rate until the file is there, whatever becomes of them; tells how many were answered, and how the
  // others failed. The client is the one that connected at the start: nothing is set up again.
  async storm(client, step) {
    const failures = {};
    let answered = 0;
    const calls = [];
    while (!existsSync(step.until)) {
      const call = client.callTool({ name: step.name, arguments: step.arguments }, undefined, { timeout: 15_000 });
      const failed = (problem) => {
        const why = `${problem.message} ${problem.cause?.code ?? ""}`.trim();
        failures[why] = (failures[why] ?? 0) + 1;
      };
      calls.push(call.then((result) => (result.isError ? failed(new Error(result.content[0].text)) : answered++), failed));
      await new Promise((later) => setTimeout(later, step.every_ms));
    }
    await Promise.all(calls);
    return { answered, failures };
  },
};

const capabilities = job.capabilities ?? {};
const client = new Client({ name: "ts-v1", version: "1.0.0" }, { capabilities });
if (capabilities.elicitation) client.setRequestHandler(types.ElicitRequestSchema, answer);
if (capabilities.sampling) client.setRequestHandler(types.CreateMessageRequestSchema, answer);
if (capabilities.roots) client.setRequestHandler(types.ListRootsRequestSchema, answer);
client.fallbackNotificationHandler = async (notice) => void notices.push(notice);
await client.connect(transport({ StdioClientTransport, SSEClientTransport, StreamableHTTPClientTransport }));
const steps = await perform(client, own);
const report = { server: client.getServerVersion(), capabilities: client.getServerCapabilities(), instructions: client.getInstructions(), steps, notices, questions };
if (job.transport === "http" && client.transport.sessionId) await client.transport.terminateSession();
await client.close();
process.stdout.write(JSON.stringify(report));
