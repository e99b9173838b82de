//! `connect --undo`: every byte as it was, if nobody else has written since; otherwise only what is ours, taken out.

use std::fmt::Write as _;

use super::ledger::{Kept, Ledger};
use super::{Place, diff, json, toml};
use crate::clients::Client;
use crate::exit::Failure;
use crate::{confirm, render, swap};

/// Takes back what was done to this file.
pub(super) fn run(place: &Place, ledger: &Ledger, yes: bool) -> Result<String, Failure> {
    let changes =
        ledger.changes().map_err(|error| place.unchanged(&format!("what was changed cannot be read: {error}")))?;
    if changes.is_empty() {
        return Err(Failure::failed(format!(
            "nothing is to be undone: {} was not changed by `trunkline connect`, or that was taken back already",
            place.shown
        )));
    }
    let title = place.client.title();
    let Some(now) = place.bytes.clone() else {
        if let Some(first) = changes.first().filter(|first| first.change.existed) {
            let shown = String::from_utf8_lossy(&first.before);
            let diff = diff::diff("", shown.trim_start_matches(super::MARK));
            render::print(&format!("{} is gone; as it was before:\n\n{diff}\n", place.shown));
            if !yes && !confirm::ask("Write this?", "`--yes` writes without asking")? {
                return Ok("nothing was written".to_owned());
            }
            swap::replace(&place.file, None, &first.before)?;
            forget(place, ledger)?;
            return Ok(format!("{} is as it was before, byte for byte", place.shown));
        }
        forget(place, ledger)?;
        return Ok(format!(
            "{} is gone, and with it what {title} had of Trunkline; nothing is left to do",
            place.shown
        ));
    };
    let (bytes, existed, rest) = unwound(now, &changes);
    let whole = rest.is_empty();
    let (text, existed, told) = if whole {
        (bytes, existed, "is as it was before, byte for byte".to_owned())
    } else {
        let (text, told) = taken_out(place, &bytes, rest).map_err(|why| place.unchanged(&why))?;
        (text, true, told)
    };
    let shown = String::from_utf8_lossy(&text);
    render::print(&format!("{}:\n\n{}\n", place.shown, diff::diff(&place.text, shown.trim_start_matches(super::MARK))));
    if !yes && !confirm::ask("Write this?", "`--yes` writes without asking")? {
        return Ok("nothing was written".to_owned());
    }
    if existed {
        swap::replace(&place.file, place.bytes.as_deref(), &text)?;
    } else {
        std::fs::remove_file(&place.file).map_err(|error| place.unchanged(&error.to_string()))?;
    }
    forget(place, ledger)?;
    Ok(if existed {
        format!("{} {told}", place.shown)
    } else {
        format!("{} is gone; it was not there before", place.shown)
    })
}

/// Goes back as far as the bytes are those that were left behind. What is left over was followed by somebody else's edit.
fn unwound(mut bytes: Vec<u8>, changes: &[Kept]) -> (Vec<u8>, bool, &[Kept]) {
    let mut existed = true;
    let mut rest = changes;
    while let Some((newest, older)) = rest.split_last() {
        if newest.after != bytes {
            break;
        }
        bytes.clone_from(&newest.before);
        existed = newest.change.existed;
        rest = older;
    }
    (bytes, existed, rest)
}

/// What is ours is taken out of a file that somebody has edited, and what was switched off is switched on.
fn taken_out(place: &Place, bytes: &[u8], rest: &[Kept]) -> Result<(Vec<u8>, String), String> {
    let text = String::from_utf8(bytes.to_vec()).map_err(|_| "is no UTF-8 text")?;
    let text = text.trim_start_matches(super::MARK);
    let mut missing: Vec<String> = Vec::new();
    let mut back = 0;
    let after = if place.client == Client::Codex {
        let mut text = text.to_owned();
        for kept in rest.iter().rev() {
            text = toml::remove(&text, &kept.change.name)?;
            for off in kept.change.off.iter().rev() {
                match toml::switch_on(&text, off) {
                    Some(after) => (text, back) = (after, back + 1),
                    None => missing.push(render::field(&off.name)),
                }
            }
        }
        text
    } else {
        let document = json::Document::parse(place.client, text)?;
        for kept in rest.iter().rev() {
            document.remove(&kept.change.name);
            for off in kept.change.off.iter().rev() {
                match document.switch_on(off) {
                    Some(()) => back += 1,
                    None => missing.push(render::field(&off.name)),
                }
            }
        }
        document.text()
    };
    let mut told = "was edited since; what is ours was taken out, and the rest is as you left it".to_owned();
    if back > 0 {
        let _ = write!(told, "; {} switched on again", render::counted(back, "server"));
    }
    if !missing.is_empty() {
        let _ = write!(told, "; not there any more: {}", missing.join(", "));
    }
    Ok((place.with_mark(&after), told))
}

fn forget(place: &Place, ledger: &Ledger) -> Result<(), Failure> {
    let cleared = ledger.clear();
    cleared.map_err(|error| Failure::failed(format!("{}: what was kept of it cannot be removed: {error}", place.shown)))
}
