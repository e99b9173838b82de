//! What the pages tell people to write can be written.

use super::*;

/// The TOML that stands on a page: where each block is, and its text.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if line == "```toml" {
            let block = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            blocks.push((at + 1, block.collect::<Vec<_>>().join("\n")));
        }
    }
    blocks
}

#[test]
fn every_block_of_the_examples_is_sound_and_says_nothing_that_is_not_needed() {
    let page = example("../docs/examples.md");
    let blocks = blocks(&page);
    assert!(blocks.len() > 9, "the page is read");
    for (line, text) in blocks {
        let env = [("LINEAR_API_KEY", "lin_1"), ("SNYK_TOKEN", "snyk_1")];
        let loaded = loaded(&text, &env, None).unwrap_or_else(|errors| panic!("the block at line {line}: {errors}"));
        assert!(!loaded.config.servers.is_empty(), "the block at line {line}");
        // That a directory or a secret of somebody else's is not here is no fault of the page.
        let of_page = |warning: &&String| !warning.contains("no such file") && !warning.contains("/nowhere");
        let warnings: Vec<_> = loaded.warnings.iter().filter(of_page).collect();
        assert!(warnings.is_empty(), "the block at line {line}: {warnings:?}");
        for (name, server) in &loaded.config.servers {
            let problem = server.problem.as_deref().unwrap_or_default();
            assert!(problem.is_empty() || problem.contains("/nowhere"), "{name}, line {line}: {problem}");
        }
    }
}
