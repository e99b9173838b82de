//! Rules of the house that no compiler checks: the crates' arrows point down, and versions live once.

use std::collections::BTreeMap;
use std::path::Path;

/// Which of our crates each crate may use: "daemon → edge → hub → upstream → telemetry → wire, levels may be
/// skipped downward", and everyone above telemetry may use config.
const ARROWS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("config", &["wire"]),
    ("telemetry", &["wire"]),
    ("upstream", &["telemetry", "config", "wire"]),
    ("hub", &["upstream", "telemetry", "config", "wire"]),
    ("edge", &["hub", "upstream", "telemetry", "config", "wire"]),
    ("testkit", &["wire"]),
];

fn manifest(path: &str) -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dependencies(manifest: &toml::Table, section: &str) -> BTreeMap<String, toml::Value> {
    let table = manifest.get(section).and_then(toml::Value::as_table);
    table.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn ours(manifest: &toml::Table, section: &str) -> Vec<String> {
    let names = dependencies(manifest, section).into_keys();
    names.filter_map(|name| name.strip_prefix("trunkline-").map(str::to_owned)).collect()
}

#[test]
fn the_arrows_between_the_crates_point_down() {
    for (name, allowed) in ARROWS {
        let manifest = manifest(&format!("crates/{name}/Cargo.toml"));
        for used in ours(&manifest, "dependencies") {
            assert!(allowed.contains(&used.as_str()), "{name} may not use {used}");
        }
        // A dev-dependency that leads back would give a crate two copies of its own types.
        for used in ours(&manifest, "dev-dependencies") {
            assert!(used == "testkit" || allowed.contains(&used.as_str()), "tests of {name} may not use {used}");
        }
    }
}

#[test]
fn every_crate_stands_in_the_table_of_arrows() {
    let root = manifest("Cargo.toml");
    let members = root["workspace"]["members"].as_array().expect("members is a list");
    for member in members.iter().filter_map(toml::Value::as_str) {
        let Some(name) = member.strip_prefix("crates/") else { continue };
        assert!(ARROWS.iter().any(|(known, _)| *known == name), "{name} has no row in ARROWS");
    }
}

#[test]
fn versions_live_in_the_workspace_manifest_alone() {
    let root = manifest("Cargo.toml");
    let members = root["workspace"]["members"].as_array().expect("members is a list");
    let paths = members.iter().filter_map(toml::Value::as_str).map(|member| format!("{member}/Cargo.toml"));
    for path in paths.chain(["Cargo.toml".to_owned()]) {
        let manifest = manifest(&path);
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in dependencies(&manifest, section) {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(inherited, "{path}: {name} must be `workspace = true`");
            }
        }
    }
}
