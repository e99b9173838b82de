use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::corpus::{HELD_OUT, OTHERS, QUESTIONS, UNSEEN, index, questions, tools};
use super::*;

/// How many questions there are, of how many a right tool came first, and of how many none was among the first five and ten.
#[derive(Debug, Default)]
struct Tried {
    count: usize,
    first: usize,
    not_in_five: usize,
    not_in_ten: usize,
}

/// Asks the questions of a file: in each line one, and the tools that are right.
fn tried(list: &'static str) -> Tried {
    let tools = tools();
    assert!(tools.len() >= 1000, "{} tools", tools.len());
    let index = index(&tools);
    let names: Vec<String> = tools.iter().map(corpus::Tool::exposed).collect();
    let mut tried = Tried::default();
    for (question, right) in questions(list) {
        for name in &right {
            assert!(names.iter().any(|known| known == name), "there is no {name}");
        }
        let found: Vec<&str> = index.find(question, 10, |_| true).into_iter().map(|at| &*names[at]).collect();
        let place = found.iter().position(|name| right.contains(name));
        tried.count += 1;
        tried.first += usize::from(place == Some(0));
        tried.not_in_five += usize::from(place.is_none_or(|place| place >= 5));
        tried.not_in_ten += usize::from(place.is_none());
        if place.is_none_or(|place| place >= 5) {
            println!("{question}: not {right:?} but {found:?}");
        }
    }
    println!("{} tools: {tried:?}", tools.len());
    tried
}

/// There are three lists that the ranking was mended with. The first was written with the corpus and the first ranking, by their writer. The second was written in
/// one go when that ranking was done, and showed what it was worth with words that it was not made for: 80 %. The third is by
/// somebody who knew the tools and neither the ranking nor its words, as one would ask a colleague or a model; half name the
/// product. Words and weights were mended with all of them since, each time in general ways, and the questions left alone.
/// What came of questions before anything was mended with them is in `docs/search.md`.
fn is_among_five(list: &'static str, at_least: usize) {
    let tried = tried(list);
    assert!(tried.count >= at_least && tried.not_in_five * 100 <= tried.count * 5, "{tried:?}");
}

#[test]
fn the_right_tool_is_among_the_first_five_for_95_of_100_questions() {
    is_among_five(QUESTIONS, 200);
}

#[test]
fn the_right_tool_is_among_the_first_five_for_95_of_100_questions_that_were_held_out_once() {
    is_among_five(HELD_OUT, 60);
}

#[test]
fn the_right_tool_is_among_the_first_five_for_95_of_100_questions_of_somebody_else() {
    is_among_five(OTHERS, 150);
}

/// The fourth list was asked once, when the ranking was done, and nothing was mended with it: 108 of 120. It is what a stranger
/// may expect, so it has to stay good, and to stay unread.
#[test]
fn questions_that_nothing_was_mended_with_are_served_nearly_as_well() {
    let tried = tried(UNSEEN);
    assert!(tried.count == 120 && tried.not_in_five <= 15, "{tried:?}");
}

#[test]
fn the_tools_of_the_corpus_have_names_of_their_own() {
    let names: Vec<String> = tools().iter().map(corpus::Tool::exposed).collect();
    let distinct: HashSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
}

fn found(tools: &[(&str, &str, &str)], query: &str) -> Vec<String> {
    let body = |text: &str| Json::encode(&serde_json::json!({ "description": text }));
    let bodies: Vec<Json> = tools.iter().map(|(_, _, text)| body(text)).collect();
    let documents = tools.iter().zip(&bodies).map(|((server, name, _), body)| Document { name, server, body });
    let index = Index::new(documents);
    index.find(query, 10, |_| true).into_iter().map(|at| format!("{}.{}", tools[at].0, tools[at].1)).collect()
}

#[test]
fn equal_tools_come_in_the_order_of_the_list_and_what_fits_nothing_is_not_found() {
    let tools = [("b", "read_mail", "Mail"), ("a", "read_mail", "Mail"), ("c", "play", "Music")];
    assert_eq!(found(&tools, "read mail"), ["b.read_mail", "a.read_mail"]);
    assert!(found(&tools, "quasar").is_empty() && found(&tools, "").is_empty() && found(&[], "mail").is_empty());
}

#[test]
fn a_word_with_one_wrong_letter_and_the_beginning_of_one_are_understood() {
    let tools = [("x", "list_invoices", "Invoices"), ("y", "resize", "Thumbnails")];
    assert_eq!(found(&tools, "thumbnials"), ["y.resize"]);
    assert_eq!(found(&tools, "thumb"), ["y.resize"]);
    assert!(found(&tools, "thombneyls").is_empty());
    let tools = [("x", "list_4712_invoices", "Invoices")];
    assert!(found(&tools, "4713").is_empty() && found(&tools, "47123").is_empty(), "another number is another");
    let asked = "Anna Peter Julia Maria Texas lists all thubmnails and invoicse";
    assert_eq!(found(&tools, asked), ["x.list_4712_invoices"], "after names that nobody knows");
}

#[test]
fn whoever_names_the_server_gets_its_tools_first() {
    let tools = [("jira", "create_issue", "New issue"), ("linear", "create_issue", "New issue")];
    assert_eq!(found(&tools, "file a ticket in Linear")[0], "linear.create_issue");
    assert_eq!(found(&tools, "file a ticket in Jira")[0], "jira.create_issue");
}

#[test]
fn a_tool_that_is_not_wanted_is_not_found_and_takes_no_place() {
    let tools = tools();
    let index = index(&tools);
    let all = index.find("create an issue", 3, |_| true);
    assert_eq!(index.find("create an issue", 2, |at| at != all[0]), all[1..]);
}

#[test]
fn a_question_of_any_length_is_answered_by_its_first_words() {
    let tools = tools();
    let index = index(&tools);
    let long = "list every pod ".to_owned() + &"zebra 日本 ".repeat(100_000);
    assert_eq!(index.find(&long, 5, |_| true), index.find("list every pod", 5, |_| true));
}

/// `make bench-search`: how long it takes to read 2,000 tools, and to find some of them.
#[test]
#[ignore = "a measurement; it proves nothing"]
fn reading_and_finding_in_2000_tools_takes_this_long() {
    let once = tools();
    let more = once.iter().map(|tool| (format!("{}_two", tool.server), tool));
    let tools: Vec<(String, &corpus::Tool)> =
        once.iter().map(|tool| (tool.server.clone(), tool)).chain(more).take(2000).collect();
    let documents = || tools.iter().map(|(server, tool)| Document { name: &tool.name, server, body: &tool.body });
    let began = Instant::now();
    let index = Index::new(documents());
    println!("reading {} tools, and the table of words: {:?}", tools.len(), began.elapsed());
    let began = Instant::now();
    drop(Index::new(documents()));
    println!("reading them again: {:?}", began.elapsed());
    let questions: Vec<String> = [QUESTIONS, HELD_OUT, OTHERS]
        .into_iter()
        .flat_map(questions)
        .map(|(question, _)| question.to_owned())
        .collect();
    let unknown = |at: usize| (0..32).map(|word| format!("qzx{at}wv{word}yk")).collect::<Vec<_>>().join(" ");
    for (what, asked) in [("questions", questions), ("32 words that nobody knows", (0..400).map(unknown).collect())] {
        let find = |question: &String| {
            let began = Instant::now();
            std::hint::black_box(index.find(question, 8, |_| true));
            began.elapsed()
        };
        let mut took: Vec<Duration> = asked.iter().cycle().take(4000).map(find).collect();
        took.sort_unstable();
        println!("{what}: median {:?}, 99 of 100 within {:?}, at most {:?}", took[2000], took[3960], took[3999]);
    }
}
