//! The dashboard in a real browser: it shows what happens, tries tools, and no text of a server is ever more than text.
//!
//! Chromium comes from the system (`tests/install` says how, and on Debian does it), the driver and axe-core from npm.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::harness::authority::{Authority, Manners};
use crate::harness::daemon::{Daemon, Home, sources};
use crate::harness::{fake, in_time, parts, quoted};

/// How long a script may take: a browser that starts on a busy machine takes its time, and each wait in it has its own limit.
const PATIENCE: Duration = Duration::from_mins(3);

/// A page of the dashboard in a browser of its own.
struct Page {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Page {
    /// Opens the dashboard of a daemon, and waits until it is live.
    async fn open(daemon: &Daemon) -> Page {
        let mut page = Page::start(daemon).await;
        page.run("await page.locator('.pulse.is-good, .pulse.is-bad, .pulse.is-warn').waitFor();").await;
        page
    }

    /// Opens the dashboard of a daemon.
    async fn start(daemon: &Daemon) -> Page {
        let url = format!("http://{}/", daemon.address());
        let mut command = Command::new(parts::node());
        command.arg(sources().join("tests/clients/browser.mjs")).arg(chromium()).arg(&url);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("node starts");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut page = Page { child, stdin, stdout };
        page.run("await page.goto(url);").await;
        page
    }

    /// Runs a script with `page`, `axe` and `seen`, and returns what it returns.
    async fn run(&mut self, script: &str) -> Value {
        let line = Value::from(script).to_string() + "\n";
        self.stdin.write_all(line.as_bytes()).await.expect("the driver reads");
        let mut answer = String::new();
        let reading = tokio::time::timeout(PATIENCE, self.stdout.read_line(&mut answer)).await;
        reading.unwrap_or_else(|_| panic!("waited in vain for {script}")).expect("the driver answers");
        let mut answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{script}: {error}"));
        assert!(answer.get("error").is_none(), "{script}: {}", answer["error"].as_str().unwrap_or_default());
        answer["ok"].take()
    }

    /// Ends the browser. The page had nothing to complain of, and asked nobody but the daemon.
    async fn close(mut self) {
        let seen = self.run("return seen").await;
        assert_eq!(seen, json!({ "errors": [], "outside": [] }));
        drop(self.stdin);
        in_time("the end of the browser", self.child.wait()).await.expect("our child");
    }
}

/// The browser of this machine.
fn chromium() -> PathBuf {
    let places = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    ];
    let wanted = std::env::var_os("CHROMIUM").map(PathBuf::from);
    wanted.into_iter().chain(places.map(PathBuf::from)).find(|path| path.exists()).unwrap_or_else(|| {
        panic!("Chromium is missing: run `tests/install`, which says how to get it, or name it in `CHROMIUM`")
    })
}

/// The server whose every text is markup.
fn hostile() -> String {
    let script = sources().join("tests/servers/hostile.mjs");
    format!("[mcp_servers.hostile]\ncommand = {}\nargs = [{}]\n", quoted(parts::node()), quoted(script))
}

#[tokio::test]
async fn states_change_live_when_a_server_is_killed_and_what_is_open_stays_open() {
    let home = Home::new();
    let (one, desk) = fake::stdio(&home, "one", &[]);
    let (two, _) = fake::stdio(&home, "two", &[]);
    home.configure(&(one + &two));
    let daemon = home.serve().await;
    daemon.until_ready(&["one", "two"]).await;
    let mut page = Page::open(&daemon).await;
    page.run(
        "await page.getByText('2 of 2 ready').waitFor();
         await page.getByRole('button', { name: 'one', exact: true }).press('Enter');
         await page.getByRole('region', { name: 'Details of one' }).waitFor();
         await page.getByRole('button', { name: 'two', exact: true }).focus();",
    )
    .await;
    desk.fail("exit");
    let pid = daemon.server("one").await["pid"].as_u64().expect("a child");
    crate::harness::census::signal(u32::try_from(pid).expect("a pid"), rustix::process::Signal::KILL);
    let focused = page
        .run(
            "const row = page.locator('tr.server', { hasText: 'one' }).first();
         await row.getByText(/Reconnecting|Left alone/).waitFor();
         await page.getByText('What is wrong, and what to do').waitFor();
         await page.locator('#wrong').getByText('trunkline logs one').waitFor();
         await page.locator('.pulse.is-bad').waitFor();
         await page.locator('#changed').getByText(/^one: /).first().waitFor();
         await page.locator('tr.server', { hasText: 'two' }).getByText('Ready').waitFor();
         return await page.evaluate(() => document.activeElement.textContent);",
        )
        .await;
    assert_eq!(focused, "two", "whoever is somewhere stays there");
    desk.heal();
    let after = page
        .run(
            "await page.locator('#wrong').getByRole('button', { name: 'Restart: one' }).click();
             await page.getByText('2 of 2 ready').waitFor();
             await page.locator('.pulse.is-good').waitFor();
             await page.locator('#wrong').waitFor({ state: 'hidden' });
             const open = page.getByRole('button', { name: 'one', exact: true });
             await page.getByRole('region', { name: 'Details of one' }).getByText('→ ready').nth(1).waitFor();
             return await open.getAttribute('aria-expanded');",
        )
        .await;
    assert_eq!(after, "true", "what was open is open");
    page.run(
        "const detail = page.getByRole('region', { name: 'Details of one' });
         await detail.getByRole('button', { name: 'Pause' }).press('Enter');
         const row = page.locator('tr.server', { hasText: 'one' }).first();
         await row.getByText('Paused').waitFor();
         await page.getByText('1 of 2 ready').waitFor();
         const resume = detail.getByRole('button', { name: 'Resume' });
         await resume.and(page.locator(':focus')).press('Enter');
         await page.getByText('2 of 2 ready').waitFor();
         await detail.getByRole('button', { name: 'Pause' }).and(page.locator(':focus')).waitFor();",
    )
    .await;
    page.close().await;
}

#[tokio::test]
async fn a_tool_is_found_and_tried_by_a_form_of_its_schema_and_the_call_is_listed_without_what_was_said() {
    let home = Home::new();
    home.configure(&hostile());
    let daemon = home.serve().await;
    daemon.until_ready(&["hostile"]).await;
    let mut page = Page::open(&daemon).await;
    let told = page
        .run(
            "await page.getByRole('searchbox').fill('gives back');
             await page.getByRole('button', { name: /hostile__form/ }).click();
             const form = page.getByRole('region', { name: 'Try a tool' });
             await form.getByRole('button', { name: 'Call' }).click();
             await form.getByText('text is needed.').waitFor();
             await form.getByLabel(/^text/).fill('a secret word');
             await form.getByLabel(/^whole/).fill('1.5');
             await form.getByRole('button', { name: 'Call' }).click();
             await form.getByText('a whole number').waitFor();
             await form.getByLabel(/^whole/).fill('7');
             await form.getByLabel(/^part/).fill('2.5');
             await form.getByLabel(/^flag/).selectOption({ label: 'false' });
             await form.getByLabel(/^colour/).selectOption({ label: 'green' });
             await form.getByLabel(/^list/).fill('[1,');
             await form.getByLabel(/^object/).fill('{\"a\":{\"b\":[]}}');
             await form.getByRole('button', { name: 'Call' }).click();
             await form.getByText('This is no JSON').waitFor();
             await form.getByLabel(/^list/).fill('[1, 2]');
             await form.getByRole('button', { name: 'Call' }).press('Enter');
             await form.getByText(/^Answered after/).waitFor();
             return await form.getByLabel('The result', { exact: true }).textContent();",
        )
        .await;
    let told: Value = serde_json::from_str(told.as_str().expect("text")).expect("what the tool got");
    let wanted = json!({
        "text": "a secret word", "whole": 7, "part": 2.5, "flag": false, "colour": "green", "list": [1, 2],
        "object": { "a": { "b": [] } },
    });
    assert_eq!(told, wanted, "what was left empty is not sent");
    let listed = page
        .run(
            "await page.locator('#calls').scrollIntoViewIfNeeded();
             const row = page.locator('#calls tbody tr').first();
             await row.getByText('hostile__form').waitFor();
             return await row.textContent();",
        )
        .await;
    let listed = listed.as_str().expect("text");
    assert!(listed.contains("Answered") && !listed.contains("secret"), "{listed}");
    assert!(!daemon.page("/api/v1/state").await.1.contains("a secret word"));
    page.close().await;
}

#[tokio::test]
async fn s36_f59_markup_in_whatever_a_server_says_stays_text() {
    let home = Home::new();
    home.configure(&hostile());
    let daemon = home.serve().await;
    daemon.until_ready(&["hostile"]).await;
    let mut page = Page::open(&daemon).await;
    let found = page
        .run(
            "await page.getByRole('button', { name: 'hostile', exact: true }).click();
             await page.getByRole('region', { name: 'Details of hostile' }).getByText('onerror').first().waitFor();
             await page.locator('button.tool').first().click();
             const form = page.getByRole('region', { name: 'Try a tool' });
             await form.locator('.prose').getByText('<b>bold</b>').waitFor();
             await form.getByRole('button', { name: 'Call' }).click();
             await form.getByText(/^Failed after/).waitFor();
             await form.getByLabel('The result', { exact: true }).getByText('<script>window.owned=1</script>').waitFor();
             return await page.evaluate(() => ({
                 owned: window.owned ?? null,
                 made: document.querySelectorAll('main img, main script, main i, .prose b').length,
                 shown: document.querySelector('button.tool .sub').textContent.includes('<script>'),
             }));",
        )
        .await;
    assert_eq!(found, json!({ "owned": null, "made": 0, "shown": true }));
    page.close().await;
}

#[tokio::test]
async fn anybody_can_use_the_page_in_both_themes_at_a_desk_and_on_a_phone() {
    let home = Home::new();
    let (good, _) = fake::stdio(&home, "good", &[]);
    let (exiting, _) = fake::stdio(&home, "exiting", &["--fault", "exit"]);
    home.configure(
        &[good, exiting, hostile(), "[mcp_servers.off]\nurl = \"http://127.0.0.1:9/\"\nenabled = false\n[profiles.some]\nservers = [\"good\"]\n".into()]
            .concat(),
    );
    let daemon = home.serve().await;
    daemon.until_ready(&["good", "hostile"]).await;
    let client = daemon.client().await;
    client.call("good__echo", r#"{"message":"hi"}"#).await;
    let mut page = Page::open(&daemon).await;
    if cfg!(target_os = "linux") {
        let own = std::process::id();
        let script = format!("await page.locator('#clients').getByText(/ {own}$/).waitFor();");
        page.run(&script).await;
    }
    page.run("await page.locator('#profiles').getByText('/mcp/some').waitFor();").await;
    page.run(
        "await page.locator('#wrong-list li').first().waitFor();
         await page.getByRole('button', { name: 'good', exact: true }).click();
         await page.getByRole('button', { name: /hostile__form/ }).click();
         await page.locator('#calls').scrollIntoViewIfNeeded();
         await page.locator('#calls tbody tr').first().waitFor();",
    )
    .await;
    for theme in ["light", "dark"] {
        for width in [1280, 820, 390] {
            let script = format!(
                "await page.setViewportSize({{ width: {width}, height: 844 }});
                 await page.emulateMedia({{ colorScheme: '{theme}', reducedMotion: 'reduce' }});
                 const wide = await page.evaluate(() => Math.max(
                     document.documentElement.scrollWidth - innerWidth,
                     ...[...document.querySelectorAll('.card')].map((card) => card.scrollWidth - card.clientWidth)));
                 return [await axe(), Math.max(0, wide)];"
            );
            assert_eq!(page.run(&script).await, json!([[], 0]), "{theme} at {width}");
        }
    }
    let themes = page
        .run(
            "const theme = page.getByRole('button', { name: /^Theme/ });
             const chosen = [];
             for (let at = 0; at < 3; at += 1) {
                 await theme.press('Enter');
                 chosen.push(await page.evaluate(() => document.documentElement.dataset.theme ?? 'system'));
             }
             return chosen;",
        )
        .await;
    assert_eq!(themes, json!(["light", "dark", "system"]));
    page.close().await;
}

#[tokio::test]
async fn a_server_that_wants_a_sign_in_is_signed_in_to_by_its_link_and_out_again() {
    let authority = Authority::start(Manners::default()).await;
    let daemon = Daemon::start(&authority.block("locked")).await;
    daemon.until_state("locked", "needs_auth").await;
    let mut page = Page::open(&daemon).await;
    let read = page
        .run(
            "const wrong = page.locator('#wrong');
             await wrong.locator('.command', { hasText: 'trunkline login locked' }).waitFor();
             await wrong.getByRole('button', { name: 'Sign in: locked' }).click();
             const link = wrong.getByRole('link', { name: 'Open the sign-in page of locked' });
             await link.waitFor();
             const [tab] = await Promise.all([page.context().waitForEvent('page'), link.click()]);
             await tab.getByText('You can close this page').waitFor();
             const read = await tab.textContent('body');
             await tab.close();
             await page.locator('.pulse.is-good').waitFor();
             await page.getByRole('button', { name: 'locked', exact: true }).click();
             await page.getByRole('button', { name: 'Sign out' }).click();
             await page.getByText(/^Signed out/).waitFor();
             await wrong.locator('.command', { hasText: 'trunkline login locked' }).waitFor();
             return read;",
        )
        .await;
    assert!(read.as_str().is_some_and(|read| read.contains("signed in to locked")), "{read}");
    page.close().await;
}

#[tokio::test]
async fn s5_where_tokens_are_set_the_page_asks_for_one_and_keeps_it_for_its_tab() {
    let home = Home::new();
    let (one, _) = fake::stdio(&home, "one", &[]);
    home.configure(&format!("{one}\n[auth]\ntokens = {{ laptop = \"a-token-of-the-test-0123456789abcdef\" }}\n"));
    let daemon = home.serve().await;
    let mut page = Page::start(&daemon).await;
    page.run(
        "const field = page.getByLabel(/wants one of its tokens/);
         await field.fill('another');
         await page.getByRole('button', { name: 'Open' }).click();
         await page.getByText('that token is none of').waitFor();
         await field.fill('a-token-of-the-test-0123456789abcdef');
         await field.press('Enter');
         await page.getByText('1 of 1 ready').waitFor();
         await page.reload();
         await page.getByText('1 of 1 ready').waitFor();
         // What a browser says of the refusals itself.
         const own = seen.errors.splice(0).filter((it) => !it.includes('401'));
         if (own.length) throw new Error(own.join());",
    )
    .await;
    page.close().await;
}

#[tokio::test]
async fn the_page_says_when_the_daemon_is_away_and_comes_back_by_itself() {
    let home = Home::new();
    let (one, _) = fake::stdio(&home, "one", &[]);
    home.configure(&one);
    let daemon = home.serve().await;
    let address = daemon.address().to_owned();
    daemon.until_ready(&["one"]).await;
    let mut page = Page::open(&daemon).await;
    let (_, home) = daemon.stop().await;
    page.run("await page.locator('#away').getByText('does not answer').waitFor();").await;
    let daemon = home.serve_at(&address).await;
    page.run(
        "await page.locator('#away').waitFor({ state: 'hidden' });
         await page.getByText('1 of 1 ready').waitFor();",
    )
    .await;
    page.close().await;
    drop(daemon);
}
