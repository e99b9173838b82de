//! From the words of a `[mcp_servers.NAME]` to a [`Server`]: which of the two kinds it is, whether its keys go
//! together, and its secrets put in place.
//!
//! What is wrong with the text is an error. What is wrong with the machine it runs on today, such as a variable that
//! is not set, is the server's own problem and leaves the others alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use trunkline_wire::ServerName;
use url::Url;

use crate::clients::{EnvVar, EraFile, ServerFile, TransportFile};
use crate::expose::Expose;
use crate::findings::Findings;
use crate::late::{Late, Place, UNSENDABLE, is_sendable};
use crate::listen::Listen;
use crate::oauth::{OAuth, OAuthFile};
use crate::secret::{Expanded, Resolver, Secret, is_likely, likely_in_args, likely_in_url, variable_shown};
use crate::server::{Caps, Connect, Declared, Http, HttpTransport, Server, Stdio};
use crate::sharing::Sharing;
use crate::tuning::Tuning;

/// Headers that belong to the connection or the protocol; one more value would break either.
const OWN_HEADERS: [&str; 13] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Checks all servers, in the order of the file; those that only the environment names follow, by name.
pub(crate) fn servers(
    mut files: BTreeMap<String, ServerFile>,
    listen: &Listen,
    resolver: &Resolver<'_>,
    findings: &mut Findings<'_>,
) -> Vec<(ServerName, Server)> {
    let mut order = findings.layers.servers_in_order();
    order.extend(files.keys().filter(|name| !order.contains(name)).cloned().collect::<Vec<_>>());
    let mut servers = Vec::with_capacity(order.len());
    for key in order {
        let Some(file) = files.remove(&key) else { continue };
        let path = ["mcp_servers", key.as_str()];
        let name = ServerName::new(&key).map_err(|problem| findings.error(&path, problem.to_string()));
        file.check_vocabulary(&key, findings);
        let mut tuning = Tuning::check(&key, &file, findings);
        let sharing = Sharing::check(&file, &mut tuning);
        let expose = Expose::check(&key, &file, findings);
        let mut block = Block {
            name: &key,
            file: &file,
            resolver,
            findings,
            problems: Vec::new(),
            secrets: Vec::new(),
            late: Vec::new(),
        };
        let connect = block.connect(listen);
        let Block { problems, secrets, late, .. } = block;
        let declared = Declared::check(&key, &file, resolver, findings);
        let late = (!late.is_empty()).then(|| {
            let env = resolver.env_of(&late.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>());
            Arc::new(Late { values: late, env, base: resolver.base.clone() })
        });
        if let (Ok(name), Some(connect)) = (name, connect) {
            let enabled = file.enabled.unwrap_or(true);
            let problem = (!problems.is_empty()).then(|| problems.join("; "));
            let era = file.era.and_then(EraFile::fixed);
            let server = Server { enabled, connect, era, sharing, declared, tuning, expose, problem, secrets, late };
            servers.push((name, server));
        }
    }
    servers
}

/// One server's block while it is checked.
struct Block<'a, 'b> {
    name: &'a str,
    file: &'a ServerFile,
    resolver: &'a Resolver<'a>,
    findings: &'a mut Findings<'b>,
    problems: Vec<String>,
    secrets: Vec<Secret>,
    late: Vec<(Place, String)>,
}

impl Block<'_, '_> {
    fn connect(&mut self, listen: &Listen) -> Option<Connect> {
        let transport = self.transport();
        match (&self.file.command, &self.file.url) {
            (Some(_), Some(_)) => {
                self.error("", "has both `command` and `url`; a server is reached by one of them");
                None
            }
            // A key that could not be read is missing here; its lack is no second fault.
            (None, None) if !self.sound() => None,
            (None, None) => {
                self.error("", "has neither `command` nor `url`; one of them says how the server is reached");
                None
            }
            (Some(command), None) => self.stdio(command, transport).map(Connect::Stdio),
            (None, Some(url)) => self.http(url, transport, listen).map(Connect::Http),
        }
    }

    /// `transport`, or `type` in its place.
    fn transport(&mut self) -> Option<TransportFile> {
        let (ours, theirs) = (self.file.transport, self.file.kind);
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
        {
            self.error("type", format!("says {}, and `transport` says {}", theirs.as_str(), ours.as_str()));
        }
        ours.or(theirs)
    }

    fn transport_key(&self) -> &'static str {
        if self.file.transport.is_some() { "transport" } else { "type" }
    }

    fn stdio(&mut self, command: &str, transport: Option<TransportFile>) -> Option<Stdio> {
        let file = self.file;
        if let Some(other @ (TransportFile::Http | TransportFile::Sse)) = transport {
            self.error(
                self.transport_key(),
                format!("{} needs a `url`; a `command` is spoken to by stdio", other.as_str()),
            );
        }
        let of_http = [
            ("bearer_token_env_var", file.bearer_token_env_var.is_some()),
            ("bearer_token", file.bearer_token.is_some()),
            ("http_headers", file.http_headers.is_some()),
            ("env_http_headers", file.env_http_headers.is_some()),
            ("ca_file", file.ca_file.is_some()),
            ("oauth", file.oauth.is_some()),
        ];
        self.refuse(&of_http, "belongs to a server with `url`; a child process gets its secrets by `env`");
        if file.limits.names_connect() {
            self.error("limits", "`connect_timeout_sec` belongs to a server with `url`");
        }
        if command.trim().is_empty() || command.contains('\0') {
            self.error("command", "names no program");
        }
        if is_own_program(command) && file.args.as_ref().and_then(|args| args.first()).is_none_or(|arg| arg != "__demo")
        {
            self.error("command", "is this program itself, which would start itself without end (R-34)");
        }
        if command.contains(' ') && file.args.is_none() && !std::path::Path::new(command).exists() {
            self.warn("command", "holds a space; it is one program's name, and its arguments belong into `args`");
        }

        let mut args = Vec::new();
        for text in file.args.iter().flatten() {
            let value = self.expand("args", text);
            if value.referred() {
                self.warn("args", "a secret in an argument is seen by every user of this machine; `env` hides it");
            }
            self.late(&value, Place::Arg(args.len()), text);
            args.push(self.text("args", value));
        }
        let mut env = BTreeMap::new();
        for (variable, text) in file.env.iter().flatten() {
            self.check_variable("env", variable);
            let value = self.expand("env", text);
            self.late(&value, Place::Env(variable.clone()), text);
            let value = self.text("env", value);
            if is_likely(variable, value.expose(), self.resolver) {
                self.secrets.push(value.clone());
            }
            env.insert(variable.clone(), value);
        }
        self.secrets.extend(likely_in_args(args.iter().map(Secret::expose), self.resolver));
        for variable in file.env_vars.iter().flatten() {
            self.check_variable("env_vars", variable.name());
            // One that is not set is passed on to nobody.
            let value = self.resolver.variable(variable.name()).ok();
            self.secrets.extend(value.filter(|value| is_likely(variable.name(), value.expose(), self.resolver)));
        }
        let env_vars = file.env_vars.iter().flatten().map(EnvVar::name).map(str::to_owned).collect();
        let cwd = file.cwd.as_deref().map(|path| self.resolver.path(path));
        let caps = Caps::check(self.name, &file.limits, self.findings);
        self.sound().then(|| Stdio { command: command.to_owned(), args, env, env_vars, cwd, caps })
    }

    fn http(&mut self, url: &str, transport: Option<TransportFile>, listen: &Listen) -> Option<Http> {
        let file = self.file;
        let of_stdio = [
            ("args", file.args.is_some()),
            ("env", file.env.is_some()),
            ("env_vars", file.env_vars.is_some()),
            ("cwd", file.cwd.is_some()),
        ];
        self.refuse(&of_stdio, "belongs to a server with `command`; one behind a `url` is sent `http_headers`");
        for (key, _) in file.limits.of_child().iter().filter(|(_, given)| *given) {
            self.error("limits", format!("`{key}` belongs to a server with `command`"));
        }
        let transport = match transport {
            None | Some(TransportFile::Auto) => HttpTransport::Auto,
            Some(TransportFile::Http) => HttpTransport::Http,
            Some(TransportFile::Sse) => HttpTransport::Sse,
            Some(TransportFile::Stdio) => {
                self.error(self.transport_key(), "stdio needs a `command`, not a `url`");
                HttpTransport::Auto
            }
        };
        if transport == HttpTransport::Sse && file.era == Some(EraFile::Modern) {
            self.error("era", "modern servers are reached by streamable HTTP, and `transport` says sse");
        }
        let url = self.url(url, listen);
        let (bearer, bearer_source) = self.bearer();
        let headers = self.headers(bearer.is_some() || bearer_source.is_some());
        let ca_file = file.ca_file.as_deref().map(|path| self.resolver.path(path));
        if let Some(url) = &url
            && url.scheme() == "http"
            && !is_loopback(url)
            && (bearer.is_some() || !headers.is_empty())
        {
            self.warn("url", "is not encrypted: its token or headers can be read on the way; use https");
        }
        let oauth = self.oauth();
        let http = url.map(|url| Http { url, transport, bearer, bearer_source, headers, ca_file, oauth });
        http.filter(|_| self.sound())
    }

    /// As whom to sign in, if the server wants that.
    fn oauth(&mut self) -> OAuth {
        let file = self.file.oauth.clone().unwrap_or_default();
        let scopes = self.file.scopes.clone().unwrap_or_default();
        if scopes.iter().any(|scope| scope.is_empty() || !scope.bytes().all(|byte| byte.is_ascii_graphic())) {
            self.error("scopes", "holds one that is empty, or has a space or another character that no scope has");
        }
        if file.client_id.as_ref().is_some_and(|id| id.is_empty() || id.contains(char::is_control)) {
            self.error("oauth.client_id", "is empty, or holds a control character");
        }
        if file.client_secret.is_some() && file.client_id.is_none() {
            self.error("oauth.client_secret", "needs the `client_id` that it belongs to");
        }
        let client_secret = file.client_secret.as_deref().and_then(|text| {
            let value = self.expand("oauth.client_secret", text);
            self.not_here("oauth.client_secret", &value);
            let referred = value.referred();
            if !referred {
                self.warn(
                    "oauth.client_secret",
                    "stands in the file in plain text; safer is `${env:NAME}` or `${file:PATH}`",
                );
            }
            let secret = self.text("oauth.client_secret", value);
            self.header_value("oauth.client_secret", secret, referred)
        });
        let client_metadata_url = file.client_metadata_url.as_deref().and_then(|text| {
            let url = Url::parse(text).ok().filter(|url| url.scheme() == "https" && url.path() != "/");
            if url.is_none() {
                self.error("oauth.client_metadata_url", "is no https address with a path");
            }
            url
        });
        if file.client_credentials && (file.client_id.is_none() || file.client_secret.is_none()) {
            self.error("oauth.client_credentials", "needs the `client_id` and the `client_secret` to sign in with");
        }
        if file.callback_port == Some(0) {
            self.error("oauth.callback_port", "is no port that a browser could come back to");
        }
        let OAuthFile { client_id, assume_pkce, client_credentials, callback_port, .. } = file;
        OAuth { client_id, client_secret, client_metadata_url, assume_pkce, client_credentials, callback_port, scopes }
    }

    fn url(&mut self, text: &str, listen: &Listen) -> Option<Url> {
        let value = self.expand("url", text);
        self.not_here("url", &value);
        let referred = value.referred();
        let text = self.text("url", value);
        let url = match Url::parse(text.expose()) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => url,
            // The scheme is not named where a reference may have brought it in.
            Ok(url) => {
                let scheme = if referred { String::new() } else { format!(" `{}`", url.scheme()) };
                self.error_with_hint("url", format!("has a scheme{scheme} that is not spoken here"), SCHEMES);
                return None;
            }
            Err(problem) => {
                self.error_with_hint("url", format!("is no URL: {problem}"), SCHEMES);
                return None;
            }
        };
        // Where there is no such file, names lead here by other ways, and the hop counter is left.
        if listen.is_own(&url, &std::fs::read_to_string("/etc/hosts").unwrap_or_default()) {
            self.error_with_hint(
                "url",
                format!("is Trunkline's own address (port {}), which would call itself without end", listen.port),
                "this is the URL for clients; servers are listed here with their own addresses",
            );
        }
        self.secrets.extend(likely_in_url(&url));
        Some(url)
    }

    /// The token and where it comes from.
    fn bearer(&mut self) -> (Option<Secret>, Option<String>) {
        let file = self.file;
        match (&file.bearer_token_env_var, &file.bearer_token) {
            (Some(_), Some(_)) => {
                self.error("bearer_token", "is given beside `bearer_token_env_var`; keep that one");
                (None, None)
            }
            (Some(variable), None) => {
                self.check_variable("bearer_token_env_var", variable);
                let token = match self.resolver.variable(variable) {
                    Ok(token) => self.header_value("bearer_token_env_var", token, true),
                    Err(sentence) => {
                        self.problems.push(format!("bearer_token_env_var: {sentence}"));
                        None
                    }
                };
                (token, Some(variable_shown(variable)))
            }
            (None, Some(text)) => {
                let value = self.expand("bearer_token", text);
                self.late(&value, Place::Bearer, text);
                let referred = value.referred();
                if !referred {
                    self.warn(
                        "bearer_token",
                        "stands in the file in plain text; safer is bearer_token_env_var = \"NAME\", with the token \
                         in that variable",
                    );
                }
                let token = self.text("bearer_token", value);
                (self.header_value("bearer_token", token, referred), Some("bearer_token".to_owned()))
            }
            (None, None) => (None, None),
        }
    }

    fn headers(&mut self, has_bearer: bool) -> Vec<(String, Secret)> {
        let file = self.file;
        let mut headers: Vec<(String, Secret)> = Vec::new();
        for (header, text) in file.http_headers.iter().flatten() {
            let value = self.expand("http_headers", text);
            self.late(&value, Place::Header(header.clone()), text);
            let referred = value.referred();
            let value = self.text("http_headers", value);
            if self.check_header("http_headers", header, has_bearer, &headers) {
                headers.extend(self.header_value("http_headers", value, referred).map(|value| (header.clone(), value)));
            }
        }
        for (header, variable) in file.env_http_headers.iter().flatten() {
            self.check_variable("env_http_headers", variable);
            if !self.check_header("env_http_headers", header, has_bearer, &headers) {
                continue;
            }
            match self.resolver.variable(variable) {
                Ok(value) => headers
                    .extend(self.header_value("env_http_headers", value, true).map(|value| (header.clone(), value))),
                Err(sentence) => self.problems.push(format!("env_http_headers: {sentence}")),
            }
        }
        headers
    }

    fn check_header(&mut self, key: &str, header: &str, has_bearer: bool, before: &[(String, Secret)]) -> bool {
        let folded = header.to_ascii_lowercase();
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let problem = if header.is_empty() || !header.chars().all(token) {
            "is no name of a header"
        } else if OWN_HEADERS.contains(&folded.as_str()) {
            "is set by Trunkline itself"
        } else if folded == "authorization" && has_bearer {
            "is given beside a bearer token, which is sent in this header"
        } else if before.iter().any(|(other, _)| other.eq_ignore_ascii_case(header)) {
            "is given twice"
        } else {
            return true;
        };
        self.findings.error(&["mcp_servers", self.name, key, header], problem);
        false
    }

    /// A value that a header can carry. One that was referred to is the machine's problem, not the file's.
    fn header_value(&mut self, key: &str, value: Secret, referred: bool) -> Option<Secret> {
        if is_sendable(&value) {
            self.secrets.push(value.clone());
            return Some(value);
        }
        if referred {
            self.problems.push(format!("{key}: {UNSENDABLE}"));
        } else {
            self.error(key, UNSENDABLE);
        }
        None
    }

    fn check_variable(&mut self, key: &str, variable: &str) {
        if variable.is_empty() || variable.contains(['=', '\0']) {
            self.error(key, "has a name that no environment variable can have");
        } else if key.contains("env_") && !variable.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            // Not quoted: it is most likely the token itself.
            self.error(key, "wants the name of a variable, of letters, digits and `_`, not its value");
        }
    }

    fn refuse(&mut self, keys: &[(&str, bool)], why: &str) {
        for (key, _) in keys.iter().filter(|(_, given)| *given) {
            self.error(key, why);
        }
    }

    fn expand(&mut self, key: &str, text: &str) -> Expanded {
        let value = self.resolver.expand(text);
        if let Some(problem) = value.malformed {
            self.error(key, problem);
        }
        value
    }

    /// Notes a value that each start of the server looks up anew.
    fn late(&mut self, value: &Expanded, place: Place, text: &str) {
        if value.late {
            self.late.push((place, text.to_owned()));
        }
    }

    /// Refuses a program in a value that no start looks up.
    fn not_here(&mut self, key: &str, value: &Expanded) {
        if value.unprinted {
            self.error(
                key,
                "${cmd:…} and ${keyring:…} are for `args`, `env`, `http_headers` and `bearer_token` only; ${file:…} and \
                             ${env:…} go here",
            );
        }
    }

    /// Takes the text of a value, and notes what its references brought in or did not find.
    fn text(&mut self, key: &str, value: Expanded) -> Secret {
        if value.text.contains('\0') {
            self.error(key, "holds a NUL character");
        }
        self.secrets.extend(value.brought);
        self.problems.extend(value.missing.into_iter().map(|sentence| format!("{key}: {sentence}")));
        Secret::new(value.text)
    }

    fn sound(&self) -> bool {
        !self.findings.has_error_in(&["mcp_servers", self.name])
    }

    fn error(&mut self, key: &str, problem: impl Into<String>) {
        let path = ["mcp_servers", self.name, key];
        self.findings.error(if key.is_empty() { &path[..2] } else { &path }, problem);
    }

    fn error_with_hint(&mut self, key: &str, problem: impl Into<String>, hint: &str) {
        self.findings.error_with_hint(&["mcp_servers", self.name, key], problem, hint);
    }

    fn warn(&mut self, key: &str, text: &str) {
        let warning = format!("mcp_servers.{}.{key}: {text}", self.name);
        if !self.findings.warnings.contains(&warning) {
            self.findings.warnings.push(warning);
        }
    }
}

const SCHEMES: &str = "an address begins with http:// or https://";

/// Whether a command is this program: by its name, or because the path leads to the running file.
fn is_own_program(command: &str) -> bool {
    let path = std::path::Path::new(command);
    let same_file = || {
        let canonical = |path: &std::path::Path| std::fs::canonicalize(path).ok();
        path.is_absolute()
            && std::env::current_exe()
                .ok()
                .and_then(|own| canonical(&own))
                .is_some_and(|own| canonical(path) == Some(own))
    };
    path.file_stem().is_some_and(|name| name == "trunkline") || same_file()
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}
