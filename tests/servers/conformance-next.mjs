// The server that the conformance suite of 2026-07-28 expects to find, where `conformance-server.mjs` has it not:
// questions over several rounds, arguments that are repeated in headers, capabilities that a request must declare,
// lists that change, and tasks. All of it is the TypeScript SDK v2's, but the tasks, which it has not.
//
// usage: node conformance-next.mjs READY_FILE
import { randomBytes } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

import { answersTask, extension, taskTools } from "./conformance-tasks.mjs";

// The packages lie in tests/node, not beside this file.
const parts = createRequire(fileURLToPath(new URL("../node/package.json", import.meta.url)));
const load = async (name) => import(pathToFileURL(parts.resolve(name).replace(/\.cjs$/, ".mjs")));
const { McpServer, createMcpHandler, createRequestStateCodec, fromJsonSchema, inputRequired, inputResponse } = await load(
  "@modelcontextprotocol/server",
);
const { toNodeHandler } = await load("@modelcontextprotocol/node");

const text = (said) => ({ content: [{ type: "text", text: said }] });
const object = (properties, required = []) => fromJsonSchema({ type: "object", properties, required });
const string = { type: "string" };
const states = createRequestStateCodec({ key: randomBytes(32) });

const form = (message, field, type = "string") =>
  inputRequired.elicit({ message, requestedSchema: { type: "object", properties: { [field]: { type } }, required: [field] } });
const sample = (question, maxTokens) =>
  inputRequired.createMessage({ messages: [{ role: "user", content: { type: "text", text: question } }], maxTokens });

/** The answers to all these keys, or nothing while one of them is missing. */
function answered(ctx, ...keys) {
  const answers = keys.map((key) => inputResponse(ctx.mcpReq.inputResponses, key));
  return answers.every((answer) => answer.kind !== "missing") ? answers : undefined;
}

/** A tool that asks once: with state, the answer counts only where the state comes back with it. */
const once = (inputRequests, finish, state) => async (_, ctx) => {
  const answers = answered(ctx, ...Object.keys(inputRequests));
  if (answers && (!state || ctx.mcpReq.requestState() === state)) return text(finish(...answers));
  return inputRequired({ inputRequests, ...(state && { requestState: await states.mint(state) }) });
};

async function twoRounds(_, ctx) {
  const state = ctx.mcpReq.requestState();
  if (state?.name !== undefined) {
    const second = answered(ctx, "step2");
    if (second) return text(`${state.name} likes ${second[0].content?.color}`);
  }
  const first = state?.step === 1 ? answered(ctx, "step1") : undefined;
  if (first) {
    const requestState = await states.mint({ name: first[0].content?.name ?? "nobody" });
    return inputRequired({ inputRequests: { step2: form("Step 2: What is your favorite color?", "color") }, requestState });
  }
  const requestState = await states.mint({ step: 1 });
  return inputRequired({ inputRequests: { step1: form("Step 1: What is your name?", "name") }, requestState });
}

/** Asks for no more than what the client of this request can do. */
function withinCapabilities(_, ctx) {
  const declared = ctx.mcpReq.envelope?.["io.modelcontextprotocol/clientCapabilities"] ?? {};
  const inputRequests = {
    ...(declared.sampling && { thought: sample("Think of a word.", 10) }),
    ...(declared.elicitation && { word: form("Which word?", "word") }),
  };
  const asked = Object.keys(inputRequests);
  if (asked.length === 0 || answered(ctx, ...asked)) return text("enough is known");
  return inputRequired({ inputRequests });
}

const rounds = {
  elicitation: once({ user_name: form("What is your name?", "name") }, (who) => `Hello, ${who.content?.name}!`),
  sampling: once({ capital_question: sample("What is the capital of France?", 100) }, (said) => said.result.content.text),
  list_roots: once({ client_roots: inputRequired.listRoots() }, ({ roots }) => roots.map((root) => root.uri).join(" ")),
  request_state: once({ confirm: form("Please confirm", "ok", "boolean") }, () => "state-ok", "asked"),
  tampered_state: once({ confirm: form("Please confirm", "ok", "boolean") }, () => "state-ok", "sealed"),
  multiple_inputs: once(
    {
      user_name: form("What is your name?", "name"),
      greeting: sample("Generate a greeting", 50),
      client_roots: inputRequired.listRoots(),
    },
    () => "all is known",
    "asked",
  ),
  multi_round: twoRounds,
  capabilities: withinCapabilities,
};

// What `test_trigger_*_change` changes: each time, the last tool or prompt has another name.
const changes = { tool: 0, prompt: 0 };
let handler;

function factory() {
  const capabilities = {
    tools: { listChanged: true },
    prompts: { listChanged: true },
    logging: {},
    extensions: { [extension]: {} },
  };
  const server = new McpServer(
    { name: "conformance-next", version: "1.0.0" },
    { capabilities, requestState: { verify: states.verify } },
  );
  const tool = (name, inputSchema, run) => server.registerTool(name, { description: `The suite's ${name}`, inputSchema }, run);

  for (const [name, run] of Object.entries(rounds)) tool(`test_input_required_result_${name}`, object({}), run);
  tool("test_custom_header", object({ region: { ...string, "x-mcp-header": "Region" } }), ({ region }) => text(String(region)));
  // The SDK refuses to ask for what the client did not declare.
  tool("test_missing_capability", object({}), once({ thought: sample("Think.", 10) }, () => "thought"));
  tool("test_streaming_elicitation", object({}), async (given, ctx) => {
    await ctx.mcpReq.log("info", "about to ask");
    return rounds.elicitation(given, ctx);
  });
  tool("test_logging_tool", object({}), async (_, ctx) => {
    await ctx.mcpReq.log("info", "said to whoever wants to hear it");
    return text("logged");
  });
  tool("test_trigger_tool_change", object({}), () => {
    changes.tool += 1;
    handler.notify.toolsChanged();
    return text("changed");
  });
  tool("test_trigger_prompt_change", object({}), () => {
    changes.prompt += 1;
    handler.notify.promptsChanged();
    return text("changed");
  });
  tool(`test_changing_tool_${changes.tool}`, object({}), () => text("still here"));
  tool("greet", object({ name: string }), ({ name }) => text(`Hello, ${name}!`));
  // Listed here; answered before the SDK sees the call.
  for (const [name, properties] of Object.entries(taskTools)) tool(name, object(properties), () => text("never"));

  const said = (words) => ({ messages: [{ role: "user", content: { type: "text", text: words } }] });
  server.registerPrompt("test_input_required_result_prompt", { description: "A prompt that asks" }, (ctx) => {
    const answers = answered(ctx, "user_context");
    if (answers) return said(`In the context of ${answers[0].content?.context}`);
    return inputRequired({ inputRequests: { user_context: form("What context should the prompt use?", "context") } });
  });
  server.registerPrompt(`test_changing_prompt_${changes.prompt}`, { description: "Changes" }, () => said("still here"));
  return server;
}

handler = createMcpHandler(factory, { legacy: "reject" });
const answer = toNodeHandler(handler);
const web = createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  let message;
  try {
    message = JSON.parse(body);
  } catch {
    response.writeHead(400).end();
    return;
  }
  if (!answersTask(message, request.headers, response)) await answer(request, response, message);
});
web.listen(0, "127.0.0.1", () => {
  const ready = process.argv[2];
  writeFileSync(`${ready}.draft`, `http://127.0.0.1:${web.address().port}/mcp\n`);
  renameSync(`${ready}.draft`, ready);
});
