//! `trunkline add`: a server is tried, and then written into the configuration.
//!
//! It is tried as the daemon would run it, guarded and with the daemon's own state machine, but beside it and for a moment:
//! what was found out is said in one line, and nothing of it is left. A server that cannot be used is not written, unless
//! it only wants a sign-in. What comes out of a server is shown without what could move a terminal's cursor.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use toml_edit::{Array, Formatted, InlineTable, Item, Table, Value, value};
use trunkline_config::{Config, Limits, Server, Sources, Start, Tuning};
use trunkline_signin::SignIn;
use trunkline_telemetry::{Journal, Metrics};
use trunkline_upstream::{Environment, Fleet, GuardProgram, ServerNotice, Shelf, Status, Upstream};
use trunkline_wire::{Budget, Object, ServerName};

use crate::cli::Add;
use crate::edit::{change, insert, shown};
use crate::exit::Failure;
use crate::render;
use crate::stateful;

/// How long a server may take before it has said anything: a package may have to be fetched first.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long its lists may take after that.
const LISTS: Duration = Duration::from_secs(5);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// After this somebody who waits is told what for.
const SILENCE: Duration = Duration::from_secs(3);

/// Tries a server and writes it.
pub(crate) fn run(add: &Add, sources: &Sources) -> Result<String, Failure> {
    let name = ServerName::new(&add.name)
        .map_err(|error| Failure::usage(format!("`{}` is no name for a server: {error}", render::field(&add.name))))?;
    let block = block(add).map_err(Failure::usage)?;
    let (mut found, mut hint) = (None, None);
    let path = change(sources, &|document| insert(document, &add.name, block.clone()), &mut |config| {
        let own = config.servers.iter().find(|(known, _)| *known == name);
        hint = own.and_then(|(_, server)| stateful::hint(name.as_str(), server));
        if found.is_none() && !add.untried {
            found = Some(tried(&name, config, &sources.env)?);
        }
        Ok(())
    })?;
    let written = format!("{name} stands in {} now; a running daemon takes it up by itself", shown(&path));
    Ok(found.into_iter().chain([written]).chain(hint).collect::<Vec<_>>().join("\n"))
}

/// The block as it will stand in the file.
fn block(add: &Add) -> Result<Table, String> {
    let mut block = Table::new();
    match (&add.url, add.command.split_first()) {
        (Some(url), None) => {
            block.insert("url", value(url));
            if let Some(transport) = &add.transport {
                block.insert("transport", value(transport));
            }
            if let Some(variable) = &add.bearer_env {
                block.insert("bearer_token_env_var", value(variable));
            }
            if !add.header.is_empty() {
                block.insert("http_headers", pairs("--header", &add.header)?);
            }
        }
        (None, Some((command, args))) => {
            block.insert("command", value(command));
            if !args.is_empty() {
                block.insert("args", value(args.iter().collect::<Array>()));
            }
            if let Some(directory) = &add.cwd {
                block.insert("cwd", value(directory.display().to_string()));
            }
        }
        (Some(_), Some(_)) => {
            return Err("a server has an address (`--url`) or a command (after `--`), not both".into());
        }
        (None, None) => {
            return Err(
                "where is the server? Either `--url ADDRESS`, or its command after `--`: trunkline add git -- \
                        npx -y some-server"
                    .into(),
            );
        }
    }
    if !add.env.is_empty() {
        if add.url.is_some() {
            return Err("`--env` is for a command; an address takes `--header`".into());
        }
        block.insert("env", pairs("--env", &add.env)?);
    }
    Ok(block)
}

/// An inline table of `KEY=VALUE`.
fn pairs(flag: &str, written: &[String]) -> Result<Item, String> {
    let mut table = InlineTable::new();
    for pair in written {
        // Not quoted: it may hold a secret.
        let (key, text) = pair.split_once('=').ok_or_else(|| format!("`{flag}` wants KEY=VALUE"))?;
        if key.is_empty() || table.insert(key, Value::String(Formatted::new(text.to_owned()))).is_some() {
            return Err(format!("`{flag}` wants KEY=VALUE, each key once"));
        }
    }
    Ok(value(table))
}

/// Says what was found out about the server `name` of this configuration.
fn tried(name: &ServerName, config: Config, env: &[(String, String)]) -> Result<String, Failure> {
    let Some((_, server)) = config.servers.into_iter().find(|(known, _)| known == name) else {
        return Err(Failure::failed(format!("{name} could not be read")));
    };
    if let Some(problem) = &server.problem {
        return Err(untried(name, problem));
    }
    let server = Server { enabled: true, tuning: Tuning { start: Start::Eager, ..server.tuning }, ..server };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(look(name, server, config.limits, env.to_vec()));
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

/// Where servers are tried: nothing of it is kept or shown. What they say unasked goes to the second part, which nobody needs to
/// read: a full queue is as good as a read one.
pub(crate) fn trial(
    limits: Limits,
    signin: Option<SignIn>,
    inherited: Vec<(String, String)>,
) -> Result<(Environment, mpsc::Receiver<ServerNotice>), Failure> {
    let guard = GuardProgram::this_binary().map_err(|error| Failure::failed(error.to_string()))?;
    let (notices, unread) = mpsc::channel(1);
    let environment = Environment {
        metrics: Metrics::new(),
        journal: Arc::new(Journal::new()),
        budget: Budget::new(limits.buffer_bytes),
        limits,
        notices,
        guard,
        shelf: Shelf::none(),
        signin,
        inherited,
    };
    Ok((environment, unread))
}

/// Starts the server, sees what becomes of it, and ends it.
async fn look(
    name: &ServerName,
    server: Server,
    limits: Limits,
    inherited: Vec<(String, String)>,
) -> Result<String, Failure> {
    let (environment, _unread) = trial(limits, None, inherited)?;
    let fleet = Fleet::start(&[(name.clone(), server)], environment);
    let outcome = match fleet.get(name.as_str()) {
        Some(upstream) => seen(&upstream).await,
        None => Err("it did not start".to_owned()),
    };
    fleet.stop().await;
    outcome.map_err(|why| untried(name, &why))
}

/// What became of the server, in a line; or why it cannot be used.
async fn seen(upstream: &Upstream) -> Result<String, String> {
    let (name, begun) = (upstream.name(), Instant::now());
    let mut told = false;
    loop {
        let status = upstream.status();
        match status.state {
            "ready" => break,
            "needs_auth" => return Ok(format!("{name} wants a sign-in, which is made by: trunkline login {name}")),
            // It would be tried again and again; whoever adds it wants to know now.
            "backoff" | "open" | "misconfigured" => return Err(status.reason.unwrap_or_default()),
            _ if begun.elapsed() > PATIENCE => {
                return Err(format!("it has said nothing for {} s", PATIENCE.as_secs()));
            }
            _ => {}
        }
        if !told && begun.elapsed() > SILENCE {
            told = true;
            eprintln!("{name} is starting; a package that has to be fetched first takes a while…");
        }
        sleep(LOOK).await;
    }
    let listed = async {
        while !upstream.ever_ready() || upstream.status().stale || !has_lists(&upstream.status()) {
            sleep(LOOK).await;
        }
    };
    // A server may have nothing to list.
    let _ = timeout(LISTS, listed).await;
    Ok(summary(name, &upstream.status()))
}

fn has_lists(status: &Status) -> bool {
    status.tools + status.prompts + status.resources + status.templates > 0
}

fn summary(name: &ServerName, status: &Status) -> String {
    let own = status.identity.as_ref().and_then(|identity| Object::parse(identity).ok());
    let own = |key| own.as_ref().and_then(|own| own.get_str(key)).map(|text| render::field(&text));
    let called = match (own("name"), own("version")) {
        (Some(name), Some(version)) => format!("{name} {version}, "),
        (Some(name), None) => format!("{name}, "),
        (None, _) => String::new(),
    };
    let revision = status.revision.map_or("an unknown revision", trunkline_wire::Revision::as_str);
    let counts =
        [("tool", status.tools), ("prompt", status.prompts), ("resource", status.resources + status.templates)];
    let counts: Vec<String> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(noun, count)| render::counted(*count, noun)).collect();
    let offers = if counts.is_empty() { "nothing yet".to_owned() } else { counts.join(", ") };
    format!("{name} answers: {called}{revision} over {}; it offers {offers}", status.transport.unwrap_or("?"))
}

fn untried(name: &ServerName, why: &str) -> Failure {
    let text =
        format!("{name} cannot be used as it is, so nothing was written (`--untried` writes it all the same): {why}");
    Failure::failed(render::safe(&text))
}
