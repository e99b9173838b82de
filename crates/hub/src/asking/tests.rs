//! What questions look like to each revision, and how they find their answers.

use super::*;
use crate::fakes;

fn server() -> ServerName {
    ServerName::new("billing").expect("a name")
}

fn question(method: Method, params: &'static str) -> Question {
    Question { key: "q1".into(), method, params: Some(Json::literal(params)) }
}

fn legacy(method: Method, params: &'static str, revision: Revision) -> Option<String> {
    let params = for_legacy(&question(method, params), &server(), revision)?;
    Some(String::from_utf8(params.to_json().into_bytes().to_vec()).expect("text"))
}

#[test]
fn s40_a_person_sees_who_asks_and_the_rest_is_the_servers() {
    let params = r#"{"x":1e2,"message":"Which?","requestedSchema":{"type":"object","properties":{}},"task":{},"_meta":{"progressToken":1,"a/b":2}}"#;
    for revision in [Revision::V2025_06_18, Revision::V2025_11_25] {
        assert_eq!(
            legacy(Method::ElicitationCreate, params, revision).as_deref(),
            Some(
                r#"{"x":1e2,"message":"[billing] Which?","requestedSchema":{"type":"object","properties":{}},"_meta":{"a/b":2}}"#
            )
        );
    }
}

#[test]
fn an_url_gets_an_id_where_the_client_needs_one_and_loses_it_where_not() {
    let params = r#"{"mode":"url","message":"m","url":"https://x/"}"#;
    let shown = legacy(Method::ElicitationCreate, params, Revision::V2025_11_25).expect("it can be shown");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["elicitationId"].as_str().map(str::len), Some(36), "{shown}");
    assert_eq!(shown["url"], "https://x/");
    let own = r#"{"mode":"url","message":"m","url":"https://x/","elicitationId":"e"}"#;
    assert!(
        legacy(Method::ElicitationCreate, own, Revision::V2025_11_25)
            .expect("shown")
            .contains(r#""elicitationId":"e""#)
    );
    assert_eq!(for_modern(&question(Method::ElicitationCreate, own), &server()).get("elicitationId"), None);
}

#[test]
fn an_older_client_gets_the_form_it_can_show_or_none() {
    let form = r#"{"mode":"form","message":"m","requestedSchema":{"type":"object","properties":{
        "a":{"type":"string","oneOf":[{"const":"x","title":"X"},{"const":"y","title":"Y"}],"default":"x"},
        "b":{"type":"boolean","default":true}}}}"#;
    let shown = legacy(Method::ElicitationCreate, form, Revision::V2025_06_18).expect("it can be shown");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown.get("mode"), None);
    let fields = &shown["requestedSchema"]["properties"];
    assert_eq!(fields["a"], json!({"type":"string","enum":["x","y"],"enumNames":["X","Y"]}));
    assert_eq!(fields["b"], json!({"type":"boolean","default":true}));
    let several = r#"{"message":"m","requestedSchema":{"type":"object","properties":{"a":{"type":"array","items":{"enum":["x"]}}}}}"#;
    assert_eq!(legacy(Method::ElicitationCreate, several, Revision::V2025_06_18), None);
    assert!(legacy(Method::ElicitationCreate, several, Revision::V2025_11_25).is_some());
}

#[test]
fn sampling_fits_the_older_clients_and_names_no_context() {
    let one = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"t"}]}],"includeContext":"thisServer","maxTokens":5}"#;
    let shown = legacy(Method::SamplingCreateMessage, one, Revision::V2025_06_18).expect("it can be shown");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["messages"][0]["content"], json!({"type":"text","text":"t"}));
    assert_eq!((shown["includeContext"].as_str(), shown["maxTokens"].as_u64()), (Some("none"), Some(5)));
    for other in [
        r#"{"messages":[{"role":"user","content":[]}]}"#,
        r#"{"messages":[{"role":"user","content":{"type":"tool_result"}}]}"#,
    ] {
        assert_eq!(legacy(Method::SamplingCreateMessage, other, Revision::V2025_06_18), None, "{other}");
        assert!(legacy(Method::SamplingCreateMessage, other, Revision::V2025_11_25).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_finds_its_question_and_a_second_one_nothing() {
    let hub = fakes::hub(&[], &trunkline_config::Config::default());
    let session = fakes::session(&hub, "2025-11-25");
    let outbox = Arc::new(Outbox::new(Id::from(7), session.purse().clone()));
    let leg = Leg::put(&session, &outbox, &Method::RootsList, &Object::new());
    let id = leg.id.clone();
    assert!(!session.questions().answered(&Id::from(1), Ok(Json::literal("{}"))), "nobody asked that");
    assert!(session.questions().answered(&id, Ok(Json::literal(r#"{"roots":[]}"#))));
    assert!(!session.questions().answered(&id, Ok(Json::literal("{}"))));
    assert_eq!(leg.await, Ok(Json::literal(r#"{"roots":[]}"#)));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let hub = fakes::hub(&[], &trunkline_config::Config::default());
    let session = fakes::session(&hub, "2025-11-25");
    let outbox = Arc::new(Outbox::new(Id::from(7), session.purse().clone()));
    let leg = Leg::put(&session, &outbox, &Method::ElicitationCreate, &Object::new());
    assert_eq!(leg.await, Ok(Json::literal(r#"{"action":"cancel"}"#)));
}

#[test]
fn s40_a_page_is_safe_by_https_or_on_this_machine_and_nowhere_else() {
    for safe in [
        "https://example.com/sign?x=http://y",
        "HTTPS://Example.com",
        "http://127.0.0.1:8080/x",
        "http://localhost",
        "http://[::1]:9/",
    ] {
        assert!(is_safe_page(safe), "{safe}");
    }
    for unsafe_one in [
        "http://example.com",
        "http://127.0.0.1.evil.example/",
        "http://localhost@evil.example/",
        r"http://evil.example\@127.0.0.1/",
        "http://127.0.0.1:80@evil.example",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "https://",
        "https://x\ny",
        " https://x",
        "example.com",
        "",
    ] {
        assert!(!is_safe_page(unsafe_one), "{unsafe_one}");
    }
    // What has no page is judged by others.
    assert!(!misleads(&question(Method::ElicitationCreate, r#"{"mode":"form","url":"http://x"}"#)));
    assert!(misleads(&question(Method::ElicitationCreate, r#"{"mode":"url"}"#)));
}
