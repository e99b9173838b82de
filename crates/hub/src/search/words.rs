//! Words of tools and of questions about them, in one form: small, without endings, and with the groups they belong to.
//!
//! People say "add a ticket" where a tool says `create_issue`. Endings are cut by Snowball's English stemmer. Beyond that
//! there is one short table of words that mean the same of *any* tool: what is done (make, look up, take away, send) and what
//! nearly every kind of server has (messages, files, people). A word that matches by its group counts less than the word
//! itself (`mod.rs`). Nothing here knows a server.
//!
//! Other languages than English are split and compared as they are written.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};

/// Words that say nothing of a tool.
const EMPTY: &[&str] = &[
    "a", "about", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "could", "did", "do",
    "does", "for", "from", "had", "has", "have", "he", "her", "him", "his", "how", "i", "if", "in", "into", "is", "it",
    "its", "just", "let", "like", "me", "mine", "my", "need", "of", "on", "one", "or", "our", "out", "please", "she",
    "should", "so", "some", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those",
    "to", "tool", "up", "us", "use", "using", "want", "was", "we", "were", "what", "when", "where", "which", "will",
    "with", "would", "you", "your",
];

/// Words that mean about the same, as they are written; a word may stand in several groups.
const ALIKE: &[&[&str]] = &[
    // What is done.
    &[
        "create", "add", "new", "make", "insert", "generate", "compose", "write", "open", "raise", "put", "set",
        "register",
    ],
    &["append", "bottom", "end", "last", "below", "add"],
    &["list", "show", "all", "enumerate", "browse", "every", "everything", "see"],
    &[
        "get", "read", "fetch", "retrieve", "view", "show", "open", "display", "details", "look", "see", "content",
        "inside", "tell",
    ],
    &[
        "update", "edit", "change", "modify", "set", "alter", "adjust", "rename", "replace", "correct", "fix", "touch",
        "mark",
    ],
    &[
        "delete", "remove", "drop", "erase", "destroy", "discard", "trash", "purge", "rid", "bin", "wipe", "clear",
        "clean",
    ],
    &["search", "find", "query", "lookup", "look", "locate", "seek", "discover", "match", "mention"],
    &["send", "post", "deliver", "publish", "write", "notify", "tell", "push", "share", "email", "mail"],
    &["run", "execute", "start", "launch", "trigger", "invoke", "begin", "perform", "call", "boot", "play"],
    &["stop", "cancel", "abort", "kill", "terminate", "halt", "end", "quit", "pause", "suspend", "close"],
    &["close", "resolve", "solve", "finish", "complete", "done", "finalize", "over", "fixed"],
    &["move", "transfer", "relocate", "drag"],
    &["copy", "duplicate", "clone", "fork", "reproduce"],
    &["download", "export", "save", "store", "dump", "backup", "back"],
    &["upload", "attach", "import", "put", "store"],
    &[
        "comment",
        "note",
        "remark",
        "annotate",
        "annotation",
        "feedback",
        "leave",
        "reply",
        "answer",
        "respond",
        "response",
    ],
    &["assign", "assignee", "owner", "responsible", "hand", "give"],
    &["invite", "add", "share", "collaborator", "access", "bring"],
    &["restart", "rerun", "retry", "again", "reboot", "repeat", "resume", "redo"],
    &["undo", "revert", "rollback", "restore", "back", "previous", "earlier", "older"],
    &["disable", "off", "deactivate", "mute", "silence", "snooze", "quiet", "toggle", "switch"],
    &["enable", "on", "activate", "switch", "toggle", "turn"],
    &["approve", "accept", "confirm", "agree", "permit", "allow", "sign", "yes"],
    &["reject", "decline", "refuse", "deny", "no"],
    &["schedule", "plan", "book", "arrange", "later", "appointment"],
    &["deploy", "release", "ship", "rollout", "publish", "promote", "changelog"],
    &["merge", "combine", "join", "land", "squash", "mr"],
    &["explain", "why", "cause", "reason", "describe"],
    &["compare", "diff", "difference", "change", "touch"],
    &["count", "number", "many", "total", "sum", "statistic", "stats"],
    &["click", "press", "tap", "hit", "push"],
    &["scan", "scanner", "finding", "check", "inspect", "analyze"],
    &["commit", "push"],
    &["forecast", "predict", "prediction", "expect"],
    &["summary", "recap", "summarize", "overview", "digest"],
    &["top", "most", "highest", "biggest"],
    // What it is done to.
    &["issue", "ticket", "bug", "story", "defect", "report"],
    &["task", "todo", "reminder", "chore"],
    &["message", "chat", "text", "dm", "conversation", "post", "direct", "private"],
    &["email", "mail", "inbox", "message", "newsletter", "mailing"],
    &["meeting", "event", "appointment", "call", "conference", "invitation"],
    &["calendar", "agenda", "schedule"],
    &["file", "document", "doc", "attachment", "pdf"],
    &["page", "article", "doc", "note", "wiki"],
    &["folder", "directory", "dir"],
    &["filesystem", "disk", "local"],
    &["picture", "image", "photo", "screenshot", "png", "visual"],
    &["chart", "graph", "plot", "diagram", "metric"],
    &["format", "style", "font", "color", "colour", "bold"],
    &[
        "user",
        "member",
        "person",
        "people",
        "somebody",
        "someone",
        "everybody",
        "everyone",
        "who",
        "colleague",
        "contact",
        "coworker",
        "teammate",
    ],
    &["team", "group", "crew"],
    &["customer", "client", "buyer", "contact", "account"],
    &["bill", "invoice"],
    &["payment", "pay", "charge", "money", "transaction", "fund", "balance"],
    &["cost", "price", "expense", "spend", "fee"],
    &["sale", "sell", "deal", "opportunity", "revenue"],
    &["refund", "return", "reimburse", "back"],
    &["coupon", "voucher", "discount"],
    &["pr", "pull"],
    &["repository", "repo"],
    &["database", "db", "sql"],
    &["table", "column", "schema", "structure"],
    &["row", "record", "entry", "line", "item", "document", "bullet"],
    &["log", "output", "trace", "console", "print"],
    &["error", "exception", "crash", "failure", "fail", "broken", "break", "outage", "incident", "problem"],
    &["slow", "latency", "performance", "expensive", "speed", "fast"],
    &["metric", "measure", "statistic", "stats", "analytics", "usage", "report"],
    &["status", "state", "health", "progress", "going", "condition", "transition", "done", "stage"],
    &["build", "pipeline", "ci", "workflow"],
    &["history", "past", "recent", "previous", "version", "revision", "latest", "newest"],
    &["now", "current", "moment", "running", "today", "realtime"],
    &["machine", "instance", "node", "host", "vm", "server"],
    &["permission", "access", "role", "right", "policy"],
    &["secret", "password", "credential", "key", "token"],
    &["setting", "config", "configuration", "variable", "option", "environment", "env"],
    &["vulnerability", "security", "flaw", "cve", "risk"],
    &["dependency", "library", "package", "module"],
    &["dependency", "block", "start"],
    &["place", "location", "restaurant", "business", "shop", "pharmacy", "hotel", "nearby"],
    &["route", "direction", "way", "travel", "airport", "train", "bus", "transit", "car"],
    &["web", "internet", "online", "site", "website", "url", "link", "homepage", "browser", "www"],
    &["dns", "domain", "www", "ip"],
    &["song", "track", "music", "play", "playback", "album", "jazz"],
    &["sms", "text", "phone"],
    &["speech", "voice", "audio", "sound", "spoken", "speak", "aloud", "loud", "say"],
    &["transcript", "transcribe", "caption", "said", "words"],
    &["label", "tag", "category"],
    &["alert", "alarm", "warning", "monitor", "notification"],
    &["oncall", "duty", "shift", "paging"],
    &["vacation", "leave", "holiday", "away", "absence", "pto", "off", "office"],
    &["flag", "feature", "switch"],
    &["size", "space", "big", "large", "quota", "storage", "room"],
    &["form", "field", "input"],
    &["date", "day", "today", "tomorrow", "due", "week"],
    &["free", "available", "availability", "slot", "presence", "online", "busy"],
    &["weather", "rain", "snow", "temperature", "wind", "forecast"],
    &["light", "lamp", "bright", "dim"],
    &["news", "newspaper", "headline"],
    &["paper", "academic", "literature", "study"],
    &["fix", "mend", "patch"],
    &["hour", "opening", "close"],
    &["checkout", "switch", "change"],
    &["k8s", "kubernetes"],
    // What begins a question asks to be told.
    &[
        "list", "get", "search", "read", "show", "query", "find", "retrieve", "fetch", "describe", "what", "which",
        "who", "where", "when", "how", "is", "are",
    ],
];

/// What a word is known by besides itself: the numbers of its groups.
static GROUPS: LazyLock<HashMap<String, Vec<u16>>> = LazyLock::new(|| {
    let mut groups: HashMap<String, Vec<u16>> = HashMap::new();
    for (number, words) in (0_u16..).zip(ALIKE) {
        for word in *words {
            let known = groups.entry(stem(word).into_owned()).or_default();
            if known.last() != Some(&number) {
                known.push(number);
            }
        }
    }
    groups
});

/// Longest word that is looked at: longer ones are hashes and encoded data.
const WORD_BYTES_MAX: usize = 40;

/// The words of a text: split at everything that is no letter or digit, and at humps, but for `proper` names such as `GitHub`;
/// without those that say nothing.
pub(super) fn words(text: &str, proper: &HashSet<String>) -> Vec<String> {
    let mut out = Vec::new();
    for part in text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()) {
        let whole = stem(&part.to_lowercase()).into_owned();
        if proper.contains(&whole) {
            out.push(whole);
            continue;
        }
        out.extend(humps(part).into_iter().filter_map(|part| {
            let small = part.to_lowercase();
            let says = small.len() <= WORD_BYTES_MAX && EMPTY.binary_search(&small.as_str()).is_err();
            says.then(|| stem(&small).into_owned())
        }));
    }
    out
}

/// The words of a question. What it begins with tells whether something is to be shown or done, and what looks like a file, a
/// domain or an identifier is one.
pub(super) fn asked(query: &str, proper: &HashSet<String>) -> Vec<String> {
    let first = query.split(|c: char| !c.is_alphanumeric()).find(|part| !part.is_empty()).unwrap_or_default();
    let first = first.to_lowercase();
    let asks = matches!(&*first, "what" | "which" | "who" | "where" | "when" | "how" | "is" | "are");
    let kinds =
        query.split_whitespace().filter_map(|part| kind(part.trim_matches(|c: char| !c.is_alphanumeric()), proper));
    let mut out: Vec<String> = Vec::new();
    for word in asks.then_some(first).into_iter().chain(words(query, proper)).chain(kinds.map(str::to_owned)) {
        if !out.contains(&word) {
            out.push(word);
        }
    }
    out
}

/// What a part of a question is, by its looks.
fn kind(part: &str, proper: &HashSet<String>) -> Option<&'static str> {
    if let Some((name, end)) = part.rsplit_once('.') {
        let is_end = (2..=4).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_lowercase());
        let kind = match end {
            "com" | "org" | "net" => "url",
            "dev" | "io" | "app" => "domain",
            _ => "file",
        };
        return (is_end && !name.is_empty()).then_some(kind);
    }
    let is_identifier = part.starts_with(|c: char| c.is_lowercase()) && humps(part).len() > 1;
    (is_identifier && !proper.contains(&*stem(&part.to_lowercase()))).then_some("code")
}

/// The words of a server's name: humps are no borders in it.
pub(super) fn of_name(name: &str) -> Vec<String> {
    let parts = name.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(|part| stem(&part.to_lowercase()).into_owned()).collect()
}

/// The groups that a word of [`words`] belongs to.
pub(super) fn groups(word: &str) -> &'static [u16] {
    GROUPS.get(word).map_or(&[], Vec::as_slice)
}

/// How many groups there are.
pub(super) fn group_count() -> usize {
    ALIKE.len()
}

fn stem(word: &str) -> Cow<'_, str> {
    static ENGLISH: LazyLock<Stemmer> = LazyLock::new(|| Stemmer::create(Algorithm::English));
    ENGLISH.stem(word)
}

/// `getIssueByID` is `get`, `Issue`, `By`, `ID`; and `route53` is `route`, `53`, while `s3` and `k8s` stay.
fn humps(part: &str) -> Vec<&str> {
    let letters: Vec<(usize, char)> = part.char_indices().collect();
    let mut out = Vec::new();
    let mut from = 0;
    for at in 1..letters.len() {
        let (before, here) = (letters[at - 1].1, letters[at].1);
        let next_is_small = letters.get(at + 1).is_some_and(|(_, next)| next.is_lowercase());
        let counts = here.is_ascii_digit() && before.is_lowercase() && letters[at].0 - from > 2;
        if counts || here.is_uppercase() && (before.is_lowercase() || (before.is_uppercase() && next_is_small)) {
            out.push(&part[from..letters[at].0]);
            from = letters[at].0;
        }
    }
    out.push(&part[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        words(text, &HashSet::new())
    }

    #[test]
    fn names_are_split_as_their_authors_meant_them() {
        assert_eq!(split("github__get_pull-request"), ["github", "get", "pull", "request"]);
        assert_eq!(
            split("getJSONFileHTTP2 s3.put route53 k8s"),
            ["get", "json", "file", "http2", "s3", "put", "rout", "53", "k8s"]
        );
        assert_eq!(split("Überblick日本"), ["überblick日本"]);
        assert_eq!(split("Please, can you list the issues?"), ["list", "issu"]);
        assert_eq!(words("my GitHub", &HashSet::from(["github".to_owned()])), ["github"]);
        assert!(split(&"x".repeat(WORD_BYTES_MAX + 1)).is_empty());
    }

    #[test]
    fn words_of_one_meaning_share_a_group_and_others_do_not() {
        let share = |a: &str, b: &str| {
            let (a, b) = (split(a), split(b));
            groups(&a[0]).iter().any(|group| groups(&b[0]).contains(group))
        };
        assert!(share("tickets", "issue") && share("removing", "delete") && share("repo", "repositories"));
        assert!(!share("delete", "create") && !share("invoice", "pod"));
    }

    #[test]
    fn the_words_that_say_nothing_are_in_order_so_that_they_are_found() {
        assert!(EMPTY.is_sorted());
    }
}
