//! `${keyring:NAME}`: an entry of the machine's own keychain, asked of by the program that the machine has for it.
//!
//! A library for each system's keychain, and on Linux one for its message bus, would come into a program that needs neither;
//! and whoever stores an entry types the same program's name. So this is a `${cmd:…}` with a name of its own, and with
//! words for what is missing. An entry is of the service `trunkline`, and its account is the name.

/// The service of all entries.
const SERVICE: &str = "trunkline";

/// Longest name of an entry.
const NAME_CHARS_MAX: usize = 128;

pub(crate) const BAD_NAME: &str = "a name in ${keyring:…} is of 1 to 128 letters, digits, `_`, `-`, `.`, `/` and `@`, and begins with a letter or digit";

/// Which keychain it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keychain {
    /// That of macOS.
    Macos,
    /// That of a desktop which speaks the Secret Service, as GNOME's and KDE's do.
    SecretService,
}

impl Keychain {
    /// This machine's.
    pub(crate) const HERE: Self = if cfg!(target_os = "macos") { Self::Macos } else { Self::SecretService };

    /// What prints an entry.
    pub(crate) fn lookup(self, name: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Macos => &["security", "find-generic-password", "-w", "-s", SERVICE, "-a", name],
            Self::SecretService => &["secret-tool", "lookup", "service", SERVICE, "account", name],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// What a person types to store one; the value is asked for.
    fn store(self, name: &str) -> String {
        match self {
            Self::Macos => format!("security add-generic-password -U -s {SERVICE} -a {name} -w"),
            Self::SecretService => {
                format!("secret-tool store --label '{SERVICE} {name}' service {SERVICE} account {name}")
            }
        }
    }

    /// What helps where an entry was not to be had.
    pub(crate) fn advice(self, name: &str) -> String {
        let program = match self {
            Self::Macos => "",
            Self::SecretService => "; `secret-tool` is in the package libsecret-tools, or libsecret",
        };
        let store = self.store(name);
        format!(
            "`{name}` is not in the keychain, or that is locked or out of the daemon's reach; `{store}` stores it{program}"
        )
    }
}

/// Whether an entry may be called so: nothing that a program takes for an option, and nothing to be quoted in a shell.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'@');
    let begins = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    begins && name.len() <= NAME_CHARS_MAX && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_is_asked_by_its_own_program_and_the_advice_says_what_to_type() {
        let linux = Keychain::SecretService;
        assert_eq!(linux.lookup("linear").join(" "), "secret-tool lookup service trunkline account linear");
        assert!(linux.advice("linear").contains("store --label 'trunkline linear' service trunkline account linear`"));
        let mac = Keychain::Macos;
        assert_eq!(mac.lookup("linear").join(" "), "security find-generic-password -w -s trunkline -a linear");
        assert!(
            mac.advice("linear").contains("-U -s trunkline -a linear -w`") && !mac.advice("x").contains("libsecret")
        );
    }

    #[test]
    fn a_name_is_no_option_and_nothing_for_a_shell() {
        assert!(["linear", "a.b/c@d_e-f", "7"].into_iter().all(is_name));
        assert!(!["", "-a", "a b", "a;b", "a'b", "$x", &"a".repeat(129)].into_iter().any(is_name));
    }
}
