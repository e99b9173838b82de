//! The files of the service, made of those in `deploy/`: one source for who installs by hand and who does not.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use trunkline_config::{Listen, Sources};

use super::path;
use super::path::Captured;
use crate::exit::Failure;

const SERVICE: &str = include_str!("../../../deploy/systemd/trunkline.service");
const SOCKET: &str = include_str!("../../../deploy/systemd/trunkline.socket");
const PLIST: &str = include_str!("../../../deploy/launchd/org.trunkline.daemon.plist");

/// By which a file of ours is known.
pub(super) const MARK: &str = "Written by `trunkline service install`";

/// The names of the units, as `systemctl` wants them.
pub(super) const UNITS: [&str; 2] = ["trunkline.socket", "trunkline.service"];

/// The job's name.
pub(super) const LABEL: &str = "org.trunkline.daemon";

/// A file and what is to stand in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// All that the files say of this user and machine.
#[derive(Debug)]
pub(super) struct Facts {
    program: PathBuf,
    pub(super) path: Captured,
    port: u16,
    hosts: Vec<IpAddr>,
    /// Addresses that are configured and that this machine has not.
    absent: Vec<IpAddr>,
    socket: PathBuf,
    home: PathBuf,
    /// Where the configuration of programs lies.
    config_home: PathBuf,
    /// Variables that lead to this configuration and state.
    variables: Vec<(String, String)>,
}

impl Facts {
    pub(super) fn gather(sources: &Sources, state_dir: &Path, listen: &Listen) -> Result<Self, Failure> {
        let env = &sources.env;
        let program = program(env).map_err(|error| Failure::failed(format!("this program's own file: {error}")))?;
        let mut variables = Vec::new();
        for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
            variables.extend(variable(env, name).map(|value| (name.to_owned(), value.to_owned())));
        }
        let named = sources.file.clone().or_else(|| variable(env, "TRUNKLINE_CONFIG").map(PathBuf::from));
        if let Some(file) = named {
            let file = std::path::absolute(&file).unwrap_or(file);
            variables.push(("TRUNKLINE_CONFIG".to_owned(), file.display().to_string()));
        }
        let (hosts, absent) = there(&listen.hosts, &is_absent);
        Ok(Self {
            program,
            path: path::captured(env),
            port: listen.port,
            hosts,
            absent,
            socket: state_dir.join(crate::ask::SOCKET),
            home: home(env),
            config_home: config_home(env),
            variables,
        })
    }

    /// The one URL.
    pub(super) fn url(&self) -> String {
        let host = self.hosts.first().copied().unwrap_or(IpAddr::from([127, 0, 0, 1]));
        format!("http://{}/mcp", SocketAddr::new(host, self.port))
    }

    /// A hint if the program lies where a build would replace it.
    pub(super) fn of_a_build(&self) -> Option<String> {
        let shown = self.program.display().to_string();
        let build = shown.contains("/target/debug/") || shown.contains("/target/release/");
        build.then(|| format!("It runs {shown}, which the next build replaces; `make install` puts it where it stays."))
    }

    /// A hint if an address had to be left out.
    pub(super) fn of_absent(&self) -> Option<String> {
        let absent: Vec<String> =
            self.absent.iter().map(|host| SocketAddr::new(*host, self.port).to_string()).collect();
        let one = "after it has, `trunkline service install` takes it in";
        (!absent.is_empty()).then(|| format!("Without {}: this machine has no IPv6; {one}.", absent.join(", ")))
    }

    /// The units of systemd, in the order of [`UNITS`].
    pub(super) fn units(&self) -> [File; 2] {
        let directory = self.config_home.join("systemd/user");
        let head = format!(
            "# {MARK}, which writes it anew.\n# What you want to add goes into `systemctl --user edit trunkline.service`.\n"
        );
        let mut service = head.clone();
        for line in below_head(SERVICE) {
            if line.starts_with("ExecStart=") {
                let _ = writeln!(service, "ExecStart=\"{}\" serve", unit_escaped(&self.program.display().to_string()));
                for (name, value) in self.environment() {
                    let _ = writeln!(service, "Environment=\"{name}={}\"", unit_escaped(value));
                }
            } else {
                let _ = writeln!(service, "{line}");
            }
        }
        let mut socket = head;
        for line in below_head(SOCKET) {
            if line.starts_with("ListenStream=127.0.0.1") {
                for host in &self.hosts {
                    let _ = writeln!(socket, "ListenStream={}", SocketAddr::new(*host, self.port));
                }
            } else if line.starts_with("ListenStream=%h") {
                let path = self.socket.display().to_string().replace('%', "%%");
                let _ = writeln!(socket, "ListenStream={path}");
            } else if !line.starts_with("ListenStream=") && !line.contains("$XDG_STATE_HOME") {
                let _ = writeln!(socket, "{line}");
            }
        }
        let file = |name: &str, text| File { path: directory.join(name), text };
        [file(UNITS[0], socket), file(UNITS[1], service)]
    }

    /// The job of launchd.
    pub(super) fn plist(&self) -> File {
        let text = |text: &Path| xml_escaped(&text.display().to_string());
        let begin = PLIST.find("<!-- For one user").unwrap_or_default();
        let end = PLIST[begin..].find("-->").map_or(begin, |end| begin + end + "-->".len());
        let plist = format!("{}<!-- {MARK}, which writes it anew. -->{}", &PLIST[..begin], &PLIST[end..]);
        let mut variables = String::new();
        for (name, value) in &self.variables {
            let _ = write!(variables, "<key>{name}</key>\n        <string>{}</string>\n        ", xml_escaped(value));
        }
        let plist = plist
            .replace("/Users/YOU/.cargo/bin/trunkline", &text(&self.program))
            .replace("/Users/YOU/.local/state/trunkline/trunkline.sock", &text(&self.socket))
            .replace("/Users/YOU/Library/Logs/trunkline.log", &text(&self.log()))
            .replace("/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin", &xml_escaped(&self.path.path))
            .replace("<string>6270</string>", &format!("<string>{}</string>", self.port))
            .replace(
                "<!-- launchd's own has neither Homebrew nor Node: write here what `echo $PATH` says in your shell. -->",
                &format!("{variables}<!-- As in the login shell; launchd's own has neither Homebrew nor Node. -->"),
            );
        File { path: plist_path(&self.home), text: plist }
    }

    fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        let path = [("PATH", self.path.path.as_str())];
        path.into_iter().chain(self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    fn log(&self) -> PathBuf {
        log_path(&self.home)
    }
}

/// The addresses that a socket can be made for, and those of IPv6 that this machine has not: with one of them the service
/// manager makes none at all, where the daemon by itself goes on without (`edge/listen.rs`).
fn there(hosts: &[IpAddr], is_absent: &dyn Fn(IpAddr) -> bool) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let (absent, there): (Vec<IpAddr>, Vec<IpAddr>) =
        hosts.iter().partition(|host| host.is_ipv6() && is_absent(**host));
    // With none left the manager says what is wrong.
    if there.is_empty() { (absent, there) } else { (there, absent) }
}

/// Whether this machine has no such address, or no such kind of them.
pub(crate) fn is_absent(host: IpAddr) -> bool {
    let no_family = Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    let tried = TcpListener::bind((host, 0));
    tried.is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == no_family)
}

/// The addresses of an installed unit of sockets.
pub(crate) fn installed_addresses(env: &[(String, String)]) -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(units_directory(env).join(UNITS[0])).unwrap_or_default();
    let streams = text.lines().filter_map(|line| line.trim().strip_prefix("ListenStream="));
    streams.filter_map(|address| address.trim().parse().ok()).collect()
}

/// Where launchd has the daemon's standard error written.
pub(super) fn log_path(home: &Path) -> PathBuf {
    home.join("Library/Logs/trunkline.log")
}

/// The job's file.
pub(super) fn plist_path(home: &Path) -> PathBuf {
    home.join(format!("Library/LaunchAgents/{LABEL}.plist"))
}

/// The directory of the user's units.
pub(super) fn units_directory(env: &[(String, String)]) -> PathBuf {
    config_home(env).join("systemd/user")
}

/// A service of ours that is installed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(crate) file: PathBuf,
    pub(crate) program: PathBuf,
    /// The `PATH` in it.
    pub(crate) path: String,
}

/// The installed unit; `None` if there is none, or one that was written by hand.
pub(crate) fn installed_unit(env: &[(String, String)]) -> Option<Installed> {
    let file = units_directory(env).join(UNITS[1]);
    let text = std::fs::read_to_string(&file).ok()?;
    let between = |begin: &str, end: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(begin)?.strip_suffix(end))?;
        Some(line.replace("%%", "%").replace("\\\"", "\"").replace("\\\\", "\\"))
    };
    let program = PathBuf::from(between("ExecStart=\"", "\" serve")?);
    Some(Installed { program, path: between("Environment=\"PATH=", "\"")?, file })
}

/// The lines of a file of `deploy/` without what it says to who installs it by hand.
fn below_head(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip_while(|line| line.starts_with('#'))
}

/// This program by the name that stays: the one in `PATH`, if that leads here, since an upgrade replaces what is behind it.
fn program(env: &[(String, String)]) -> std::io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let real = own.canonicalize()?;
    let path = variable(env, "PATH").unwrap_or_default();
    let mut named = path.split(':').filter(|at| at.starts_with('/')).map(|at| Path::new(at).join("trunkline"));
    Ok(named.find(|file| file.canonicalize().is_ok_and(|file| file == real)).unwrap_or(own))
}

fn config_home(env: &[(String, String)]) -> PathBuf {
    let named = variable(env, "XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    named.unwrap_or_else(|| home(env).join(".config"))
}

/// The home directory of whoever asks.
pub(super) fn home(env: &[(String, String)]) -> PathBuf {
    let named = variable(env, "HOME").map(PathBuf::from);
    named.or_else(std::env::home_dir).unwrap_or_else(|| PathBuf::from("/"))
}

fn variable<'e>(env: &'e [(String, String)], name: &str) -> Option<&'e str> {
    env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

/// A text inside quotes in a unit: specifiers, quotes and backslashes stand for themselves.
fn unit_escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")
}

fn xml_escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            program: PathBuf::from("/home/you/my bin/trunkline"),
            path: Captured { path: "/home/you/100%/bin:/usr/bin".to_owned(), from: String::new() },
            port: 7000,
            hosts: vec![IpAddr::from([127, 0, 0, 1]), "::1".parse().expect("an address")],
            absent: Vec::new(),
            socket: PathBuf::from("/home/you/.local/state/trunkline/trunkline.sock"),
            home: PathBuf::from("/home/you"),
            config_home: PathBuf::from("/home/you/.config"),
            variables: vec![("TRUNKLINE_CONFIG".to_owned(), "/home/you/R&D \"x\".toml".to_owned())],
        }
    }

    #[test]
    fn r4_the_units_are_those_of_deploy_with_this_users_program_port_and_path() {
        let [socket, service] = facts().units();
        assert_eq!(service.path, Path::new("/home/you/.config/systemd/user/trunkline.service"));
        for line in [
            "ExecStart=\"/home/you/my bin/trunkline\" serve",
            "Environment=\"PATH=/home/you/100%%/bin:/usr/bin\"",
            "Environment=\"TRUNKLINE_CONFIG=/home/you/R&D \\\"x\\\".toml\"",
            "Type=notify",
            "KillMode=mixed",
            "RestartPreventExitStatus=78",
            "WantedBy=default.target",
        ] {
            assert_eq!(service.text.lines().filter(|have| *have == line).count(), 1, "{line} in:\n{}", service.text);
        }
        let streams: Vec<&str> = socket.text.lines().filter_map(|line| line.strip_prefix("ListenStream=")).collect();
        assert_eq!(streams, ["127.0.0.1:7000", "[::1]:7000", "/home/you/.local/state/trunkline/trunkline.sock"]);
        assert!(socket.text.contains("\nWantedBy=sockets.target\n") && socket.text.contains("\nSocketMode=0600\n"));
        for file in [&socket, &service] {
            assert!(file.text.starts_with(&format!("# {MARK}")), "{}", file.text);
            assert!(!file.text.contains("Copy this file") && !file.text.contains(".cargo"), "{}", file.text);
        }
    }

    #[test]
    fn r4_a_socket_that_this_machine_cannot_have_is_left_out_and_that_is_said() {
        let hosts: Vec<IpAddr> = ["127.0.0.1", "::1"].map(|host| host.parse().expect("an address")).to_vec();
        let (there_are, absent) = there(&hosts, &|host| host.is_ipv6());
        let facts = Facts { hosts: there_are, absent, ..facts() };
        let [socket, _] = facts.units();
        assert!(
            socket.text.contains("ListenStream=127.0.0.1:7000") && !socket.text.contains("[::1]"),
            "{}",
            socket.text
        );
        assert!(facts.of_absent().is_some_and(|hint| hint.contains("[::1]:7000")));
        assert_eq!(there(&hosts, &|_| false), (hosts.clone(), Vec::new()));
        let only = &hosts[1..];
        assert_eq!(there(only, &|_| true), (only.to_vec(), Vec::new()), "a unit without any is none");
        assert!(is_absent("192.0.2.1".parse().expect("an address")) && !is_absent(hosts[0]));
    }

    #[test]
    fn the_job_of_launchd_has_this_users_paths_and_nobody_elses() {
        let plist = facts().plist();
        assert_eq!(plist.path, Path::new("/home/you/Library/LaunchAgents/org.trunkline.daemon.plist"));
        assert!(!plist.text.contains("/Users/YOU") && !plist.text.contains("6270"), "{}", plist.text);
        for part in [
            "<string>/home/you/my bin/trunkline</string>",
            "<string>/home/you/100%/bin:/usr/bin</string>",
            "<key>TRUNKLINE_CONFIG</key>\n        <string>/home/you/R&amp;D \"x\".toml</string>",
            "<string>/home/you/Library/Logs/trunkline.log</string>",
        ] {
            assert!(plist.text.contains(part), "{part} in:\n{}", plist.text);
        }
        assert_eq!(plist.text.matches("<string>7000</string>").count(), 2);
        assert!(plist.text.contains(MARK));
    }

    #[test]
    fn the_path_of_an_installed_unit_can_be_read_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let env = [("XDG_CONFIG_HOME".to_owned(), dir.path().display().to_string())];
        assert_eq!(installed_unit(&env), None);
        let [_, service] = Facts { config_home: dir.path().to_owned(), ..facts() }.units();
        assert!(super::super::write(&service).expect("written").is_some());
        let [socket, _] = Facts { config_home: dir.path().to_owned(), ..facts() }.units();
        super::super::write(&socket).expect("written");
        let shown: Vec<String> = installed_addresses(&env).iter().map(SocketAddr::to_string).collect();
        assert_eq!(shown, ["127.0.0.1:7000", "[::1]:7000"]);
        let installed = installed_unit(&env).expect("installed");
        assert_eq!((installed.file, installed.path.as_str()), (service.path, "/home/you/100%/bin:/usr/bin"));
        assert_eq!(installed.program, Path::new("/home/you/my bin/trunkline"));
    }
}
