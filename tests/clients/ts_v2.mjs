// The official TypeScript SDK v2 as a client: does the steps it is told to, and prints what it got.
//
// usage: node ts_v2.mjs < job.json
// Job and report are those of ts_v1.mjs. The job also has "mode": "legacy" (initialize), "auto" (asks first) or
// "modern" (2026-07-28 or nothing); the report also has "era", "revision", and "questions": what the server asked.
import { answer, job, load, notices, perform, questions, transport, wishes } from "./ts_common.mjs";

const { Client, SSEClientTransport, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
const { StdioClientTransport } = await load("@modelcontextprotocol/client/stdio");

const own = {
  async call(client, step) {
    const progress = [];
    const result = await client.callTool({ name: step.name, arguments: step.arguments ?? {} }, wishes(step, progress));
    return step.progress ? { result, progress } : result;
  },
  // Opens a subscription of 2026-07-28, which stays open.
  async listen(client, step) {
    return (await client.listen(step.filter)).honoredFilter;
  },
};

const capabilities = job.capabilities ?? { elicitation: { form: {}, url: {} }, sampling: {}, roots: {} };
const mode = job.mode === "modern" ? { pin: "2026-07-28" } : (job.mode ?? "legacy");
const client = new Client({ name: "ts-v2", version: "1.0.0" }, { capabilities, versionNegotiation: { mode } });
client.fallbackNotificationHandler = async (notice) => void notices.push(notice);
if (capabilities.elicitation) client.setRequestHandler("elicitation/create", answer);
if (capabilities.sampling) client.setRequestHandler("sampling/createMessage", answer);
if (capabilities.roots) client.setRequestHandler("roots/list", answer);
await client.connect(transport({ StdioClientTransport, SSEClientTransport, StreamableHTTPClientTransport }));
const steps = await perform(client, own);
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
