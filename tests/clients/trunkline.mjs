// The gateway as the client that the official suite looks at: a daemon in front of the suite's server, the command that signs
// in, and a person who follows the address and says yes.
//
// The suite gives the server's address as the last argument, the scenario and what belongs to it in variables; TRUNKLINE is
// the gateway's binary. It exits with 0 when everything was done that there was to do; what the suite saw decides.
import { execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const LOGINS_MAX = 3;
const url = process.argv.at(-1);
const scenario = process.env.MCP_CONFORMANCE_SCENARIO ?? "";
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
const home = mkdtempSync(join(tmpdir(), "conform-"));
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TRUNKLINE")));
Object.assign(env, { HOME: home, XDG_CONFIG_HOME: join(home, "config"), XDG_STATE_HOME: join(home, "state") });
const later = (ms) => new Promise((done) => setTimeout(done, ms));

/** What a person would write into the configuration. */
function configuration() {
  const oauth = [];
  if (context.client_id && !context.idp_client_id) oauth.push(`client_id = ${JSON.stringify(context.client_id)}`);
  if (context.client_secret && !context.idp_client_id) oauth.push(`client_secret = ${JSON.stringify(context.client_secret)}`);
  if (scenario.startsWith("auth/client-credentials")) oauth.push("client_credentials = true");
  if (scenario === "auth/basic-cimd") {
    oauth.push('client_metadata_url = "https://conformance-test.local/client-metadata.json"');
  }
  const table = oauth.length > 0 ? `[mcp_servers.suite.oauth]\n${oauth.join("\n")}\n` : "";
  return `[mcp_servers.suite]\nurl = ${JSON.stringify(url)}\nprefix = ""\n${table}`;
}

function cli(args) {
  return new Promise((done) => {
    execFile(process.env.TRUNKLINE, args, { env }, (error, out, err) => done({ well: !error, said: out + err }));
  });
}

async function until(what, look) {
  for (let tries = 0; tries < 400; tries++) {
    const found = await look();
    if (found) return found;
    await later(25);
  }
  throw new Error(`waited in vain for ${what}`);
}

async function state() {
  const { said } = await cli(["status", "--json"]);
  try {
    return JSON.parse(said).servers[0];
  } catch {
    return undefined;
  }
}

let logins = 0;

/** A person signs in: false if there was no way to. */
async function login() {
  logins += 1;
  const command = spawn(process.env.TRUNKLINE, ["login", "suite", "--no-browser"], { env });
  const ended = new Promise((done) => command.on("exit", (code) => done(code)));
  let said = "";
  let followed = false;
  for (const stream of [command.stdout, command.stderr]) {
    stream.on("data", async (part) => {
      said += part;
      const address = /^\s*(https?:\/\/\S+)\s*$/m.exec(said)?.[1];
      if (address === undefined || followed) return;
      followed = true;
      const there = await fetch(address, { redirect: "manual" });
      const back = there.headers.get("location");
      console.error(`${address} led to ${back ?? there.status}`);
      const page = back === null ? undefined : await fetch(back);
      if (page !== undefined) console.error(await page.text());
      // Who reads that the answer is not to be trusted gives up; the command would wait for a better one.
      if (page?.status !== 200) command.kill();
    });
  }
  const code = await ended;
  console.error(said);
  return code === 0;
}

const settled = () =>
  until("the server", async () => {
    const server = await state();
    return ["ready", "needs_auth", "misconfigured", "open"].includes(server?.state) ? server : undefined;
  });

/** Tries, and signs in for as long as that is what is wanted. */
async function work(gateway) {
  let server = await settled();
  while (server.state === "needs_auth" && logins < LOGINS_MAX && (await login())) {
    await later(100);
    server = await settled();
  }
  console.error(`${server.state}: ${server.reason ?? ""}`);
  if (server.state !== "ready") return 1;
  let session;
  const post = async (message) => {
    const headers = { "content-type": "application/json", accept: "application/json, text/event-stream" };
    if (session) Object.assign(headers, { "mcp-session-id": session, "mcp-protocol-version": "2025-11-25" });
    const body = JSON.stringify({ jsonrpc: "2.0", ...message });
    const response = await fetch(gateway, { method: "POST", headers, body });
    session ??= response.headers.get("mcp-session-id") ?? undefined;
    const text = await response.text();
    if (text === "") return undefined;
    const data = text.startsWith("{") ? text : text.split("\n").findLast((line) => line.startsWith("data: {")).slice(6);
    return JSON.parse(data).result;
  };
  const clientInfo = { name: "suite", version: "1" };
  await post({ id: 1, method: "initialize", params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo } });
  await post({ method: "notifications/initialized" });
  const { tools } = await until("tools", async () => {
    const list = await post({ id: 2, method: "tools/list", params: {} });
    return list.tools.length > 0 ? list : undefined;
  });
  for (;;) {
    const result = await post({ id: 3, method: "tools/call", params: { name: tools[0].name, arguments: {} } });
    const told = JSON.stringify(result);
    console.error(told);
    if (!result?.isError) return 0;
    if (!told.includes("trunkline login") || logins >= LOGINS_MAX || !(await login())) return 1;
    await settled();
  }
}

mkdirSync(join(home, "config/trunkline"), { recursive: true });
writeFileSync(join(home, "config/trunkline/config.toml"), configuration());
const ready = join(home, "ready");
const log = join(home, "log");
const stdio = ["ignore", "ignore", openSync(log, "w")];
const daemon = spawn(process.env.TRUNKLINE, ["serve", "--listen", "127.0.0.1:0"], {
  env: { ...env, TRUNKLINE_READY_FILE: ready },
  stdio,
});
let code = 1;
try {
  const gateway = await until("the daemon", () => {
    try {
      return readFileSync(ready, "utf8").trim();
    } catch {
      return undefined;
    }
  });
  code = await work(gateway);
} catch (error) {
  console.error(error, readFileSync(log, "utf8"));
} finally {
  daemon.kill();
  await new Promise((done) => daemon.on("exit", done));
  rmSync(home, { recursive: true, force: true });
}
process.exit(code);
