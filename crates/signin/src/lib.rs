//! Signing in to servers by OAuth 2.1: one owner of every token.
//!
//! Invariants, as absences: no token, code or client secret is logged or part of an error's text; no token goes to another
//! origin than that of the server it was issued for; no caller's cancellation ends a refresh; no login begins but by a
//! person's word; no older generation of a token takes the place of a newer one.
//!
//! Reading order: `record` (what is kept of a server), `store` (how it is kept, among several processes), `renew` (how one
//! generation follows another), `fetch` (how
//! authorization servers are reached), `client` (the one file that knows the library), `device` (signing in by a code that is entered elsewhere), `key` (what a request to a server
//! carries), `challenge` (what its refusal says), `unkept` (what the disk did not take), `itself` (signing in without a
//! person), `desk` (logins).

mod record;

mod store;

mod renew;

mod fetch;

mod client;

mod device;

mod key;

mod challenge;

mod unkept;

mod itself;

mod desk;

mod limits;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use challenge::fuzzing;
pub use desk::{NotSignedIn, Returned, SignIn, SignedOut, has_credential};
pub use device::DeviceCode;
pub use key::{Carried, Key};
pub use record::Record;
pub use store::{Held, Step, Store, StoreError};
