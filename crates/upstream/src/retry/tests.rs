//! The table against the document's own, cell by cell, and what follows from it.

use super::*;

const FAULTS: [FaultPoint; 8] = [
    FaultPoint::NothingSent,
    FaultPoint::RefusedBeforeRun,
    FaultPoint::LostUnanswered,
    FaultPoint::ServerFailed,
    FaultPoint::BrokenMidway,
    FaultPoint::Unreadable,
    FaultPoint::SessionGone,
    FaultPoint::NeedsAuth,
];

/// The table of reliability 5, row by row in its order, with what stands in each cell.
const DOCUMENT: &str = "
initialize | R | R | R | R | R | R | R | X (version answers renegotiate)
notifications/initialized | S | S | S | S | – | S | – | –
server/discover, ping | R | R | R | R | R | 1 | 1 | X (unknown method = alive)
lists | R | R | R | R | R | T (serve last good) | P (serve last good) | X
read, get, complete | R | R | R | R | 1 if nothing forwarded | T | P | X
the same with answers | R | 1 | U | U | U | T | P | X
logging/setLevel | R | R | R | R | R | S | S | X
subscribe, unsubscribe | R | R | S | S | S | S | S | X
subscriptions/listen | S | S | S | S | S | S | S | X
legacy GET stream | S | S | S | S | S | S | S | 405 = none
GET with last-event id | R | 1 | R | 1 | R | T | P | 404 → S
tools/call (default) | R | 1 | U | U | U | T | P | X
tools/call, trusted | R | R | 1 | 1 | 1 if nothing forwarded | T | P | X
tools/call with answers | R | 1 | U | U | U | T | P | X
tools/call that became a task | – | – | – | – | poll task | poll task | P | X
tasks/get, tasks/list, tasks/result | R | R | R | R | R | 1 | 1 | X
tasks/cancel | R | R | 1 | 1 | 1 | T | P | X
tasks/update | R | 1 | U | U | U | T | P | X
notifications | 1 within 1 s | drop | drop | drop | – | drop | – | –
client's answer | 1 same connection | drop | drop | drop | – | drop | – | –
upstream's request | never replayed | never replayed | never replayed | never replayed | never replayed | never replayed | never replayed | never replayed
session DELETE | 1, 2 s | drop | drop | drop | – | drop | – | –
OAuth metadata GET | R | R | R | R | 1 | 1 | X | –
OAuth code exchange | R | 1 | fail | fail | fail | fail | fail | X
OAuth refresh | R | 1 | 1 after 2 s, store re-read first | 1 | 1 | 1 | X | X
";

fn read(cell: &str) -> Mark {
    match cell.split(" (").next().expect("a cell").trim() {
        "R" => Retry,
        "1" => Once,
        "1 if nothing forwarded" => OnceIfQuiet,
        "1 within 1 s" => OnceSoon,
        "1 same connection" => OnceHere,
        "1, 2 s" => OnceBriefly,
        "1 after 2 s, store re-read first" => OnceLater,
        "S" => Restore,
        "U" => Unknown,
        "T" => Timeout,
        "P" => Protocol,
        "X" => Pass,
        "poll task" => Poll,
        "405 = none" => NoStream,
        "404 → S" => Renew,
        "drop" => Drop,
        "fail" => Fail,
        "never replayed" => Never,
        "–" => Nothing,
        other => panic!("an unknown mark: {other}"),
    }
}

#[test]
fn r18_the_table_is_the_documents_cell_by_cell() {
    let rows: Vec<&str> = DOCUMENT.trim().lines().collect();
    assert_eq!(rows.len(), TABLE.len());
    for (text, (row, marks)) in rows.iter().zip(TABLE) {
        let cells: Vec<Mark> = text.split(" | ").skip(1).map(read).collect();
        assert_eq!(cells, marks, "{row:?}: {text}");
    }
}

#[test]
fn r18_what_is_done_otherwise_has_a_reason_and_sends_nothing_twice_that_may_have_run() {
    for (row, columns, mark, why) in OTHERWISE {
        for column in *columns {
            assert_ne!(said(*row, *column), *mark, "{row:?} {column:?} is no exception");
        }
        assert!(why.len() > 30, "{row:?}: {why}");
    }
    for (row, _) in TABLE {
        for column in [Column::C, Column::D, Column::E, Column::F, Column::G] {
            if said(row, column) == Unknown {
                assert_eq!(deed(row, column), (Unknown, None), "{row:?} {column:?}");
            }
        }
    }
}

#[test]
fn r18_what_may_have_run_is_never_sent_again() {
    for row in [Row::Call, Row::CallAnswered, Row::ReadAnswered, Row::TaskUpdate] {
        let again = FAULTS.map(|fault| resend(row, fault, 0, true));
        assert_eq!(again, [true, true, false, false, false, false, true, false], "{row:?}");
        assert!(row.has_effects());
    }
    assert!(!Row::CallTrusted.has_effects());
}

#[test]
fn r18_what_is_not_known_may_have_effects() {
    for method in ["tools/call", "vendor/do", "tasks/list_changed"] {
        assert_eq!(Row::of(&Method::from(method), false, false), Row::Call, "{method}");
    }
    assert_eq!(Row::of(&Method::ToolsCall, false, true), Row::CallTrusted);
    assert_eq!(Row::of(&Method::ToolsCall, true, true), Row::CallAnswered, "an answer is given once, trust or not");
    assert_eq!(Row::of(&Method::PromptsGet, true, false), Row::ReadAnswered);
}

#[test]
fn a_look_at_a_task_is_repeated_its_cancellation_once_and_an_answer_never() {
    let again = |method: &str, resends| {
        let row = Row::of(&Method::from(method), false, false);
        [FaultPoint::LostUnanswered, FaultPoint::ServerFailed, FaultPoint::BrokenMidway]
            .map(|fault| resend(row, fault, resends, true))
    };
    assert_eq!((again("tasks/get", 0), again("tasks/get", 1)), ([true; 3], [true; 3]));
    assert_eq!((again("tasks/result", 0), again("tasks/result", 2)), ([true; 3], [false; 3]));
    assert_eq!((again("tasks/cancel", 0), again("tasks/cancel", 1)), ([true; 3], [false; 3]));
    assert_eq!(again("tasks/update", 0), [false; 3]);
}

#[test]
fn r17_every_request_ends() {
    for (row, _) in TABLE {
        assert!(FAULTS.iter().all(|fault| !resend(row, *fault, RESENDS_MAX, true)), "{row:?}");
    }
}

#[test]
fn a_read_is_not_repeated_into_the_middle_of_its_answer() {
    for row in [Row::Read, Row::CallTrusted] {
        assert!(resend(row, FaultPoint::BrokenMidway, 0, true));
        assert!(!resend(row, FaultPoint::BrokenMidway, 0, false));
    }
}

#[test]
fn what_nobody_waits_for_is_sent_again_only_if_it_was_not_sent() {
    for row in [Row::Notice, Row::Reply] {
        let again = FAULTS.map(|fault| resend(row, fault, 0, true));
        assert_eq!(again, [true, false, false, false, false, false, false, false], "{row:?}");
    }
    for row in [Row::Question, Row::Farewell] {
        assert!(FAULTS.iter().all(|fault| !resend(row, *fault, 0, true)), "{row:?}");
    }
}
