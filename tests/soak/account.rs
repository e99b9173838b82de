//! What became of the requests: each has one answer, whoever was left alone was served, and what was told of
//! effects is what happened.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::callers::Answered;
use crate::harness::client::json;
use crate::stage::Stage;

/// What became of the requests.
#[derive(Default)]
pub(crate) struct Account {
    /// Requests by kind of client and method.
    pub(crate) asked: BTreeMap<String, u64>,
    /// Answers by what they said.
    pub(crate) answered: BTreeMap<String, u64>,
    /// Milliseconds to the answer of the servers that were left alone, calls that wait on purpose left out.
    pub(crate) calm_ms: Vec<f64>,
    /// What the callers of tools with an effect were told, by nonce: the server, and what is known.
    effects: BTreeMap<String, (String, Told)>,
    pub(crate) complaints: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Done,
    /// It surely did not happen.
    Not,
    /// Nobody can know.
    Unknown,
}

impl Account {
    /// Takes down one request and what came back.
    pub(crate) fn take(&mut self, ended: Result<Answered, tokio::task::JoinError>) {
        let answered = match ended {
            Ok(answered) => answered,
            Err(error) => {
                let panic = error.into_panic();
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                self.complaints.push(format!("a request failed: {}", text.unwrap_or_default()));
                return;
            }
        };
        let Some(id) = &answered.id else {
            let word = if answered.lost { "(lost with a daemon)" } else { "(nobody waited)" };
            *self.answered.entry(word.to_owned()).or_default() += 1;
            if let Some(nonce) = answered.deed.nonce {
                self.effects.insert(nonce, (answered.deed.server, Told::Unknown));
            }
            return;
        };
        // The fakes have numbers that no double holds.
        let parsed = answered.messages.iter().filter(|message| !message.is_empty());
        let parsed = parsed.map(|message| json(&message.replace("1e400", "0")));
        let answers: Vec<Value> = parsed.filter(|message| message["method"].is_null()).collect();
        let line = format!("{} {} {}", answered.who, answered.deed.method, answered.deed.params);
        let [answer] = answers.as_slice() else {
            self.complaints.push(format!("{} answers (R-6) to {id}: {line}", answers.len()));
            return;
        };
        if answer["id"].as_u64() != Some(*id) {
            self.complaints.push(format!("{id} is answered as {}: {line}", answer["id"]));
        }
        let failed = !answer["error"].is_null();
        let fault = if failed { &answer["error"]["data"] } else { &answer["result"]["_meta"]["dev.trunkline/fault"] };
        let outcome = fault["outcome"].as_str();
        let word = match fault["name"].as_str() {
            Some(name) => format!("{name} {}", outcome.unwrap_or("?")),
            None if failed => format!("error {}", answer["error"]["code"]),
            None if answer["result"]["isError"] == true => "a server's own failure".to_owned(),
            None => "a result".to_owned(),
        };
        let cancelled = answer["error"]["code"] == -32800;
        let good = word == "a result";
        if answered.deed.calm && !good && !cancelled {
            self.complaints.push(format!("a server that was left alone failed (R-1): {line}: {answer}"));
        }
        if answered.deed.calm && answered.deed.prompt && good {
            self.calm_ms.push(answered.took.as_secs_f64() * 1000.0);
        }
        if let Some(nonce) = answered.deed.nonce {
            let told = match outcome {
                Some("not_sent" | "refused") => Told::Not,
                // Its server is not in the file just now, so there is no such tool.
                None if answer["error"]["code"] == -32602 => Told::Not,
                _ if good => Told::Done,
                _ => Told::Unknown,
            };
            self.effects.insert(nonce, (answered.deed.server, told));
        }
        *self.answered.entry(word).or_default() += 1;
    }

    /// Holds what the servers did against what the callers were told.
    pub(crate) fn check_effects(&mut self, stage: &Stage) {
        let mut done: BTreeMap<(String, String), u64> = BTreeMap::new();
        for server in &stage.servers {
            for nonce in server.desk.lines("effects") {
                *done.entry((server.name.to_owned(), nonce)).or_default() += 1;
            }
        }
        for (nonce, (server, told)) in &self.effects {
            let times = done.get(&(server.clone(), nonce.clone())).copied().unwrap_or_default();
            let true_told = match told {
                Told::Done => times == 1,
                Told::Not => times == 0,
                Told::Unknown => times <= 1,
            };
            if !true_told {
                let text = format!("the effect {nonce} of {server} happened {times} times, and was told as {told:?}");
                self.complaints.push(text);
            }
        }
    }

    /// Effects by what was told of them.
    pub(crate) fn told(&self) -> BTreeMap<String, u64> {
        let mut told = BTreeMap::new();
        for (_, word) in self.effects.values() {
            *told.entry(format!("{word:?}")).or_default() += 1;
        }
        told
    }
}
