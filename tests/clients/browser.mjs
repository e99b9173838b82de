// A browser with one page, driven by scripts.
//
// usage: node browser.mjs CHROMIUM URL
// reads:  one JSON string a line, the body of an async function with `page`, `axe` and `seen` in scope
// prints: {"ok": what it returned} or {"error": "..."} for each
//
// `seen` has what the page should not have: `errors` of its console, and `outside`, requests to anywhere but URL.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const parts = createRequire(new URL("../node/package.json", import.meta.url));
const { chromium } = parts("playwright-core");
const source = readFileSync(parts.resolve("axe-core/axe.min.js"), "utf8");

const [executablePath, url] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  args: [
    // The tests may run as root, and in a container without room for shared memory.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    // It shall speak with nobody but the daemon.
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
  viewport: { width: 1280, height: 900 },
});
const page = context.pages()[0] ?? (await context.newPage());
page.setDefaultTimeout(60_000);

const seen = { errors: [], outside: [] };
page.on("console", (message) => {
  // A daemon that is away is no fault of the page.
  if (message.type() === "error" && !message.text().includes("net::ERR_")) seen.errors.push(message.text());
});
page.on("pageerror", (error) => seen.errors.push(String(error)));
page.on("request", (request) => {
  if (!request.url().startsWith(url)) seen.outside.push(request.url());
});

/** What axe-core finds that is serious: rule and place. */
async function axe() {
  await page.evaluate(source);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return serious.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 200)} (${node.failureSummary})`));
}

const AsyncFunction = (async () => {}).constructor;
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const run = new AsyncFunction("page", "axe", "seen", "url", JSON.parse(line));
    answer = { ok: (await run(page, axe, seen, url)) ?? null };
  } catch (error) {
    answer = { error: String(error.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await context.close();
rmSync(profile, { recursive: true, force: true });
