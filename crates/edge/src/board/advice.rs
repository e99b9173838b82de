//! What is wrong, and what to do about it: for the top of the dashboard.
//!
//! The sentence that says what was seen is the supervisor's; here stands what helps, by state and by what was seen, and the
//! command or the button that does it. Each of the failures that people report most leads to its own next step. A server
//! that is merely on its way, asleep or switched off is not wrong.

use serde::Serialize;
use trunkline_config::{Connect, Server};

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Trouble {
    /// The server it concerns; none: the daemon.
    pub(super) server: Option<String>,
    /// `error`: calls fail; `warning`: they may.
    pub(super) level: &'static str,
    /// What was seen.
    pub(super) says: String,
    /// What helps.
    pub(super) advice: String,
    /// The command that does it or says more.
    pub(super) command: Option<String>,
    /// What the dashboard itself can do: `login` or `restart`.
    pub(super) action: Option<&'static str>,
}

/// How a server stands, as far as advice goes by it.
pub(super) struct Case<'a> {
    pub(super) name: &'a str,
    pub(super) state: &'static str,
    /// The supervisor's sentence.
    pub(super) says: Option<&'a str>,
    /// What was seen last; a server that starts for the first time has seen nothing.
    pub(super) cause: Option<&'a str>,
    pub(super) server: &'a Server,
    /// The gateway can sign in to it.
    pub(super) signs_in: bool,
}

/// Says what is wrong with a server; `None` if nothing is.
pub(super) fn of_server(of: &Case<'_>) -> Option<Trouble> {
    let word = shell_word(of.name);
    let block = format!("`[mcp_servers.{}]`", of.name);
    let cause = of.cause.unwrap_or_default();
    let is_child = matches!(of.server.connect, Connect::Stdio(_));
    let command = |verb: &str| Some(format!("trunkline {verb} {word}"));
    let check = || Some("trunkline check".to_owned());
    let (level, advice, command, action) = match of.state {
        "needs_auth" if of.signs_in => (
            "error",
            format!("Sign in once, for all clients; or, if it takes a key, set `bearer_token_env_var` in {block}."),
            command("login"),
            Some("login"),
        ),
        "needs_auth" => (
            "error",
            format!("Put a valid key where the configuration names it, in {block}; the change is taken up by itself."),
            check(),
            None,
        ),
        "misconfigured" if cause.contains("405") => (
            "error",
            format!(
                "It listens there, but not for this transport: set `transport = \"sse\"` or `transport = \"http\"` in \
                 {block}, or correct `url`."
            ),
            check(),
            Some("restart"),
        ),
        "misconfigured" => {
            let keys = if is_child { "`command`, `args` or `env`" } else { "`url` or `transport`" };
            ("error", format!("Correct {keys} in {block}; the change is taken up by itself."), check(), Some("restart"))
        }
        "open" if is_child => (
            "error",
            "Read what it wrote before it ended, mend that, and restart it.".to_owned(),
            command("logs"),
            Some("restart"),
        ),
        "backoff" | "open" | "probing" | "starting" if !cause.is_empty() => {
            let (advice, verb) = away(cause, is_child, &block);
            ("error", advice, command(verb), Some("restart"))
        }
        "suspect" => ("warning", "It is being probed; if it stays silent it is connected anew.".to_owned(), None, None),
        _ => return None,
    };
    let says = of.says.unwrap_or(cause);
    // The server stands beside the sentence.
    let says = says.strip_prefix(&format!("server `{}` ", of.name)).unwrap_or(says).to_owned();
    Some(Trouble { server: Some(of.name.to_owned()), level, says, advice, command, action })
}

/// What helps against what was seen of a server that is away, and the command that says more.
fn away(cause: &str, is_child: bool, block: &str) -> (String, &'static str) {
    let by_itself = "it is connected by itself then";
    let too_slow = cause.contains("startup_timeout_sec") || cause.contains("no connection within");
    let text = if too_slow && is_child {
        format!(
            "It takes longer to start than it may: raise `startup_timeout_sec` in {block}, or run its command once by \
             hand, so that what it downloads is there."
        )
    } else if cause.contains("desktop app") {
        format!("Switch the MCP server on in the desktop app; {by_itself}.")
    } else if cause.contains("nothing listens") {
        format!("Start the program behind `url` in {block}; {by_itself}.")
    } else if cause.contains("ertificate") {
        format!("Trust who issued it, by `ca_file` in {block}, or correct `url`.")
    } else if cause.contains("PROXY") {
        "Correct that variable where the daemon is started, or list the host in `NO_PROXY`.".to_owned()
    } else if is_child {
        "Run its command by hand to see whether it speaks MCP on standard output; what it wrote to standard error is in \
         its log."
            .to_owned()
    } else {
        format!("It is tried again by itself; restart it to have it tried now, or look at `url` in {block}.")
    };
    (text, if is_child { "logs" } else { "restart" })
}

/// What is wrong with the configuration, if its file is not in force as it is now.
pub(super) fn of_configuration(error: &str) -> Trouble {
    Trouble {
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
pub(super) fn of_installation(warning: &str) -> Trouble {
    let advice = if warning.contains("limits.memory_bytes") {
        "Raise the bound, or find the server whose answers are that large, among the last calls."
    } else if warning.contains("disk") {
        "Make room on the disk of the state directory before the daemon is restarted."
    } else {
        "Nothing has to be done while no other people use this machine; else set `auth.tokens`."
    };
    Trouble {
        server: None,
        level: "warning",
        says: warning.to_owned(),
        advice: advice.to_owned(),
        command: Some("trunkline status".to_owned()),
        action: None,
    }
}

/// The name as one word of a shell.
fn shell_word(name: &str) -> String {
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
