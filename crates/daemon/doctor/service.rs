//! The service, if it is installed: does it run, is its program there, and is its `PATH` still good? Tools that bring their
//! own directory for each version leave the old one behind in it.

use crate::service;

use super::report::{Finding, Mark, Report};

/// Looks at the units of this user. Returns the `PATH` that the daemon has by them.
pub(super) fn examine(env: &[(String, String)], report: &mut Report) -> Option<String> {
    let Some(installed) = service::installed_unit(env) else {
        report.note("service", Mark::Absent, "not installed; `trunkline service install` has it start at login");
        return None;
    };
    let mut findings = Vec::new();
    let shown = installed.file.display();
    if !installed.program.is_file() {
        let says = format!("{shown} starts {}, which is not there", installed.program.display());
        let advice = "Write it anew with the program that is.";
        findings.push(Finding::error("TL-SERVICE-PROGRAM", says, advice).by("trunkline service install"));
    } else if !service::is_active() {
        let advice = "Start it; its log says why it ended, if it did.";
        let finding = Finding::error("TL-SERVICE-DOWN", "the service is installed and does not run", advice);
        findings.push(finding.by("trunkline service start"));
    }
    for address in service::installed_addresses(env).into_iter().filter(|address| service::is_absent(address.ip())) {
        let says =
            format!("the unit of sockets names {address}, which this machine has not: systemd makes none of them then");
        let advice =
            "Write the unit anew, without an address of IPv6 that is not there; others stand in `[listen] hosts`.";
        findings.push(Finding::error("TL-SERVICE-ADDRESS", says, advice).by("trunkline service install"));
    }
    let gone = service::gone(&installed.path);
    if let Some(first) = gone.first() {
        let others = if gone.len() > 1 { format!(" (and {} more)", gone.len() - 1) } else { String::new() };
        let says = format!("the service's PATH has a directory that is not there: {first}{others}");
        let advice = "Take over the PATH that your login shell has now.";
        findings.push(Finding::warning("TL-SERVICE-PATH", says, advice).by("trunkline service install"));
    }
    report.part("service", format!("{shown}"), findings);
    Some(installed.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_whose_program_or_path_went_away_is_told() {
        let home = tempfile::tempdir().expect("a directory");
        let env = [("XDG_CONFIG_HOME".to_owned(), home.path().display().to_string())];
        let mut report = Report::default();
        assert_eq!(examine(&env, &mut report), None);
        assert!(report.findings.is_empty(), "it need not be there");
        let units = home.path().join("systemd/user");
        std::fs::create_dir_all(&units).expect("made");
        let unit = "ExecStart=\"/no/such/trunkline\" serve\nEnvironment=\"PATH=/usr/bin:/no/such/node/bin\"\n";
        std::fs::write(units.join("trunkline.service"), unit).expect("written");
        // One that is for documentation, and nobody's.
        let socket = "[Socket]\nListenStream=127.0.0.1:6270\nListenStream=[2001:db8::1]:6270\nListenStream=%h/x.sock\n";
        std::fs::write(units.join("trunkline.socket"), socket).expect("written");
        assert_eq!(examine(&env, &mut report).as_deref(), Some("/usr/bin:/no/such/node/bin"));
        let codes: Vec<&str> = report.findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(codes, ["TL-SERVICE-PROGRAM", "TL-SERVICE-ADDRESS", "TL-SERVICE-PATH"]);
        assert!(report.findings[1].says.contains("[2001:db8::1]:6270"), "{report:?}");
        assert!(report.findings.iter().all(|it| it.command.as_deref() == Some("trunkline service install")));
    }
}
