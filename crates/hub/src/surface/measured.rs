//! What the surface saves, measured: the tools of the search's corpus are put through the catalogue as servers' offers are, listed
//! both ways, and searched with each of the questions; all is counted by a real tokenizer. `make bench-search` prints it, and
//! `docs/search.md` says what came of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trunkline_wire::Object;

use super::Surface;
use super::answers::find;
use crate::catalog::build::{self, Shape, Source};
use crate::catalog::output::Class;
use crate::catalog::{Catalog, List};
use crate::fakes;
use crate::limits::FIND_SCHEMAS;
use crate::search::corpus::{self, HELD_OUT, OTHERS, QUESTIONS};

/// The catalogue of the corpus.
fn catalog() -> Catalog {
    let mut offers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for tool in corpus::tools() {
        let mut body: Value = tool.body.decode().expect("JSON");
        body["name"] = json!(tool.name);
        offers.entry(tool.server).or_default().push(body.to_string());
    }
    let source = |(server, bodies): (&String, &Vec<String>)| {
        let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
        let offer = trunkline_upstream::Offer { tools: fakes::entries("name", &bodies), ..Default::default() };
        let (upstream, offer) = fakes::source(server, fakes::server(), offer);
        Source { upstream, offer, verdict: None }
    };
    let sources: Vec<Source> = offers.iter().map(source).collect();
    build::build(1, &sources, Shape { name_chars: 64, page_size: None, bare_names: false, own_tools: true })
}

/// The answer with schemas of its first tools only.
fn with_schemas(answer: &Value, count: usize) -> String {
    let mut answer = answer.clone();
    for tool in answer["tools"].as_array_mut().into_iter().flatten().skip(count) {
        tool.as_object_mut().map(|tool| tool.remove("inputSchema"));
    }
    answer.to_string()
}

#[test]
#[ignore = "a measurement; it proves nothing"]
fn the_surface_saves_this_much_and_a_search_takes_this_many_tokens() {
    let tokenizer = tiktoken::encoding::o200k_base();
    let catalog = catalog();
    let listed = |bodies: &mut dyn Iterator<Item = trunkline_wire::Json>| {
        let bodies: Vec<Vec<u8>> = bodies.map(trunkline_wire::Json::into_bytes).map(|body| body.to_vec()).collect();
        tokenizer.count(&String::from_utf8_lossy(&[&b"["[..], &bodies.join(&b","[..]), b"]"].concat()))
    };
    let all = listed(&mut catalog.bodies(List::Tools, Class::Any));
    let instead = listed(&mut Surface::over(&catalog.tools, |_| false).listed(&catalog.tools, Class::Any));
    println!("{} tools: all listed are {all} tokens, the three in their place {instead}", catalog.tools().len());
    let questions: Vec<_> = [QUESTIONS, HELD_OUT, OTHERS].into_iter().flat_map(corpus::questions).collect();
    for schemas in [FIND_SCHEMAS, 3, 0] {
        let (mut rounds, mut enough) = (Vec::new(), 0);
        for (question, right) in &questions {
            let asked: Object = [("query", trunkline_wire::Json::from(*question))].into_iter().collect();
            let answer: Value = find(&catalog, &asked).expect("an answer").to_json().decode().expect("JSON");
            let tools = answer["tools"].as_array().expect("tools");
            let is_right = |tool: &Value| right.iter().any(|right| tool["name"] == *right);
            enough += usize::from(tools.iter().take(schemas).any(is_right));
            let request = json!({ "name": "find_tools", "arguments": { "query": question } }).to_string();
            rounds.push(tokenizer.count(&request) + tokenizer.count(&with_schemas(&answer, schemas)));
        }
        rounds.sort_unstable();
        let (median, most) = (rounds[rounds.len() / 2], rounds[rounds.len() * 95 / 100]);
        println!(
            "schemas of the first {schemas}: a search is {median} tokens in the median, {most} in 95 of 100; {enough} of {} have the \
             right tool's; as many as all listed after {} searches",
            questions.len(),
            (all - instead) / median
        );
    }
}
