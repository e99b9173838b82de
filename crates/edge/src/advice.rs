//! What is wrong, and what to do about it: one table for the top of the dashboard and for `trunkline doctor`.
//!
//! The sentence that says what was seen is the supervisor's; here stands what helps, by state and by what was seen, and the
//! command or the button that does it. Each of the failures that people report most leads to its own next step. A server
//! that is merely on its way, asleep or switched off is not wrong.
//!
//! Each kind of trouble has a code that stays the same whatever its sentences become, for scripts and for `docs/errors.md`,
//! which has a paragraph for each.

use serde::Serialize;
use trunkline_config::{Connect, Server};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Which kind of trouble it is, in one word.
    pub code: &'static str,
    /// The server it concerns; none: the daemon.
    pub server: Option<String>,
    /// `error`: calls fail; `warning`: they may.
    pub level: &'static str,
    /// What was seen.
    pub says: String,
    /// What helps.
    pub advice: String,
    /// The command that does it or says more.
    pub command: Option<String>,
    /// What the dashboard itself can do: `login` or `restart`.
    pub action: Option<&'static str>,
}

/// How a server stands, as far as advice goes by it.
pub struct Case<'a> {
    /// Its name in the configuration.
    pub name: &'a str,
    /// The name of its state.
    pub state: &'static str,
    /// The supervisor's sentence.
    pub says: Option<&'a str>,
    /// What was seen last; a server that starts for the first time has seen nothing.
    pub cause: Option<&'a str>,
    /// How it is configured.
    pub server: &'a Server,
    /// The gateway can sign in to it.
    pub signs_in: bool,
}

/// Says what is wrong with a server; `None` if nothing is.
pub fn of_server(of: &Case<'_>) -> Option<Trouble> {
    let word = shell_word(of.name);
    let block = format!("`[mcp_servers.{}]`", of.name);
    let cause = of.cause.unwrap_or_default();
    let is_child = matches!(of.server.connect, Connect::Stdio(_));
    let command = |verb: &str| Some(format!("trunkline {verb} {word}"));
    let check = || Some("trunkline check".to_owned());
    let (code, level, advice, command, action) = match of.state {
        "needs_auth" if of.signs_in => (
            "TL-SIGN-IN",
            "error",
            format!("Sign in once, for all clients; or, if it takes a key, set `bearer_token_env_var` in {block}."),
            command("login"),
            Some("login"),
        ),
        "needs_auth" => (
            "TL-KEY",
            "error",
            format!("Put a valid key where the configuration names it, in {block}; the change is taken up by itself."),
            check(),
            None,
        ),
        "misconfigured" if of.server.problem.is_some() => (
            "TL-SECRET",
            "error",
            format!(
                "Put what is named in place where the daemon is started, and restart the daemon; or name another source in \
                 {block}."
            ),
            check(),
            None,
        ),
        "misconfigured" if cause.contains("405 ") && !is_child => (
            "TL-TRANSPORT",
            "error",
            format!(
                "It listens there, but not for this transport: set `transport = \"sse\"` or `transport = \"http\"` in \
                 {block}, or correct `url`."
            ),
            check(),
            Some("restart"),
        ),
        "misconfigured" => {
            let (code, keys) = if is_child {
                ("TL-COMMAND", "`command`, `args` or `env`")
            } else {
                ("TL-ADDRESS", "`url` or `transport`")
            };
            let advice = format!("Correct {keys} in {block}; the change is taken up by itself.");
            (code, "error", advice, check(), Some("restart"))
        }
        "open" if is_child => (
            "TL-EXITS",
            "error",
            "Read what it wrote before it ended, mend that, and restart it.".to_owned(),
            command("logs"),
            Some("restart"),
        ),
        "backoff" | "open" | "probing" | "starting" if !cause.is_empty() => {
            let (code, advice) = away(cause, is_child, &block);
            (code, "error", advice, command(if is_child { "logs" } else { "restart" }), Some("restart"))
        }
        "suspect" => (
            "TL-SILENT",
            "warning",
            "It is being probed; if it stays silent it is connected anew.".to_owned(),
            None,
            None,
        ),
        _ => return None,
    };
    let says = of.says.unwrap_or(cause);
    // The server stands beside the sentence.
    let says = says.strip_prefix(&format!("server `{}` ", of.name)).unwrap_or(says).to_owned();
    Some(Trouble { code, server: Some(of.name.to_owned()), level, says, advice, command, action })
}

/// What helps against what was seen of a server that is away. The words looked for are those of the sentences in
/// `upstream`; the black-box tests of the doctor hold the two together.
fn away(cause: &str, is_child: bool, block: &str) -> (&'static str, String) {
    let by_itself = "it is connected by itself then";
    // What a child said is its own affair: a certificate that npx does not trust is none of a `url`.
    let (cause, words) = cause.split_once("; its last words").unwrap_or((cause, ""));
    if is_child && cause.contains("it wrote to standard output what is no message") {
        let text = format!(
            "It starts, and is no MCP server as it is started: look for the argument that makes it one, or for a package of \
             another name, since many are only for the command line, and correct `command` or `args` in {block}. If it is \
             one, have it log to standard error, or be quiet; if it is only slow after a banner, raise \
             `startup_timeout_sec`."
        );
        return ("TL-STDOUT", text);
    }
    let too_slow = cause.contains("startup_timeout_sec") || cause.contains("no connection within");
    if too_slow && is_child {
        let text = format!(
            "It takes longer to start than it may: raise `startup_timeout_sec` in {block}, or run its command once by \
             hand, so that what it downloads is there."
        );
        ("TL-SLOW", text)
    } else if cause.contains("desktop app") {
        ("TL-APP-OFF", format!("Switch the MCP server on in the desktop app; {by_itself}."))
    } else if cause.contains("cannot be resolved") {
        ("TL-DNS", format!("Correct the name in `url` of {block}, or look whether this machine is online."))
    } else if cause.contains("nothing listens") {
        ("TL-REFUSED", format!("Start the program behind `url` in {block}; {by_itself}."))
    } else if cause.contains("ertificate") {
        ("TL-TLS", format!("Trust who issued it, by `ca_file` in {block}, or correct `url`."))
    } else if cause.contains("TLS") {
        ("TL-TLS", format!("Correct `url` in {block}: `http:` and `https:` are not the same there."))
    } else if cause.contains("PROXY") {
        let text = "Correct that variable where the daemon is started, or list the host in `NO_PROXY`.";
        ("TL-PROXY", text.to_owned())
    } else if is_child && words.contains("ertificate") {
        let text = format!(
            "What it downloads or asks is not trusted: give it the authority of your network by `env` in {block}, in \
             `NODE_EXTRA_CA_CERTS` for Node.js, in `SSL_CERT_FILE` for Python."
        );
        ("TL-STDIO", text)
    } else if is_child {
        let text = "Run its command by hand to see whether it speaks MCP on standard output; what it wrote to standard \
                    error is in its log.";
        ("TL-STDIO", text.to_owned())
    } else if too_slow {
        let text = format!("It is tried again by itself; if it is only slow, raise `startup_timeout_sec` in {block}.");
        ("TL-SLOW", text)
    } else {
        let text =
            format!("It is tried again by itself; restart it to have it tried now, or look at `url` in {block}.");
        ("TL-AWAY", text)
    }
}

/// What is wrong with the configuration, if its file is not in force as it is now.
pub fn of_configuration(error: &str) -> Trouble {
    Trouble {
        code: "TL-CONFIG-NOT-IN-FORCE",
        server: None,
        level: "error",
        says: format!("the configuration was changed and is not in force: {error}"),
        advice: "Mend what is named; the file is read again by itself. Until then everything goes on as before."
            .to_owned(),
        command: Some("trunkline check".to_owned()),
        action: None,
    }
}

/// A warning about the installation.
pub fn of_installation(warning: &str) -> Trouble {
    let (code, advice) = if warning.contains("limits.memory_bytes") {
        ("TL-MEMORY", "Raise the bound, or find the server whose answers are that large, among the last calls.")
    } else if warning.contains("not as pinned") {
        (
            "TL-PINS",
            "What its tools say of themselves is not what was seen first. If you expect that, take it; if not, ask whoever \
             makes the server before you use them.",
        )
    } else if warning.contains("audit file") {
        ("TL-AUDIT", "See to the file that `audit.file` names: its directory, its owner, the room on its disk.")
    } else if warning.contains("file descriptor") {
        ("TL-DESCRIPTORS", "Raise the limit and start the daemon anew, or close clients that are not needed.")
    } else if warning.contains("limits.connections") {
        ("TL-CONNECTIONS", "Close clients that are not needed, or raise `limits.connections`.")
    } else if warning.contains("disk") {
        ("TL-DISK", "Make room on the disk of the state directory before the daemon is restarted.")
    } else {
        ("TL-PEERS", "Nothing has to be done while no other people use this machine; else set `auth.tokens`.")
    };
    let command = if code == "TL-PINS" { "trunkline pins diff" } else { "trunkline status" };
    Trouble {
        code,
        server: None,
        level: "warning",
        says: warning.to_owned(),
        advice: advice.to_owned(),
        command: Some(command.to_owned()),
        action: None,
    }
}

/// A name or path as one word of a shell.
pub fn shell_word(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@' | ':');
    if !name.is_empty() && !name.starts_with('-') && name.chars().all(plain) {
        return name.to_owned();
    }
    let dashes = if name.starts_with('-') { "-- " } else { "" };
    format!("{dashes}'{}'", name.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use trunkline_config::{Http, Stdio};

    use super::*;

    fn child() -> Server {
        Server::new(Connect::Stdio(Stdio::new("npx", [])))
    }

    fn web() -> Server {
        Server::new(Connect::Http(Http::new("http://127.0.0.1:1/sse".parse().expect("a URL"))))
    }

    fn trouble(server: &Server, state: &'static str, cause: Option<&str>, signs_in: bool) -> Option<Trouble> {
        let says = cause.map(|cause| format!("server `it` is away: {cause}"));
        of_server(&Case { name: "it", state, says: says.as_deref(), cause, server, signs_in })
    }

    #[test]
    fn what_a_child_says_of_certificates_is_no_matter_of_a_url() {
        let cause = "exited with 1; its last words: self-signed certificate in certificate chain";
        let told = trouble(&child(), "backoff", Some(cause), false).expect("trouble");
        assert!(told.advice.contains("NODE_EXTRA_CA_CERTS") && !told.advice.contains("ca_file"), "{}", told.advice);
        let other = "404 Not Found from http://127.0.0.1:4050/mcp";
        assert_eq!(trouble(&web(), "misconfigured", Some(other), false).expect("trouble").code, "TL-ADDRESS");
    }

    #[test]
    fn what_people_report_most_leads_to_its_next_step() {
        for (server, state, cause, signs_in, advice, command, action) in [
            (web(), "needs_auth", "401", true, "Sign in once", "trunkline login it", Some("login")),
            (web(), "needs_auth", "401", false, "valid key", "trunkline check", None),
            (
                web(),
                "misconfigured",
                "405 Method Not Allowed from",
                false,
                "transport",
                "trunkline check",
                Some("restart"),
            ),
            (
                web(),
                "backoff",
                "503 from …; is the desktop app's MCP server switched on?",
                false,
                "Switch the MCP server on",
                "trunkline restart it",
                Some("restart"),
            ),
            (
                child(),
                "backoff",
                "started, but did not answer `initialize` within 30 s; …, raise `startup_timeout_sec` in …",
                false,
                "startup_timeout_sec",
                "trunkline logs it",
                Some("restart"),
            ),
            (
                child(),
                "backoff",
                "did not answer `initialize` within 30 s; it wrote to standard output what is no message of MCP: usage",
                false,
                "have it log to standard error",
                "trunkline logs it",
                Some("restart"),
            ),
            (child(), "open", "the process exited", false, "Read what it wrote", "trunkline logs it", Some("restart")),
            (
                child(),
                "backoff",
                "the process exited with status 1; its last words: banner",
                false,
                "speaks MCP on standard output",
                "trunkline logs it",
                Some("restart"),
            ),
        ] {
            let told = trouble(&server, state, Some(cause), signs_in).expect("it is wrong");
            assert!(told.advice.contains(advice), "{cause}: {}", told.advice);
            assert_eq!((told.command.as_deref(), told.action), (Some(command), action), "{cause}");
            assert_eq!(told.says, format!("is away: {cause}"));
        }
    }

    #[test]
    fn what_is_on_its_way_asleep_or_switched_off_is_not_wrong() {
        for state in ["ready", "idle", "disabled", "starting", "handshake", "draining", "stopped"] {
            assert_eq!(trouble(&child(), state, None, false), None, "{state}");
        }
        assert!(trouble(&child(), "starting", Some("the process exited"), false).is_some(), "it was away before");
    }

    #[test]
    fn a_name_is_one_word_of_the_command() {
        assert_eq!(shell_word("git"), "git");
        assert_eq!(shell_word("my server"), "'my server'");
        assert_eq!(shell_word("it's; rm"), r"'it'\''s; rm'");
        assert_eq!(shell_word("-x"), "-- '-x'");
    }
}
