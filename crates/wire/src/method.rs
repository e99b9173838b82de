//! [`Method`]: every method name of the protocol, and the one table of what each is.

use std::fmt;

/// A method or notification name.
///
/// Names that no revision defines are kept as text, so that they can be answered and logged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the wire name in `TABLE`, defined by mcp-protocol 1.4")]
pub enum Method {
    Initialize,
    Discover,
    Ping,
    ToolsList,
    ToolsCall,
    PromptsList,
    PromptsGet,
    ResourcesList,
    ResourcesTemplatesList,
    ResourcesRead,
    ResourcesSubscribe,
    ResourcesUnsubscribe,
    SubscriptionsListen,
    CompletionComplete,
    LoggingSetLevel,
    RootsList,
    SamplingCreateMessage,
    ElicitationCreate,
    TasksGet,
    TasksResult,
    TasksList,
    TasksCancel,
    TasksUpdate,
    Initialized,
    Cancelled,
    Progress,
    LogMessage,
    ToolsListChanged,
    PromptsListChanged,
    ResourcesListChanged,
    ResourcesUpdated,
    RootsListChanged,
    ElicitationComplete,
    TasksStatus,
    TaskChanged,
    SubscriptionsAcknowledged,
    Other(Box<str>),
}

/// Who decides where a request goes (architecture 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The gateway answers by itself.
    Gateway,
    /// The catalogue answers, from pages rendered beforehand.
    Catalogue,
    /// The server that the exposed name in `params` belongs to.
    ByName,
    /// The server that the URI in `params` belongs to.
    ByUri,
    /// The server that the sealed token in `params` belongs to; for modern clients alone.
    ByToken,
    /// Nobody here: no client may ask this of the gateway.
    Nobody,
}

/// How a request may be treated when its fate is uncertain: the rows of reliability 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The handshake itself.
    Handshake,
    /// `server/discover`, `ping` and `tasks/get`: safe at any time.
    Probe,
    /// A list.
    List,
    /// Reads something and changes nothing: read, get, complete.
    Read,
    /// Sets state that is restored on a new connection: subscriptions, log level.
    State,
    /// Has an effect that a second time does not change: a cancellation.
    Idempotent,
    /// May have effects: `tools/call`, and whatever we do not know.
    Effect,
}

/// One row a method: what it is called, who answers it when a client asks, and how it may be treated when its fate is
/// uncertain.
#[rustfmt::skip]
const TABLE: &[(Method, &str, Owner, Class)] = &[
    (Method::Initialize,                "initialize",                              Owner::Gateway,   Class::Handshake),
    (Method::Discover,                  "server/discover",                         Owner::Gateway,   Class::Probe),
    (Method::Ping,                      "ping",                                    Owner::Gateway,   Class::Probe),
    (Method::ToolsList,                 "tools/list",                              Owner::Catalogue, Class::List),
    (Method::ToolsCall,                 "tools/call",                              Owner::ByName,    Class::Effect),
    (Method::PromptsList,               "prompts/list",                            Owner::Catalogue, Class::List),
    (Method::PromptsGet,                "prompts/get",                             Owner::ByName,    Class::Read),
    (Method::ResourcesList,             "resources/list",                          Owner::Catalogue, Class::List),
    (Method::ResourcesTemplatesList,    "resources/templates/list",                Owner::Catalogue, Class::List),
    (Method::ResourcesRead,             "resources/read",                          Owner::ByUri,     Class::Read),
    (Method::ResourcesSubscribe,        "resources/subscribe",                     Owner::ByUri,     Class::State),
    (Method::ResourcesUnsubscribe,      "resources/unsubscribe",                   Owner::ByUri,     Class::State),
    (Method::SubscriptionsListen,       "subscriptions/listen",                    Owner::Gateway,   Class::Effect),
    (Method::CompletionComplete,        "completion/complete",                     Owner::ByName,    Class::Read),
    (Method::LoggingSetLevel,           "logging/setLevel",                        Owner::Gateway,   Class::State),
    (Method::RootsList,                 "roots/list",                              Owner::Nobody,    Class::Effect),
    (Method::SamplingCreateMessage,     "sampling/createMessage",                  Owner::Nobody,    Class::Effect),
    (Method::ElicitationCreate,         "elicitation/create",                      Owner::Nobody,    Class::Effect),
    (Method::TasksGet,                  "tasks/get",                               Owner::ByToken,   Class::Probe),
    (Method::TasksResult,               "tasks/result",                            Owner::Nobody,    Class::Effect),
    (Method::TasksList,                 "tasks/list",                              Owner::Nobody,    Class::Effect),
    (Method::TasksCancel,               "tasks/cancel",                            Owner::ByToken,   Class::Idempotent),
    (Method::TasksUpdate,               "tasks/update",                            Owner::ByToken,   Class::Effect),
    (Method::Initialized,               "notifications/initialized",               Owner::Nobody,    Class::Effect),
    (Method::Cancelled,                 "notifications/cancelled",                 Owner::Nobody,    Class::Effect),
    (Method::Progress,                  "notifications/progress",                  Owner::Nobody,    Class::Effect),
    (Method::LogMessage,                "notifications/message",                   Owner::Nobody,    Class::Effect),
    (Method::ToolsListChanged,          "notifications/tools/list_changed",        Owner::Nobody,    Class::Effect),
    (Method::PromptsListChanged,        "notifications/prompts/list_changed",      Owner::Nobody,    Class::Effect),
    (Method::ResourcesListChanged,      "notifications/resources/list_changed",    Owner::Nobody,    Class::Effect),
    (Method::ResourcesUpdated,          "notifications/resources/updated",         Owner::Nobody,    Class::Effect),
    (Method::RootsListChanged,          "notifications/roots/list_changed",        Owner::Nobody,    Class::Effect),
    (Method::ElicitationComplete,       "notifications/elicitation/complete",      Owner::Nobody,    Class::Effect),
    (Method::TasksStatus,               "notifications/tasks/status",              Owner::Nobody,    Class::Effect),
    (Method::TaskChanged,               "notifications/tasks",                     Owner::Nobody,    Class::Effect),
    (Method::SubscriptionsAcknowledged, "notifications/subscriptions/acknowledged",Owner::Nobody,    Class::Effect),
];

impl Method {
    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        if let Self::Other(name) = self {
            return name;
        }
        self.row().expect("every variant but Other has a row").1
    }

    /// The name where it labels a metric or a log line: known names only, so that labels stay bounded (S-37).
    pub fn label(&self) -> &'static str {
        self.row().map_or("other", |row| row.1)
    }

    /// Who answers this request of a client.
    pub fn owner(&self) -> Owner {
        self.row().map_or(Owner::Nobody, |row| row.2)
    }

    /// The row of the retry table that this request falls under (reliability 5).
    pub fn class(&self) -> Class {
        self.row().map_or(Class::Effect, |row| row.3)
    }

    fn row(&self) -> Option<&'static (Self, &'static str, Owner, Class)> {
        TABLE.iter().find(|row| row.0 == *self)
    }
}

impl From<&str> for Method {
    fn from(name: &str) -> Self {
        let row = TABLE.iter().find(|row| row.1 == name);
        row.map_or_else(|| Self::Other(name.into()), |row| row.0.clone())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for (method, name, ..) in TABLE {
            assert_eq!(&Method::from(*name), method);
            assert_eq!(method.as_str(), *name);
        }
        assert_eq!(Method::from("x/y").as_str(), "x/y");
        assert_eq!(Method::from("x/y").label(), "other");
    }

    #[test]
    fn what_may_have_effects_is_never_taken_for_safe() {
        assert_eq!(Method::ToolsCall.class(), Class::Effect);
        assert_eq!(Method::from("vendor/do").class(), Class::Effect);
    }
}
