// What the dashboard costs: weight, first paint, and processor time while a busy daemon is watched. `make bench-page` runs it.
//
// usage: node measure.mjs TRUNKLINE FAKE_UPSTREAM [SECONDS]
//
// Everything is a process of its own: the daemon with twelve servers, the fake server behind all of them, Chromium, and this
// one, which makes the updates. Processor time is what the kernel counted, so what else the machine does bends it little; times
// to the first paint are bent by it. It needs `make parts`.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const parts = createRequire(new URL("../../node/package.json", import.meta.url));
const { chromium } = parts("playwright-core");

const [trunkline, upstream, seconds = "60"] = process.argv.slice(2);
const executablePath = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/google-chrome"].find((path) => path && existsSync(path));
const SERVERS = 12;
const UPDATES_PER_MINUTE = 1000;
/** Of the updates, one in so many is a server that connects anew. */
const RESTART_EVERY = 100;
const LOADS = 11;

const home = mkdtempSync(join(tmpdir(), "page-"));
const children = [];

/** Starts a process, and waits for what it writes into `file`. */
async function start(command, args, file) {
  const env = { PATH: process.env.PATH, HOME: home, XDG_RUNTIME_DIR: home };
  const child = spawn(command, args, { env, stdio: "ignore" });
  children.push(child);
  for (let tries = 0; tries < 200; tries += 1) {
    if (existsSync(file) && readFileSync(file, "utf8").trim()) return child;
    await sleep(50);
  }
  throw new Error(`${command} did not start`);
}

/** Processor seconds of a process. */
function used(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

const post = (path, body, more = {}) =>
  fetch(base + path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", Origin: base, ...more } });

/** A client that makes the updates: calls in turn to all servers, and now and then one of them is connected anew. */
async function updates(until) {
  const accept = { Accept: "application/json, text/event-stream" };
  const clientInfo = { name: "bench", version: "1" };
  const opening = await post("/mcp", { jsonrpc: "2.0", id: 0, method: "initialize", params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo } }, accept);
  const session = { ...accept, "Mcp-Session-Id": opening.headers.get("mcp-session-id") };
  await opening.text();
  const began = performance.now();
  let made = 0;
  for (; performance.now() < until; made += 1) {
    const name = `server-${made % SERVERS}`;
    if (made % RESTART_EVERY === RESTART_EVERY - 1) await (await post(`/api/v1/servers/${name}/restart`, {})).text();
    else {
      const answer = await post("/mcp", { jsonrpc: "2.0", id: made + 1, method: "tools/call", params: { name: `${name}__echo`, arguments: { message: "hi" } } }, session);
      const text = await answer.text();
      if (!text.includes('"result"')) throw new Error(text);
    }
    await sleep(Math.max(0, began + ((made + 1) * 60_000) / UPDATES_PER_MINUTE - performance.now()));
  }
  return made;
}

/** What the processes used over some time, in percent of a core. */
async function during(daemon, browser, work) {
  const before = { daemon: used(daemon.pid), ...(await chromiumUsed(browser)), at: performance.now() };
  const made = await work(before.at + seconds * 1000);
  const span = (performance.now() - before.at) / 1000;
  const after = { daemon: used(daemon.pid), ...(await chromiumUsed(browser)) };
  const share = (key) => (((after[key] ?? 0) - (before[key] ?? 0)) / span) * 100;
  const rest = Object.keys(after).filter((key) => key !== "daemon" && key !== "renderer");
  return { daemon: share("daemon"), renderer: share("renderer"), rest: rest.reduce((sum, key) => sum + share(key), 0), made };
}

async function chromiumUsed(browser) {
  if (!browser) return {};
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  const sums = {};
  for (const { type, cpuTime } of processInfo) sums[type] = (sums[type] ?? 0) + cpuTime;
  return sums;
}

const open = () =>
  chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"] });

/** Opens a page, and waits until the browser has painted something of it. */
async function painted(page, go) {
  await go(page);
  return page.evaluate(async () => {
    const paint = () => performance.getEntriesByName("first-contentful-paint")[0];
    while (!paint()) await new Promise((resolve) => setTimeout(resolve, 10));
    return paint().startTime;
  });
}

/** When the dashboard had painted first (its frame, and that it connects), and when the state of the daemon stood in it: by the page's own clock. */
async function load(page, go) {
  const paint = await painted(page, go);
  await page.waitForFunction(() => window.liveAt);
  return page.evaluate((paint) => {
    const files = [performance.getEntriesByType("navigation")[0], ...performance.getEntriesByType("resource").filter((it) => !it.name.includes("/api/"))];
    const sum = (key) => files.reduce((all, it) => all + it[key], 0);
    return { paint, live: window.liveAt, wire: sum("transferSize"), weight: sum("decodedBodySize"), files: files.length };
  }, paint);
}

/** A page that notes when the state of the daemon is in it. */
async function fresh(browser) {
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
  await page.addInitScript(() => {
    const look = () => {
      if (document.querySelector(".pulse:is(.is-good, .is-warn, .is-bad)")) window.liveAt ??= performance.now();
    };
    new MutationObserver(look).observe(document, { subtree: true, attributeFilter: ["class"] });
  });
  return page;
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
const percent = (number) => `${number.toFixed(1)} %`;

let base;
try {
  const urlFile = join(home, "url");
  await start(upstream, ["http", "--listen", "127.0.0.1:0", "--ready-file", urlFile], urlFile);
  const url = readFileSync(urlFile, "utf8").trim();
  const config = join(home, "config.toml");
  const port = 20_000 + (process.pid % 20_000);
  const blocks = Array.from({ length: SERVERS }, (_, at) => `[mcp_servers.server-${at}]\nurl = ${JSON.stringify(url)}\n`);
  writeFileSync(config, `listen.port = ${port}\n${blocks.join("")}`);
  base = `http://127.0.0.1:${port}`;
  const daemon = spawn(trunkline, ["serve", "--config", config], { env: { PATH: process.env.PATH, HOME: home, XDG_RUNTIME_DIR: home }, stdio: "ignore" });
  children.push(daemon);
  for (let ready = 0, tries = 0; ready < SERVERS; tries += 1) {
    if (tries > 200) throw new Error("the daemon did not get its servers ready");
    await sleep(50);
    const state = await fetch(`${base}/api/v1/state`).then((it) => it.json(), () => ({ servers: [] }));
    ready = state.servers.filter((it) => it.state === "ready").length;
  }

  const empty = [];
  const cold = [];
  const warm = [];
  for (let at = 0; at < LOADS; at += 1) {
    // A browser of its own for each: nothing is cached, not even its compiled scripts.
    let browser = await open();
    // What a browser takes for one line of text of the same daemon.
    empty.push({ paint: await painted(await fresh(browser), (page) => page.goto(`${base}/health/live`)) });
    await browser.close();
    browser = await open();
    const page = await fresh(browser);
    cold.push(await load(page, () => page.goto(`${base}/`)));
    warm.push(await load(page, () => page.reload()));
    await browser.close();
  }
  const times = (loads, key = "paint") => {
    const all = loads.map((it) => it[key]);
    return `${median(all).toFixed(0)} ms (${Math.min(...all).toFixed(0)} to ${Math.max(...all).toFixed(0)})`;
  };
  console.log(`load of the machine ${loadavg()[0].toFixed(1)}; ${SERVERS} servers; ${LOADS} loads, of which the median`);
  console.log(`weight               ${cold[0].files} files, ${cold[0].weight} bytes; over the wire with heads ${cold[0].wire} cold, ${warm[0].wire} warm`);
  console.log(`first paint, cold    ${times(cold)}; of a line of text, in as new a browser, ${times(empty)}`);
  console.log(`first paint, warm    ${times(warm)}`);
  console.log(`state shown          ${times(cold, "live")} cold, ${times(warm, "live")} warm`);

  const unwatched = await during(daemon, null, updates);
  console.log(`nobody watches       daemon ${percent(unwatched.daemon)} at ${unwatched.made} updates in ${seconds} s`);
  const browser = await open();
  const page = await fresh(browser);
  await load(page, () => page.goto(`${base}/`));
  await page.getByRole("button", { name: "server-3", exact: true }).click();
  const told = (what, { daemon: own, renderer, rest }) =>
    console.log(`${what.padEnd(20)} daemon ${percent(own)}, page ${percent(renderer)}, the rest of the browser ${percent(rest)}: the browser ${percent(renderer + rest)}`);
  told("watched, quiet", await during(daemon, browser, (until) => sleep(until - performance.now())));
  told("watched, busy", await during(daemon, browser, updates));
  await page.locator("#calls").scrollIntoViewIfNeeded();
  await page.waitForTimeout(1500);
  await page.evaluate(() => scrollTo({ top: document.body.scrollHeight, behavior: "instant" }));
  told("busy, calls in view", await during(daemon, browser, updates));
  await browser.close();
} finally {
  for (const child of children) child.kill();
  await sleep(300);
  rmSync(home, { recursive: true, force: true });
}
