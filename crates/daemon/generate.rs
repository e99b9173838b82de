//! What is made of the command line's own definition: completions of the shells, and manual pages.

use clap::{Args, Command, CommandFactory as _, ValueEnum};
use clap_complete::generate;
use clap_complete::shells;

use crate::cli::Cli;
use crate::exit::Failure;

/// The help's last words.
pub(crate) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  trunkline completions bash > ~/.local/share/bash-completion/completions/trunkline
  trunkline completions zsh > ~/.zfunc/_trunkline        with ~/.zfunc in your fpath
  trunkline completions fish > ~/.config/fish/completions/trunkline.fish";

/// The help's last words.
pub(crate) const MAN_EXAMPLES: &str = "\
Examples:
  trunkline man | man -l -
  trunkline man doctor > ~/.local/share/man/man1/trunkline-doctor.1";

/// A shell that is to know the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Which page of the manual.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The command that the page is about; none: all of trunkline
    command: Vec<String>,
}

/// The completions of a shell.
pub(crate) fn completions(shell: Shell) -> String {
    let (mut command, mut out) = (visible(&Cli::command()), Vec::new());
    match shell {
        Shell::Bash => generate(shells::Bash, &mut command, "trunkline", &mut out),
        Shell::Zsh => generate(shells::Zsh, &mut command, "trunkline", &mut out),
        Shell::Fish => generate(shells::Fish, &mut command, "trunkline", &mut out),
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The command line without what is hidden in its help: shells would offer it all the same.
fn visible(all: &Command) -> Command {
    let shown = Command::new("trunkline").args(all.get_arguments().filter(|arg| !arg.is_hide_set()).cloned());
    shown.subcommands(all.get_subcommands().filter(|command| !command.is_hide_set()).cloned())
}

/// A page of the manual.
pub(crate) fn manual(man: &Man) -> Result<String, Failure> {
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    for name in &man.command {
        command = command.find_subcommand(name).filter(|command| !command.is_hide_set()).ok_or_else(|| {
            Failure::usage(format!(
                "there is no command `{}`: `trunkline --help` lists them",
                crate::render::field(name)
            ))
        })?;
    }
    let mut out = Vec::new();
    // It knows its whole name since it was built.
    clap_mangen::Man::new(command.clone()).render(&mut out).map_err(|error| Failure::failed(error.to_string()))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_is_told_of_the_commands_and_of_no_hidden_one() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = completions(shell);
            assert!(text.contains("doctor") && text.contains("uninstall"), "{shell:?}");
            assert!(!text.contains("__guard") && !text.contains("__demo"), "{shell:?}");
        }
    }

    #[test]
    fn a_page_is_about_the_command_that_was_named() {
        let page = |words: &[&str]| manual(&Man { command: words.iter().map(|word| (*word).to_owned()).collect() });
        let all = page(&[]).expect("a page");
        assert!(all.starts_with(".ie") || all.contains(".TH trunkline 1"), "{}", &all[..200]);
        assert!(all.contains("doctor") && !all.contains("__guard"), "hidden commands stay hidden");
        let install = page(&["service", "install"]).expect("a page");
        assert!(install.contains("trunkline\\-service\\-install"), "{}", &install[..300]);
        assert!(page(&["__guard"]).expect_err("hidden").to_string().contains("trunkline --help"));
    }
}
