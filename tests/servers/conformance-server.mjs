// The server that the official conformance suite expects to find: its own names for tools, prompts and
// resources, on the TypeScript SDK v1 over streamable HTTP. The suite runs against it through the daemon
// (and, to see that a failure is not the fixture's, directly).
//
// usage: node conformance-server.mjs READY_FILE
import { randomUUID } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const parts = createRequire(fileURLToPath(new URL("../node/package.json", import.meta.url)));
const sdk = async (path) => import(pathToFileURL(parts.resolve(`@modelcontextprotocol/sdk/${path}`)));
const { Server } = await sdk("server/index.js");
const { StreamableHTTPServerTransport } = await sdk("server/streamableHttp.js");
const types = await sdk("types.js");

const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
const silence = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";
const pause = (ms) => new Promise((later) => setTimeout(later, ms));
const text = (said) => ({ content: [{ type: "text", text: said }] });
const image = { type: "image", data: pixel, mimeType: "image/png" };

const defaults = {
  type: "object",
  properties: {
    name: { type: "string", default: "John Doe" },
    age: { type: "integer", default: 30 },
    score: { type: "number", default: 95.5 },
    status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
    verified: { type: "boolean", default: true },
  },
};
const choices = (word) => [1, 2, 3].map((n) => ({ const: `value${n}`, title: `${word} ${n}` }));
const options = ["option1", "option2", "option3"];
const enums = {
  type: "object",
  properties: {
    untitledSingle: { type: "string", enum: options },
    titledSingle: { type: "string", oneOf: choices("Option") },
    legacyEnum: { type: "string", enum: ["opt1", "opt2", "opt3"], enumNames: ["Option One", "Option Two", "Option Three"] },
    untitledMulti: { type: "array", items: { type: "string", enum: options } },
    titledMulti: { type: "array", items: { anyOf: choices("Choice") } },
  },
};
const person = {
  type: "object",
  properties: { username: { type: "string", description: "User's response" }, email: { type: "string", description: "User's email address" } },
  required: ["username", "email"],
};

async function elicit(extra, message, requestedSchema) {
  const answer = await extra.sendRequest({ method: "elicitation/create", params: { message, requestedSchema } }, types.ElicitResultSchema);
  return text(`Elicitation completed: action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`);
}

const tools = {
  test_simple_text: () => text("This is a simple text response for testing."),
  test_image_content: () => ({ content: [image] }),
  test_audio_content: () => ({ content: [{ type: "audio", data: silence, mimeType: "audio/wav" }] }),
  test_embedded_resource: () => ({
    content: [{ type: "resource", resource: { uri: "test://embedded-resource", mimeType: "text/plain", text: "This is an embedded resource content." } }],
  }),
  test_multiple_content_types: () => ({
    content: [
      { type: "text", text: "Multiple content types test:" },
      image,
      { type: "resource", resource: { uri: "test://mixed-content-resource", mimeType: "application/json", text: '{"test":"data","value":123}' } },
    ],
  }),
  async test_tool_with_logging(_, extra) {
    for (const data of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
      await extra.sendNotification({ method: "notifications/message", params: { level: "info", data } });
      await pause(50);
    }
    return text("logged");
  },
  test_error_handling: () => ({ isError: true, ...text("This tool intentionally returns an error for testing") }),
  async test_tool_with_progress(_, extra) {
    const progressToken = extra._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      if (progressToken !== undefined) {
        await extra.sendNotification({ method: "notifications/progress", params: { progressToken, progress, total: 100 } });
      }
      await pause(50);
    }
    return text(String(progressToken));
  },
  async test_sampling({ prompt }, extra) {
    const params = { messages: [{ role: "user", content: { type: "text", text: prompt } }], maxTokens: 100 };
    const answer = await extra.sendRequest({ method: "sampling/createMessage", params }, types.CreateMessageResultSchema);
    return text(`LLM response: ${answer.content.text}`);
  },
  test_elicitation: ({ message }, extra) => elicit(extra, message, person),
  test_elicitation_sep1034_defaults: (_, extra) => elicit(extra, "Please review", defaults),
  test_elicitation_sep1330_enums: (_, extra) => elicit(extra, "Please choose", enums),
  // Closes its stream in mid-call; the result is there for whoever resumes it.
  async test_reconnection(_, extra) {
    extra.closeSSEStream?.();
    await pause(100);
    return text("Reconnection test completed");
  },
  json_schema_2020_12_tool: () => text("valid"),
};

const schemas = {
  test_sampling: { type: "object", properties: { prompt: { type: "string" } }, required: ["prompt"] },
  test_elicitation: { type: "object", properties: { message: { type: "string" } }, required: ["message"] },
  json_schema_2020_12_tool: {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    type: "object",
    $defs: {
      address: { $anchor: "addressDef", type: "object", properties: { street: { type: "string" }, city: { type: "string" } } },
    },
    properties: { name: { type: "string" }, address: { $ref: "#/$defs/address" }, phone: { type: "string" }, email: { type: "string" } },
    allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
    if: { required: ["address"] },
    then: { required: ["name"] },
    else: { required: ["email"] },
    additionalProperties: false,
  },
};

const said = (...contents) => ({ messages: contents.map((content) => ({ role: "user", content })) });
const words = (text) => ({ type: "text", text });
const prompts = {
  test_simple_prompt: { make: () => said(words("This is a simple prompt for testing.")) },
  test_prompt_with_arguments: {
    arguments: ["arg1", "arg2"],
    make: ({ arg1, arg2 }) => said(words(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)),
  },
  test_prompt_with_embedded_resource: {
    arguments: ["resourceUri"],
    make: ({ resourceUri }) =>
      said(
        { type: "resource", resource: { uri: resourceUri, mimeType: "text/plain", text: "Embedded resource content for testing." } },
        words("Please process the embedded resource above."),
      ),
  },
  test_prompt_with_image: { make: () => said(image, words("Please analyze the image above.")) },
};

const resources = {
  "test://static-text": { mimeType: "text/plain", text: "This is the content of the static text resource." },
  "test://static-binary": { mimeType: "image/png", blob: pixel },
  "test://watched-resource": { mimeType: "text/plain", text: "watched" },
};

// What was sent on a stream, for clients that come back with Last-Event-ID.
class Memory {
  events = [];
  async storeEvent(stream, message) {
    this.events.push({ stream, message });
    return `${stream}_${this.events.length - 1}`;
  }
  async replayEventsAfter(last, { send }) {
    const [stream, index] = [last.slice(0, last.lastIndexOf("_")), Number(last.slice(last.lastIndexOf("_") + 1))];
    for (const [place, event] of this.events.entries()) {
      if (event.stream === stream && place > index && Object.keys(event.message).length) await send(`${stream}_${place}`, event.message);
    }
    return stream;
  }
}

function build() {
  const capabilities = { tools: {}, prompts: {}, resources: { subscribe: true }, completions: {}, logging: {} };
  const server = new Server({ name: "conformance-fixture", version: "1.0.0" }, { capabilities });
  const answer = (schema, handler) => server.setRequestHandler(schema, handler);
  answer(types.ListToolsRequestSchema, () => ({
    tools: Object.keys(tools).map((name) => ({ name, description: `The suite's ${name}`, inputSchema: schemas[name] ?? { type: "object" } })),
  }));
  answer(types.CallToolRequestSchema, async ({ params }, extra) => {
    const tool = tools[params.name];
    if (!tool) throw new types.McpError(types.ErrorCode.InvalidParams, `Unknown tool: ${params.name}`);
    return await tool(params.arguments ?? {}, extra);
  });
  answer(types.ListPromptsRequestSchema, () => ({
    prompts: Object.entries(prompts).map(([name, prompt]) => ({
      name,
      description: `The suite's ${name}`,
      arguments: (prompt.arguments ?? []).map((argument) => ({ name: argument, required: true })),
    })),
  }));
  answer(types.GetPromptRequestSchema, ({ params }) => prompts[params.name].make(params.arguments ?? {}));
  answer(types.ListResourcesRequestSchema, () => ({
    resources: Object.entries(resources).map(([uri, { mimeType }]) => ({ uri, name: uri, description: "A resource of the suite", mimeType })),
  }));
  answer(types.ListResourceTemplatesRequestSchema, () => ({
    resourceTemplates: [{ uriTemplate: "test://template/{id}/data", name: "template", description: "A template of the suite" }],
  }));
  answer(types.ReadResourceRequestSchema, ({ params: { uri } }) => {
    const id = /^test:\/\/template\/(.+)\/data$/.exec(uri)?.[1];
    if (id) return { contents: [{ uri, mimeType: "application/json", text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) }] };
    if (!resources[uri]) throw new types.McpError(-32002, `Resource not found: ${uri}`);
    return { contents: [{ uri, ...resources[uri] }] };
  });
  answer(types.SubscribeRequestSchema, () => ({}));
  answer(types.UnsubscribeRequestSchema, () => ({}));
  answer(types.SetLevelRequestSchema, () => ({}));
  answer(types.CompleteRequestSchema, () => ({ completion: { values: ["paris", "park", "party"], total: 3, hasMore: false } }));
  return server;
}

const sessions = new Map();

async function body(request) {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text ? JSON.parse(text) : undefined;
}

const web = createServer(async (request, response) => {
  const message = request.method === "POST" ? await body(request) : undefined;
  let transport = sessions.get(request.headers["mcp-session-id"]);
  if (!transport && message?.method === "initialize") {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new Memory(),
      retryInterval: 100,
      onsessioninitialized: (id) => void sessions.set(id, transport),
      onsessionclosed: (id) => void sessions.delete(id),
    });
    await build().connect(transport);
  }
  if (!transport) {
    response.writeHead(request.headers["mcp-session-id"] ? 404 : 400).end("no such session");
    return;
  }
  await transport.handleRequest(request, response, message);
});
web.listen(0, "127.0.0.1", () => {
  const ready = process.argv[2];
  writeFileSync(`${ready}.draft`, `http://127.0.0.1:${web.address().port}/mcp\n`);
  renameSync(`${ready}.draft`, ready);
});
