//! The bounds of this crate, each with its reason.

use std::time::Duration;

/// Largest record of one server. Tokens are a few KiB at most, metadata of an authorization server as well.
pub(crate) const RECORD_BYTES_MAX: usize = 512 * 1024;

/// Largest mark of a refresh: three numbers.
pub(crate) const MARK_BYTES_MAX: usize = 256;

/// How long another process may hold a server's record while this one wants to refresh (reliability 10).
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks at a lock that is held. A refresh takes a few hundred milliseconds.
pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// For one document or token (S-26).
pub(crate) const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of the daemon waits for refreshes: a little longer than one may take.
pub(crate) const SETTLE_PATIENCE: Duration = Duration::from_secs(11);

/// Largest document or answer of an authorization server that is read (S-26).
pub(crate) const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

/// Redirects in a row that discovery follows (S-26).
pub(crate) const REDIRECTS_MAX: usize = 3;

/// How long a person may take over a login (S-27).
pub(crate) const LOGIN_PATIENCE: Duration = Duration::from_mins(10);

/// How long a person may take over a code, whatever the authorization server grants.
pub(crate) const DEVICE_PATIENCE: Duration = Duration::from_mins(30);

/// Between two questions whether a code was entered, where the authorization server does not say (RFC 8628, 3.2).
pub(crate) const DEVICE_PAUSE: Duration = Duration::from_secs(5);

/// By how much that grows when it is asked to (RFC 8628, 3.5), and how long it gets.
pub(crate) const DEVICE_SLOWER: Duration = Duration::from_secs(5);
pub(crate) const DEVICE_PAUSE_MAX: Duration = Duration::from_mins(1);

/// Keys that are held; above, those that no connection uses go. More than anybody configures.
pub(crate) const KEYS_MAX: usize = 1024;

/// Logins that may be under way at a time. One for each server that a person would have.
pub(crate) const LOGINS_MAX: usize = 64;

/// A URL of an authorization server that is longer is none that a person should open (S-28).
pub(crate) const LOGIN_URL_BYTES_MAX: usize = 4096;

/// Access tokens that live shorter are refreshed when they are wanted (reliability 10).
pub(crate) const SHORT_LIFE: Duration = Duration::from_mins(2);

/// Before its end, an access token is not used any more: the server's clock and the way there take their time.
pub(crate) const EXPIRY_MARGIN: Duration = Duration::from_secs(5);

/// After a refresh that the authorization server did not answer, calls go without for this long (reliability 10).
pub(crate) const REFRESH_PAUSE: Duration = Duration::from_secs(15);

/// Between two attempts to write what the disk did not take: soon after there is room, and hardly any work until then.
pub(crate) const KEEP_PAUSE: Duration = Duration::from_secs(10);

/// Longest sentence of an authorization server that is passed on (S-17).
pub(crate) const WORDS_BYTES_MAX: usize = 300;
