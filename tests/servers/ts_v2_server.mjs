// A server on the official TypeScript SDK v2: 2026-07-28, and the legacy revisions where it is let.
//
// usage: node ts_v2_server.mjs stdio [modern]         modern: refuses everything that is older
//        node ts_v2_server.mjs http READY_FILE [modern]   listens on a free loopback port, writes its URL to the file
//
// Its tools ask for each kind of input, once and in three rounds. Legacy clients are asked by the SDK's own shim.
import { createRequire } from "node:module";
import { renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath, pathToFileURL } from "node:url";

// The packages lie in tests/node, not beside this file.
const parts = createRequire(fileURLToPath(new URL("../node/package.json", import.meta.url)));
const load = async (name) => import(pathToFileURL(parts.resolve(name).replace(/\.cjs$/, ".mjs")));
const { McpServer, ResourceTemplate, createMcpHandler, fromJsonSchema, inputRequired, inputResponse } = await load(
  "@modelcontextprotocol/server",
);

const text = (said) => ({ content: [{ type: "text", text: said }] });
const noArguments = fromJsonSchema({ type: "object", properties: {} });
const form = (message) =>
  inputRequired.elicit({
    message,
    requestedSchema: { type: "object", properties: { account: { type: "string" } }, required: ["account"] },
  });
const requests = {
  ask_form: () => form("Which account?"),
  ask_url: () => inputRequired.elicitUrl({ message: "Sign in", url: "https://sign.in.example/ts?a=1" }),
  ask_sampling: () =>
    inputRequired.createMessage({
      messages: [{ role: "user", content: { type: "text", text: "Say one word." } }],
      maxTokens: 10,
    }),
  ask_roots: () => inputRequired.listRoots(),
};

/** What a client answered, in the words that every server of these tests uses. */
function said(response) {
  if (response.kind === "elicit") return `${response.action} ${response.content?.account ?? "-"}`;
  if (response.kind === "sampling") return response.result.content.text;
  return response.kind === "roots" ? response.roots.map((root) => root.uri).join(" ") : "nothing";
}

function factory() {
  const server = new McpServer(
    { name: "ts-v2", version: "1.0.0" },
    { instructions: "The TypeScript desk: adds and asks.", capabilities: { logging: {} } },
  );
  const terms = { type: "object", properties: { a: { type: "number" }, b: { type: "number" } }, required: ["a", "b"] };
  server.registerTool("add", { description: "Adds two numbers", inputSchema: fromJsonSchema(terms) }, ({ a, b }) =>
    text(String(a + b)),
  );
  server.registerTool("work", { description: "Reports progress", inputSchema: noArguments }, async (_, ctx) => {
    const progressToken = ctx.mcpReq._meta?.progressToken;
    for (let progress = 1; progressToken !== undefined && progress <= 3; progress++) {
      await ctx.mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress, total: 3 } });
    }
    return text("worked");
  });
  for (const [name, request] of Object.entries(requests)) {
    server.registerTool(name, { description: `Asks: ${name}`, inputSchema: noArguments }, (_, ctx) => {
      const response = inputResponse(ctx.mcpReq.inputResponses, "answer");
      return response.kind === "missing" ? inputRequired({ inputRequests: { answer: request() } }) : text(said(response));
    });
  }
  server.registerTool("ask_thrice", { description: "Asks three times", inputSchema: noArguments }, (_, ctx) => {
    // Nothing hangs on this state, so it is not sealed.
    const state = ctx.mcpReq.requestState();
    const heard = state === undefined ? [] : JSON.parse(state);
    const response = inputResponse(ctx.mcpReq.inputResponses, "answer");
    if (response.kind !== "missing") heard.push(said(response));
    if (heard.length === 3) return text(heard.join(", "));
    const inputRequests = { answer: form(`Question ${heard.length + 1} of 3`) };
    return inputRequired({ inputRequests, requestState: JSON.stringify(heard) });
  });
  server.registerPrompt("plain", { description: "A prompt" }, () => ({
    messages: [{ role: "user", content: { type: "text", text: "Say something." } }],
  }));
  server.registerResource("one", "ts://notes/one", { mimeType: "text/plain" }, (uri) => ({
    contents: [{ uri: uri.href, mimeType: "text/plain", text: "the note one" }],
  }));
  server.registerResource("note", new ResourceTemplate("ts://notes/{name}", { list: undefined }), {}, (uri, { name }) => ({
    contents: [{ uri: uri.href, text: `the note ${name}` }],
  }));
  return server;
}

const [mode, ...rest] = process.argv.slice(2);
const strict = rest.includes("modern");
if (mode === "stdio") {
  const { serveStdio } = await load("@modelcontextprotocol/server/stdio");
  serveStdio(factory, { legacy: strict ? "reject" : "serve" });
} else {
  const { toNodeHandler } = await load("@modelcontextprotocol/node");
  const handler = toNodeHandler(createMcpHandler(factory, { legacy: strict ? "reject" : "stateless" }));
  const http = createServer((request, response) => void handler(request, response));
  http.listen(0, "127.0.0.1", () => {
    const ready = rest[0];
    writeFileSync(`${ready}.draft`, `http://127.0.0.1:${http.address().port}/mcp\n`);
    renameSync(`${ready}.draft`, ready);
  });
}
