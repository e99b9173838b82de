// Makes the pictures of the dashboard in docs/ anew: twelve servers in every state, a few clients at work. `make pictures` runs it.
//
// usage: [KEEP=DIRECTORY] node pictures.mjs TRUNKLINE FAKE_UPSTREAM DIRECTORY [MINUTES]
//
// KEEP gets more of them, to be looked at: three widths in both themes, and whole pages with a row open.
//
// It serves at the gateway's usual port, since that is what the pictures show; no other gateway may have it. Every server is the
// tests' fake one with a fault of its own. It needs `make parts`.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const parts = createRequire(new URL("../../node/package.json", import.meta.url));
const { chromium } = parts("playwright-core");

const [trunkline, upstream, directory, minutes = "4"] = process.argv.slice(2);
const executablePath = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/google-chrome"].find((path) => path && existsSync(path));
const base = "http://127.0.0.1:6270";
const home = mkdtempSync(join(tmpdir(), "pictures-"));
const env = { PATH: process.env.PATH, HOME: join(home, "you"), XDG_RUNTIME_DIR: home };
mkdirSync(join(home, "you/.config/trunkline"), { recursive: true });
const children = [];

function start(command, args) {
  const child = spawn(command, args, { env, stdio: "ignore" });
  children.push(child);
  return child;
}

/** A fake server behind a URL. */
async function remote(mode, ...args) {
  const file = join(home, `url-${children.length}`);
  start(upstream, [mode, "--listen", "127.0.0.1:0", "--ready-file", file, ...args]);
  while (!existsSync(file)) await sleep(20);
  return `url = ${JSON.stringify(readFileSync(file, "utf8").trim())}`;
}

const child = (...args) => `command = ${JSON.stringify(upstream)}\nargs = ${JSON.stringify(["stdio", ...args])}`;

/** A client: a process of its name, which calls these tools in turn, every so many milliseconds. */
function client(name, version, path, every, tools) {
  const script = `
    process.title = ${JSON.stringify(name)};
    const post = async (body, more = {}) => {
      const headers = { "Content-Type": "application/json", Accept: "application/json, text/event-stream", ...more };
      const answer = await fetch(${JSON.stringify(base + path)}, { method: "POST", body: JSON.stringify({ jsonrpc: "2.0", ...body }), headers });
      await answer.text();
      return answer.headers.get("mcp-session-id");
    };
    const clientInfo = { name: ${JSON.stringify(name)}, version: ${JSON.stringify(version)} };
    const id = await post({ id: 0, method: "initialize", params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo } });
    const tools = ${JSON.stringify(tools)};
    for (let at = 1; ; at += 1) {
      const [name, args] = tools[at % tools.length];
      await post({ id: at, method: "tools/call", params: { name, arguments: args } }, { "Mcp-Session-Id": id });
      await new Promise((resolve) => setTimeout(resolve, ${every} * (0.5 + Math.random())));
    }`;
  start(process.execPath, ["--input-type=module", "-e", script]);
}

async function until(what) {
  for (let tries = 0; tries < 600; tries += 1) {
    const state = await fetch(`${base}/api/v1/state`).then((it) => it.json(), () => null);
    if (state && what(new Map(state.servers.map((it) => [it.name, it])))) return;
    await sleep(200);
  }
  throw new Error("the servers did not get where the pictures want them");
}

try {
  const config = `
[mcp_servers.git]\n${child("--tools", "9")}
[mcp_servers.files]\n${child("--tools", "7")}\ntool_timeout_sec = 1
[mcp_servers.postgres]\n${child("--tools", "3", "--delay-ms", "38")}
[mcp_servers.phpstorm]\n${await remote("sse", "--tools", "12")}\ntransport = "sse"
[mcp_servers.linear]\n${await remote("http", "--fault", "401")}
[mcp_servers.figma]\n${await remote("http", "--fault", "busy")}
[mcp_servers.docs]\n${await remote("http", "--fault", "405")}
[mcp_servers.snyk]\n${child("--slow-start-ms", "900000")}\nstartup_timeout_sec = 12
[mcp_servers.sentry]\n${child("--fault", "exit")}
[mcp_servers.browser]\n${child("--tools", "5")}\nidle_stop_sec = 20
[mcp_servers.slack]\n${child()}
[mcp_servers.notion]\n${child()}\nenabled = false
[profiles.code]\nservers = ["git", "files", "phpstorm"]
[profiles.look]\nenabled_tools = ["git__tool_*", "postgres__tool_*"]
`;
  writeFileSync(join(home, "you/.config/trunkline/config.toml"), config);
  start(trunkline, ["serve"]);
  await until((servers) => ["git", "files", "postgres", "phpstorm", "slack"].every((name) => servers.get(name).state === "ready"));
  const headers = { "Content-Type": "application/json", Origin: base };
  await fetch(`${base}/api/v1/servers/slack/pause`, { method: "POST", headers, body: "{}" });
  client("codex", "0.98.0", "/mcp", 350, [["git__echo", { message: "hi" }], ["git__tool_0001", {}], ["postgres__echo", { message: "hi" }], ["files__echo", { message: "hi" }]]);
  client("claude-code", "2.1.7", "/mcp/code", 900, [["files__tool_0002", {}], ["files__hang", {}], ["phpstorm__echo", { message: "hi" }], ["git__tool_0003", {}]]);
  client("cursor", "2.4.0", "/mcp", 4000, [["postgres__tool_0001", {}], ["phpstorm__tool_0004", {}]]);
  await sleep(Number(minutes) * 60_000);
  await until((servers) => servers.get("sentry").state === "open" && servers.get("browser").state === "idle" && servers.get("snyk").state === "backoff");

  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
  const wanted = [["light", "light", 1280, 1480], ["dark", "dark", 1280, 1480], ["phone", "light", 390, 1800]];
  const more = [["tablet-light", "light", 820, 1500], ["tablet-dark", "dark", 820, 1500], ["phone-dark", "dark", 390, 1800]];
  for (const [name, colorScheme, width, height] of process.env.KEEP ? [...wanted, ...more] : wanted) {
    const page = await (await browser.newContext({ viewport: { width, height }, colorScheme, deviceScaleFactor: 1 })).newPage();
    await page.goto(`${base}/`);
    await page.locator(".pulse.is-bad").waitFor();
    await page.locator("tr.server").nth(11).waitFor();
    await sleep(1500);
    // The path of whoever makes the pictures is nobody's business.
    await page.evaluate((mine) => {
      for (const node of document.querySelectorAll(".facts dd")) node.textContent = node.textContent.replace(mine, "/home/you");
    }, env.HOME);
    const docs = wanted.some(([it]) => it === name);
    await page.screenshot({ path: join(docs ? directory : process.env.KEEP, `dashboard-${name}.png`) });
    if (!process.env.KEEP) continue;
    await page.getByRole("button", { name: "files", exact: true }).click();
    await page.getByRole("button", { name: /git__echo/ }).click();
    await page.locator("#calls").scrollIntoViewIfNeeded();
    await sleep(1200);
    await page.evaluate(() => scrollTo({ top: 0, behavior: "instant" }));
    await page.screenshot({ path: join(process.env.KEEP, `whole-${name}.png`), fullPage: true });
    await page.close();
  }
  await browser.close();
} finally {
  for (const it of children.reverse()) it.kill();
  await sleep(2000);
  rmSync(home, { recursive: true, force: true });
}
