//! `trunkline tools --tokens`: what definitions of tools weigh in the context of a model.
//!
//! Tokens are counted by a real tokenizer, `o200k_base`: the newest public one of a large provider. What a definition costs with another
//! model, or as a client writes it for its model, is near that and not the same, and the answer says so. The command counts and not
//! the daemon: the vocabulary takes 30 MB of memory while it is unpacked, and goes with the process.

use std::fmt::Write as _;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::ask::{Printed, good, read};
use crate::exit::Failure;
use crate::render::{self, Table};

const TOKENIZER: &str = "o200k_base";

/// What the daemon lists.
#[derive(Deserialize)]
struct Listed {
    tools: Vec<Tool>,
    /// What would be listed in place of all tools.
    #[serde(default)]
    search: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Tool {
    server: String,
    name: String,
    #[serde(rename = "tool")]
    definition: Box<RawValue>,
}

/// How much something is: a server's tools, or one tool.
#[derive(Debug, PartialEq)]
struct Weight {
    name: String,
    tools: usize,
    tokens: usize,
}

/// What is weighed.
struct Weighed {
    /// The servers, or the tools of one, the heaviest first.
    parts: Vec<Weight>,
    /// What would be listed in place of all of them; of one server nothing would.
    search: Option<Weight>,
}

/// The answer, from what the daemon lists: of all servers, or of the tools of one.
pub(crate) async fn answer(body: &Bytes, server: Option<&str>, json: bool) -> Result<Printed, Failure> {
    let (body, one) = (body.clone(), server.is_some());
    let failed = || Failure::failed("the tokens could not be counted; this is a bug".to_owned());
    let weighed = tokio::task::spawn_blocking(move || {
        let tokenizer = tiktoken::encoding::o200k_base();
        read(&body).map(|listed| weighed(&listed, one, |text| tokenizer.count(text)))
    });
    let weighed = weighed.await.map_err(|_| failed())??;
    Ok(good(if json { as_json(&weighed, one) } else { as_text(&weighed, one) }))
}

fn weighed(listed: &Listed, one: bool, count: impl Fn(&str) -> usize) -> Weighed {
    let mut parts: Vec<Weight> = Vec::new();
    for tool in &listed.tools {
        let tokens = count(tool.definition.get());
        let name = if one { &tool.name } else { &tool.server };
        match parts.last_mut().filter(|last| !one && last.name == *name) {
            Some(last) => (last.tools, last.tokens) = (last.tools + 1, last.tokens + tokens),
            None => parts.push(Weight { name: name.clone(), tools: 1, tokens }),
        }
    }
    parts.sort_by(|a, b| b.tokens.cmp(&a.tokens).then_with(|| a.name.cmp(&b.name)));
    let search = listed.search.iter().map(|definition| count(definition.get())).sum();
    let search = Weight { name: "search".to_owned(), tools: listed.search.len(), tokens: search };
    Weighed { parts, search: (!one && search.tools > 0).then_some(search) }
}

fn as_json(weighed: &Weighed, one: bool) -> String {
    let part = |part: &Weight| {
        if one {
            json!({ "name": part.name, "tokens": part.tokens })
        } else {
            json!({ "name": part.name, "tools": part.tools, "tokens": part.tokens })
        }
    };
    let mut out = json!({
        "tokenizer": TOKENIZER,
        "tokens": weighed.tokens(),
        if one { "tools" } else { "servers" }: weighed.parts.iter().map(part).collect::<Vec<_>>(),
    });
    if let Some(search) = &weighed.search {
        out["search"] = json!({ "tools": search.tools, "tokens": search.tokens });
    }
    render::safe_json(&out.to_string())
}

fn as_text(weighed: &Weighed, one: bool) -> String {
    if weighed.parts.is_empty() {
        return "No tools.\n".to_owned();
    }
    let (all, tools) = (weighed.tokens(), weighed.parts.iter().map(|part| part.tools).sum::<usize>());
    let widest = grouped(all).len();
    let mut table =
        Table::new(if one { &["TOOL", "TOKENS", "SHARE"] } else { &["SERVER", "TOOLS", "TOKENS", "SHARE"] });
    let mut row = |name: String, tools: usize, tokens: usize| {
        let share = format!("{:>3} %", (tokens * 100 + all / 2) / all.max(1));
        let tokens = format!("{:>1$}", grouped(tokens), widest.max("TOKENS".len()));
        let tools = (!one).then(|| format!("{tools:>5}"));
        table.row([Some(name), tools, Some(tokens), Some(share)].into_iter().flatten());
    };
    for part in &weighed.parts {
        row(render::field(&part.name), part.tools, part.tokens);
    }
    if weighed.parts.len() > 1 {
        row("(all)".to_owned(), tools, all);
    }
    let mut out = table.to_string();
    if let Some(search) = &weighed.search {
        let (tools, tokens) = (search.tools, grouped(search.tokens));
        let _ = if search.tokens < all {
            writeln!(out, "\nWith expose = \"search\" clients list {tools} tools of {tokens} tokens in their place.")
        } else {
            writeln!(out, "\nexpose = \"search\" would save nothing: the tools that it lists are {tokens} tokens.")
        };
    }
    let _ = writeln!(
        out,
        "\nCounted by {TOKENIZER}, a tokenizer of OpenAI's models, in the definitions as clients list them. Other models' tokenizers\n\
         differ (Anthropic's is not public), and clients add words of their own."
    );
    out
}

impl Weighed {
    fn tokens(&self) -> usize {
        self.parts.iter().map(|part| part.tokens).sum()
    }
}

/// `12345` as `12,345`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    const LISTED: &str = r#"{"tools":[
        {"server":"git","name":"git__log","original":"log","tool":{"name":"git__log"}},
        {"server":"git","name":"git__add","original":"add","tool":{"name":"git__add","description":"Adds files"}},
        {"server":"fs","name":"fs__read","original":"read","tool":{"name":"fs__read"}}
    ],"search":[{"name":"find_tools"},{"name":"call_tool"}]}"#;

    /// A token for each byte.
    fn shown(one: bool, json: bool) -> String {
        let listed: Listed = serde_json::from_str(LISTED).expect("a list");
        let weighed = weighed(&listed, one, |text| text.len() * 100);
        if json { as_json(&weighed, one) } else { as_text(&weighed, one) }
    }

    #[test]
    fn the_servers_are_shown_by_weight_and_what_would_be_listed_in_their_place() {
        assert_snapshot!(shown(false, false), @r#"
        SERVER  TOOLS  TOKENS  SHARE
        git         2   6,500   77 %
        fs          1   1,900   23 %
        (all)       3   8,400  100 %

        With expose = "search" clients list 2 tools of 4,100 tokens in their place.

        Counted by o200k_base, a tokenizer of OpenAI's models, in the definitions as clients list them. Other models' tokenizers
        differ (Anthropic's is not public), and clients add words of their own.
        "#);
        let json = r#"{"search":{"tokens":4100,"tools":2},"servers":[{"name":"git","tokens":6500,"tools":2},{"name":"fs","tokens":1900,"tools":1}],"tokenizer":"o200k_base","tokens":8400}"#;
        assert_eq!(shown(false, true).trim(), json);
    }

    #[test]
    fn the_tools_of_one_server_are_shown_one_by_one() {
        assert_snapshot!(shown(true, false), @"
        TOOL      TOKENS  SHARE
        git__add   4,600   55 %
        fs__read   1,900   23 %
        git__log   1,900   23 %
        (all)      8,400  100 %

        Counted by o200k_base, a tokenizer of OpenAI's models, in the definitions as clients list them. Other models' tokenizers
        differ (Anthropic's is not public), and clients add words of their own.
        ");
        let json = r#"{"tokenizer":"o200k_base","tokens":8400,"tools":[{"name":"git__add","tokens":4600},{"name":"fs__read","tokens":1900},{"name":"git__log","tokens":1900}]}"#;
        assert_eq!(shown(true, true).trim(), json);
    }

    #[tokio::test]
    async fn tokens_are_counted_by_the_tokenizer_that_is_named() {
        let body = Bytes::from_static(br#"{"tools":[{"server":"a","name":"a__b","tool":"hello world"}]}"#);
        let Ok(printed) = answer(&body, None, true).await else { panic!("it is counted") };
        // Two words, the quotes and the space that belongs to the second: `"`, `hello`, ` world`, `"`.
        assert_eq!(
            printed.text.trim(),
            r#"{"servers":[{"name":"a","tokens":4,"tools":1}],"tokenizer":"o200k_base","tokens":4}"#
        );
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
