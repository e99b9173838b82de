// A server on pipes whose every text is markup: names, titles, descriptions, results and standard error. Its tool `form`
// takes one argument of each kind and gives back what it got.
//
// usage: node hostile.mjs
import { createInterface } from "node:readline";

const MARK = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>';

const tools = [
  {
    name: "<script>window.owned=1</script>",
    title: MARK,
    description: `${MARK} <b>bold</b>`,
    inputSchema: { type: "object", properties: { [`<i>${MARK}`]: { type: "string", description: MARK, default: MARK } } },
  },
  {
    name: "form",
    title: "A form",
    description: "Gives back what it got",
    annotations: { readOnlyHint: true },
    inputSchema: {
      type: "object",
      required: ["text", "whole"],
      properties: {
        text: { type: "string" },
        whole: { type: "integer", minimum: 1, maximum: 9 },
        part: { type: "number" },
        flag: { type: "boolean" },
        colour: { type: "string", enum: ["red", "green"] },
        list: { type: "array", items: { type: "number" } },
        object: { type: "object" },
        left: { type: "string" },
      },
    },
  },
];

const answers = {
  initialize: (params) => ({
    protocolVersion: params.protocolVersion,
    capabilities: { tools: {} },
    serverInfo: { name: MARK, version: MARK },
  }),
  "tools/list": () => ({ tools }),
  "tools/call": ({ name, arguments: given }) => ({
    content: [{ type: "text", text: name === "form" ? JSON.stringify(given) : MARK }],
    isError: name !== "form",
  }),
  ping: () => ({}),
};

console.error(MARK);
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) continue;
  const answer = answers[method];
  const outcome = answer ? { result: answer(params ?? {}) } : { error: { code: -32601, message: MARK } };
  process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", id, ...outcome })}\n`);
}
