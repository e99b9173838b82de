use super::*;

fn split(text: &str) -> Vec<Box<str>> {
    words(text, &HashSet::new())
}

/// Whether somebody who asks this may mean the word.
fn means(question: &str, word: &str) -> bool {
    let word = Related::table().form(word);
    asked(question, &HashSet::new())
        .iter()
        .any(|asked| asked.word.as_ref() == Some(&word) || asked.meant.iter().any(|(meant, _)| *meant == word))
}

fn split_as(text: &str, words: &[&str]) {
    assert_eq!(split(text).iter().map(|word| &**word).collect::<Vec<_>>(), words, "{text}");
}

#[test]
fn names_are_split_as_their_authors_meant_them() {
    split_as("linear__get_git-requester", &["linear", "get", "git", "request"]);
    split_as("getJSONFileHTTP2 s3.put route53", &["get", "json", "file", "http2", "s3", "put", "rout", "53"]);
    split_as("Überblick日本", &["überblick日本"]);
    split_as("Please, can you list the issues?", &["list", "issu"]);
    assert_eq!(words("my GitHub", &HashSet::from(["github".to_owned()])), ["github".into()]);
    assert!(split(&"x".repeat(WORD_BYTES_MAX + 1)).is_empty());
}

#[test]
fn forms_spellings_and_abbreviations_are_one_word() {
    for (a, b) in [
        ("sent", "send"),
        ("repos", "repository"),
        ("k8s", "kubernetes"),
        ("organisation", "organization"),
        ("colours", "color"),
    ] {
        assert_eq!(split(a), split(b));
    }
    assert!(split("Sign in to it").contains(&Related::table().form("login")), "a phrase is one too");
}

#[test]
fn a_question_means_words_that_it_does_not_have_and_not_all_others() {
    assert!(means("add a ticket", "create") && means("add a ticket", "issue"));
    assert!(means("get rid of the branch", "delete") && means("who is on call", "oncall"));
    assert!(!means("delete the branch", "create") && !means("list the pods", "invoice"));
    assert!(means("the money that came in", "payment") && !means("make a payment", "money"), "one way only");
}

#[test]
fn the_halves_of_a_phrase_may_stand_apart_and_a_first_word_is_what_is_done() {
    assert!(means("pass this mail on to Ann", "forward") && !means("pass the test", "forward"));
    assert!(means("email the numbers to Bob", "send") && !means("the newest email", "send"));
}

#[test]
fn what_looks_like_something_is_that() {
    let like = |question: &str, word: &str| means(question, word);
    assert!(
        like("what about ABC-12", "issue")
            && like("open notes.txt", "file")
            && like("write to a@b.example.com", "email")
    );
    assert!(
        like("what is in #general", "channel")
            && like("get https://example.com/", "url")
            && like("ring +491705", "phone")
    );
    assert!(like("where is parseConfig", "code") && like("who has example.dev", "domain"));
    assert!(!like("what about A-1", "issue") && !like("the end.", "file") && !like("@home", "email"));
}

#[test]
fn the_words_that_say_nothing_are_in_order_so_that_they_are_found() {
    assert!(EMPTY.is_sorted() && PARTICLES.is_sorted());
}
