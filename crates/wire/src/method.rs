//! [`Method`]: every method name of the protocol, and the one table of what each is.

use std::fmt;

/// A method or notification name.
///
/// Names that no revision defines are kept as text, so that they can be answered and logged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the wire name in `NAMES`, defined by mcp-protocol 1.4")]
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
    /// Nobody here: no client may ask this of the gateway.
    Nobody,
}

/// How a request may be treated when its fate is uncertain: the rows of reliability 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The handshake itself.
    Handshake,
    /// `server/discover` and `ping`: safe at any time.
    Probe,
    /// A list.
    List,
    /// Reads something and changes nothing: read, get, complete.
    Read,
    /// Sets state that is restored on a new connection: subscriptions, log level.
    State,
    /// May have effects: `tools/call`, and whatever we do not know.
    Effect,
}

const NAMES: &[(Method, &str)] = &[
    (Method::Initialize, "initialize"),
    (Method::Discover, "server/discover"),
    (Method::Ping, "ping"),
    (Method::ToolsList, "tools/list"),
    (Method::ToolsCall, "tools/call"),
    (Method::PromptsList, "prompts/list"),
    (Method::PromptsGet, "prompts/get"),
    (Method::ResourcesList, "resources/list"),
    (Method::ResourcesTemplatesList, "resources/templates/list"),
    (Method::ResourcesRead, "resources/read"),
    (Method::ResourcesSubscribe, "resources/subscribe"),
    (Method::ResourcesUnsubscribe, "resources/unsubscribe"),
    (Method::SubscriptionsListen, "subscriptions/listen"),
    (Method::CompletionComplete, "completion/complete"),
    (Method::LoggingSetLevel, "logging/setLevel"),
    (Method::RootsList, "roots/list"),
    (Method::SamplingCreateMessage, "sampling/createMessage"),
    (Method::ElicitationCreate, "elicitation/create"),
    (Method::TasksGet, "tasks/get"),
    (Method::TasksResult, "tasks/result"),
    (Method::TasksList, "tasks/list"),
    (Method::TasksCancel, "tasks/cancel"),
    (Method::TasksUpdate, "tasks/update"),
    (Method::Initialized, "notifications/initialized"),
    (Method::Cancelled, "notifications/cancelled"),
    (Method::Progress, "notifications/progress"),
    (Method::LogMessage, "notifications/message"),
    (Method::ToolsListChanged, "notifications/tools/list_changed"),
    (Method::PromptsListChanged, "notifications/prompts/list_changed"),
    (Method::ResourcesListChanged, "notifications/resources/list_changed"),
    (Method::ResourcesUpdated, "notifications/resources/updated"),
    (Method::RootsListChanged, "notifications/roots/list_changed"),
    (Method::ElicitationComplete, "notifications/elicitation/complete"),
    (Method::TasksStatus, "notifications/tasks/status"),
    (Method::SubscriptionsAcknowledged, "notifications/subscriptions/acknowledged"),
];

impl Method {
    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        if let Self::Other(name) = self {
            return name;
        }
        let row = NAMES.iter().find(|(method, _)| method == self);
        row.expect("every variant but Other has a row in NAMES").1
    }

    /// The name where it labels a metric or a log line: known names only, so that labels stay bounded (S-37).
    pub fn label(&self) -> &str {
        if matches!(self, Self::Other(_)) { "other" } else { self.as_str() }
    }

    /// Who answers this request of a client.
    pub fn owner(&self) -> Owner {
        match self {
            Self::Initialize | Self::Discover | Self::Ping | Self::LoggingSetLevel | Self::SubscriptionsListen => {
                Owner::Gateway
            }
            Self::ToolsList | Self::PromptsList | Self::ResourcesList | Self::ResourcesTemplatesList => {
                Owner::Catalogue
            }
            Self::ToolsCall | Self::PromptsGet | Self::CompletionComplete => Owner::ByName,
            Self::ResourcesRead | Self::ResourcesSubscribe | Self::ResourcesUnsubscribe => Owner::ByUri,
            Self::RootsList
            | Self::SamplingCreateMessage
            | Self::ElicitationCreate
            | Self::TasksGet
            | Self::TasksResult
            | Self::TasksList
            | Self::TasksCancel
            | Self::TasksUpdate
            | Self::Initialized
            | Self::Cancelled
            | Self::Progress
            | Self::LogMessage
            | Self::ToolsListChanged
            | Self::PromptsListChanged
            | Self::ResourcesListChanged
            | Self::ResourcesUpdated
            | Self::RootsListChanged
            | Self::ElicitationComplete
            | Self::TasksStatus
            | Self::SubscriptionsAcknowledged
            | Self::Other(_) => Owner::Nobody,
        }
    }

    /// The row of the retry table that this request falls under (reliability 5).
    pub fn class(&self) -> Class {
        match self {
            Self::Initialize => Class::Handshake,
            Self::Discover | Self::Ping => Class::Probe,
            Self::ToolsList | Self::PromptsList | Self::ResourcesList | Self::ResourcesTemplatesList => Class::List,
            Self::ResourcesRead | Self::PromptsGet | Self::CompletionComplete => Class::Read,
            Self::LoggingSetLevel | Self::ResourcesSubscribe | Self::ResourcesUnsubscribe => Class::State,
            Self::ToolsCall
            | Self::SubscriptionsListen
            | Self::RootsList
            | Self::SamplingCreateMessage
            | Self::ElicitationCreate
            | Self::TasksGet
            | Self::TasksResult
            | Self::TasksList
            | Self::TasksCancel
            | Self::TasksUpdate
            | Self::Initialized
            | Self::Cancelled
            | Self::Progress
            | Self::LogMessage
            | Self::ToolsListChanged
            | Self::PromptsListChanged
            | Self::ResourcesListChanged
            | Self::ResourcesUpdated
            | Self::RootsListChanged
            | Self::ElicitationComplete
            | Self::TasksStatus
            | Self::SubscriptionsAcknowledged
            | Self::Other(_) => Class::Effect,
        }
    }
}

impl From<&str> for Method {
    fn from(name: &str) -> Self {
        NAMES
            .iter()
            .find_map(|(method, known)| (*known == name).then(|| method.clone()))
            .unwrap_or_else(|| Self::Other(name.into()))
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
        for (method, name) in NAMES {
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
