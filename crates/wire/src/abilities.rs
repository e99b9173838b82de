//! [`Abilities`]: what a client can be asked by a server, as far as the gateway can pass it on.
//!
//! A legacy client declares its capabilities once, at `initialize`, a modern one with each request. Either way they
//! are read here, cut down to what the client's revision defines (mcp-protocol 5.1), and shown to servers in the form
//! of [`Abilities::declaration`]. Settings inside a capability stay the client's own text.

use crate::extensions;
use crate::json::Json;
use crate::method::Method;
use crate::object::Object;
use crate::revision::Revision;

/// What a client can be asked. Cloning shares the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    elicitation: Option<Json>,
    sampling: Option<Json>,
    roots: bool,
    /// `extensions`, of the identifiers that are relayed.
    extensions: Option<Json>,
    /// Whether the tasks extension is among them.
    tasks: bool,
    /// All of it, as it is told: written once, told with each request.
    declaration: Json,
}

impl Default for Abilities {
    fn default() -> Self {
        Self::of(None, None, false, &Object::new())
    }
}

/// What a question needs that its client does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// `elicitation` as a whole.
    Elicitation,
    /// `elicitation.form`: the client takes URLs alone.
    Form,
    /// `elicitation.url`.
    Url,
    /// `sampling` as a whole.
    Sampling,
    /// `sampling.tools`.
    SamplingTools,
    /// `roots`.
    Roots,
    /// No revision has such a question.
    Unknown,
}

impl Abilities {
    /// Reads the `capabilities` that a client of `revision` declared.
    pub fn read(capabilities: &Object, revision: Revision) -> Self {
        let object = |key: &str| capabilities.get(key).filter(|value| value.is_object());
        let newest = revision >= Revision::V2025_11_25;
        let elicitation = object("elicitation")
            .filter(|_| revision >= Revision::V2025_06_18)
            .map(|value| if newest { value.clone() } else { Json::literal("{}") });
        let sampling = object("sampling").map(|value| if newest { value.clone() } else { Json::literal("{}") });
        let roots = object("roots").is_some();
        Self::of(elicitation, sampling, roots, &extensions::relayed(capabilities, revision))
    }

    fn of(elicitation: Option<Json>, sampling: Option<Json>, roots: bool, extensions: &Object) -> Self {
        let tasks = extensions.get(extensions::TASKS).is_some();
        let extensions = (!extensions.is_empty()).then(|| extensions.to_json());
        let listed = roots.then(|| Json::literal("{}"));
        let all =
            [("elicitation", &elicitation), ("sampling", &sampling), ("roots", &listed), ("extensions", &extensions)];
        let declaration = if all.iter().all(|(_, value)| value.is_none()) {
            Json::literal("{}")
        } else {
            all.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect::<Object>().to_json()
        };
        Self { elicitation, sampling, roots, extensions, tasks, declaration }
    }

    /// The client can be asked nothing on this exchange, whatever it declared.
    #[must_use]
    pub fn without_questions(&self) -> Self {
        let extensions = self.extensions.as_ref().and_then(|extensions| Object::parse(extensions).ok());
        Self::of(None, None, false, &extensions.unwrap_or_default())
    }

    /// The client is not to say which directories it works in, whatever it declared.
    #[must_use]
    pub fn without_roots(&self) -> Self {
        let extensions = self.extensions.as_ref().and_then(|extensions| Object::parse(extensions).ok());
        Self::of(self.elicitation.clone(), self.sampling.clone(), false, &extensions.unwrap_or_default())
    }

    /// The client capabilities that a modern server is told (mcp-protocol 4.9), an object.
    pub fn declaration(&self) -> &Json {
        &self.declaration
    }

    /// Whether a capability of this name is among those that a modern server is told.
    pub fn has(&self, capability: &str) -> bool {
        Object::parse(&self.declaration).is_ok_and(|declared| declared.get(capability).is_some())
    }

    /// Whether the client lists its roots.
    pub fn roots(&self) -> bool {
        self.roots
    }

    /// Whether the client follows tasks by itself: it declared the extension. Only a modern client can.
    pub fn tasks(&self) -> bool {
        self.tasks
    }

    /// Whether a question can be put to this client, or what it lacks.
    pub fn permits(&self, method: &Method, params: &Object) -> Result<(), Lack> {
        if *method == Method::ElicitationCreate {
            let Some(elicitation) = &self.elicitation else { return Err(Lack::Elicitation) };
            let modes = Object::parse(elicitation).unwrap_or_default();
            let url = modes.get("url").is_some_and(Json::is_object);
            // An empty object means forms alone (mcp-protocol 1.5).
            let form = modes.get("form").is_some_and(Json::is_object) || !url;
            match params.get_str("mode").as_deref() {
                Some("url") if url => Ok(()),
                Some("url") => Err(Lack::Url),
                _ if form => Ok(()),
                _ => Err(Lack::Form),
            }
        } else if *method == Method::SamplingCreateMessage {
            let Some(sampling) = &self.sampling else { return Err(Lack::Sampling) };
            let wants_tools = params.get("tools").is_some() || params.get("toolChoice").is_some();
            let tools = || Object::parse(sampling).is_ok_and(|sampling| sampling.get("tools").is_some());
            if wants_tools && !tools() { Err(Lack::SamplingTools) } else { Ok(()) }
        } else if *method == Method::RootsList {
            if self.roots { Ok(()) } else { Err(Lack::Roots) }
        } else {
            Err(Lack::Unknown)
        }
    }
}

impl Lack {
    /// What is missing, in the words of the capability object.
    pub fn name(self) -> &'static str {
        match self {
            Self::Elicitation | Self::Form => "elicitation",
            Self::Url => "elicitation.url",
            Self::Sampling => "sampling",
            Self::SamplingTools => "sampling.tools",
            Self::Roots => "roots",
            Self::Unknown => "a question that no revision knows",
        }
    }

    /// `data.requiredCapabilities` of -32021 (mcp-protocol 2.4).
    pub fn required(self) -> Json {
        Json::literal(match self {
            Self::Elicitation | Self::Form => r#"{"elicitation":{"form":{}}}"#,
            Self::Url => r#"{"elicitation":{"url":{}}}"#,
            Self::Sampling => r#"{"sampling":{}}"#,
            Self::SamplingTools => r#"{"sampling":{"tools":{}}}"#,
            Self::Roots => r#"{"roots":{}}"#,
            Self::Unknown => "{}",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &'static str) -> Object {
        Object::parse(&Json::literal(text)).expect("an object")
    }

    fn of(text: &'static str, revision: Revision) -> Abilities {
        Abilities::read(&object(text), revision)
    }

    const ALL: &str = r#"{"roots":{"listChanged":true},"sampling":{"tools":{},"context":{}},"elicitation":{"form":{},"url":{}},"tasks":{},"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["x"]},"a/b":{}}}"#;

    #[test]
    fn a_revision_yields_what_it_defines() {
        let told = |revision| String::from_utf8(of(ALL, revision).declaration().as_bytes().to_vec());
        assert_eq!(told(Revision::V2024_11_05).as_deref(), Ok(r#"{"sampling":{},"roots":{}}"#));
        assert_eq!(told(Revision::V2025_06_18).as_deref(), Ok(r#"{"elicitation":{},"sampling":{},"roots":{}}"#));
        assert_eq!(
            told(Revision::V2026_07_28).as_deref(),
            Ok(
                r#"{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{},"context":{}},"roots":{},"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["x"]}}}"#
            )
        );
        assert!(of("{}", Revision::V2026_07_28).declaration().as_bytes() == b"{}");
    }

    #[test]
    fn g78_only_a_modern_client_that_declares_the_extension_follows_tasks() {
        let declared = r#"{"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}"#;
        let modern = of(declared, Revision::V2026_07_28);
        assert!(modern.tasks() && modern.without_questions().tasks());
        assert_eq!(modern.declaration().as_bytes(), br#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#);
        // A server must not read it on a connection of 2025-11-25 (mcp-protocol 5.14).
        let legacy = of(declared, Revision::V2025_11_25);
        assert!(!legacy.tasks() && legacy.declaration().as_bytes() == b"{}");
        let odd = r#"{"extensions":{"io.modelcontextprotocol/tasks":true}}"#;
        assert!(!of(odd, Revision::V2026_07_28).tasks() && !of(ALL, Revision::V2026_07_28).tasks());
    }

    #[test]
    fn a_question_is_put_to_who_can_answer_it() {
        let form = object(r#"{"message":"m","requestedSchema":{}}"#);
        let url = object(r#"{"mode":"url","url":"https://x"}"#);
        let asked = |text, params: &Object| of(text, Revision::V2025_11_25).permits(&Method::ElicitationCreate, params);
        assert_eq!(asked(r#"{"elicitation":{}}"#, &form), Ok(()));
        assert_eq!(asked(r#"{"elicitation":{}}"#, &url), Err(Lack::Url));
        assert_eq!(asked(r#"{"elicitation":{"url":{}}}"#, &form), Err(Lack::Form));
        assert_eq!(asked(r#"{"elicitation":{"url":{}}}"#, &url), Ok(()));
        assert_eq!(asked("{}", &form), Err(Lack::Elicitation));

        let sampled =
            |text, params: &Object| of(text, Revision::V2025_11_25).permits(&Method::SamplingCreateMessage, params);
        assert_eq!(sampled(r#"{"sampling":{}}"#, &object("{}")), Ok(()));
        assert_eq!(sampled(r#"{"sampling":{}}"#, &object(r#"{"tools":[]}"#)), Err(Lack::SamplingTools));
        assert_eq!(sampled(r#"{"sampling":{"tools":{}}}"#, &object(r#"{"tools":[]}"#)), Ok(()));
        assert_eq!(of("{}", Revision::V2025_11_25).permits(&Method::RootsList, &object("{}")), Err(Lack::Roots));
        assert_eq!(of(ALL, Revision::V2025_11_25).permits(&Method::ToolsCall, &object("{}")), Err(Lack::Unknown));
        assert_eq!(
            of(ALL, Revision::V2025_11_25).without_questions().permits(&Method::RootsList, &form),
            Err(Lack::Roots)
        );
    }
}
