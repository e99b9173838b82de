//! Sizes, counts and times of `hub`, each with its reason (reliability 7). What an operator may set, such as the
//! number of sessions, stands in `config::Limits`.

use std::time::Duration;

/// After this idle time a session keeps nothing but its facts.
pub(crate) const SESSION_BUFFERS_IDLE_MAX: Duration = Duration::from_mins(10);

/// How often a stop looks whether work is left that no connection waits for. A call tells nobody when it ends, so that the
/// stop alone pays for this.
pub(crate) const FINISHED_EVERY: Duration = Duration::from_millis(20);

/// How often the sweeper looks.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Open GET streams of one session; beyond it the oldest ends (mcp-protocol 3.11).
pub(crate) const GET_STREAMS_MAX: usize = 32;

/// Events that wait for a slow or absent reader of the GET stream, of each kind.
pub(crate) const PENDING_EVENTS_MAX: usize = 256;

/// Bytes that wait for a slow reader.
pub(crate) const PENDING_BYTES_MAX: usize = 1024 * 1024;

/// How long a person may take to answer a question (mcp-protocol 2.9, parked call).
pub(crate) const ANSWER_WAIT: Duration = Duration::from_mins(10);

/// Longest `Mcp-Session-Id`: proxies and clients take headers of this size (mcp-protocol 3.9). What makes it longer is
/// kept in the records.
pub(crate) const SESSION_ID_BYTES_MAX: usize = 2 * 1024;

/// Longest facts about a client that are kept there, and longest subscriptions of one session. Real ones are a hundredth.
pub(crate) const RECORD_BYTES_MAX: usize = 64 * 1024;

/// All that is kept of sessions besides their ids: a session needs some hundred bytes, if anything.
pub(crate) const RECORDS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Sessions that something is kept of; those used longest ago go first. Twice as many as may live.
pub(crate) const RECORDS_MAX: usize = 8192;

/// Ends of sessions in one book, which is written whole with each: 32 KiB.
pub(crate) const ENDS_PER_BOOK: usize = 4096;

/// Books of them; beyond it the oldest goes. Together 131,072, one every five seconds for eight days, in 1 MiB on disk and
/// some 3 MiB in memory.
pub(crate) const ENDS_BOOKS_MAX: usize = 32;

/// Least time between two writes of both. Also how long a DELETE may wait for the one it is in.
pub(crate) const RECORDS_QUIET: Duration = Duration::from_millis(100);

/// How long a DELETE waits for a disk that does not write.
pub(crate) const RECORDS_WAIT: Duration = Duration::from_secs(1);

/// Calls that wait for a modern client's answer; each holds a request open at its server (mcp-protocol 5.9 rule 13).
pub(crate) const PARKS_MAX: usize = 256;

/// Such calls of one client, at all servers: more forms than a person would fill in.
pub(crate) const PARKS_OWN_MAX: usize = 32;

/// Ids of URLs remembered as shown to one client. The newest are the ones that are still open.
pub(crate) const SHOWN_URLS_MAX: usize = 64;

/// How long questions that come together are gathered into one round for a modern client (mcp-protocol 5.9 rule 2).
pub(crate) const ROUND_WINDOW: Duration = Duration::from_millis(30);

/// Questions during one call; beyond it a server is answered as by somebody who closes every form.
pub(crate) const QUESTIONS_MAX: usize = 100;

/// Rounds of questions during one call; SDK clients stop after ten (mcp-protocol 5.9 rule 11).
pub(crate) const ROUNDS_MAX: u32 = 9;

/// Resources that one session may subscribe to. No real client comes near; a loop does.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 1024;

/// Events kept for one answer stream.
pub(crate) const REPLAY_STREAM_EVENTS_MAX: usize = 256;

/// Bytes of notices kept for one answer stream.
pub(crate) const REPLAY_STREAM_BYTES_MAX: usize = 1024 * 1024;

/// Bytes kept for all answer streams of a session.
pub(crate) const REPLAY_SESSION_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes kept for all answer streams.
pub(crate) const REPLAY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a finished answer stream is kept.
pub(crate) const REPLAY_AGE_MAX: Duration = Duration::from_mins(5);

/// How long it stays while the process is near the bound of its memory: long enough for a client that lost its
/// connection and resumes at once.
pub(crate) const REPLAY_AGE_PRESSED: Duration = Duration::from_secs(10);

/// How long the form of an answer is left open. Then a stream is begun, for a connection on which nothing moves is
/// soon taken for dead (mcp-protocol 3.6).
pub(crate) const COMMIT_AFTER: Duration = Duration::from_secs(10);

/// For how long a modern client may take a list for current without asking (mcp-protocol 6.8). Who listens hears of a
/// change within a second; nobody else needs to know it sooner.
pub(crate) const LIST_FRESH: Duration = Duration::from_mins(1);

/// How long a level that a modern request wanted of a server holds when no request wants it any more.
pub(crate) const LEVEL_LINGER: Duration = Duration::from_mins(1);

/// Open `subscriptions/listen` streams (mcp-protocol 6.12).
pub(crate) const LISTENS_MAX: usize = 1024;

/// How long a listen waits for servers to take its subscriptions, before it is told which did.
pub(crate) const LISTEN_ACK_WAIT: Duration = Duration::from_secs(10);

/// Subscriptions that one listen makes at the same time.
pub(crate) const LISTEN_WIDTH: usize = 16;

/// Longest `params` of an update that wait for a slow listen as they came; of longer ones the URI alone is told.
pub(crate) const UPDATE_BYTES_MAX: usize = 4 * 1024;

/// Quiet time before a list change is announced.
pub(crate) const ANNOUNCE_QUIET: Duration = Duration::from_millis(300);

/// Longest delay of an announcement while changes keep coming.
pub(crate) const ANNOUNCE_LATEST: Duration = Duration::from_secs(2);

/// How long a resource stays subscribed at its server after the last subscriber left (mcp-protocol 6.6).
pub(crate) const UNSUBSCRIBE_GRACE: Duration = Duration::from_secs(5);

/// Resource URIs remembered from results (mcp-protocol 6.10).
pub(crate) const SEEN_URIS_MAX: usize = 10_000;

/// Longest URI that is remembered or subscribed to: both are kept beyond the request. Real ones are a tenth of it.
pub(crate) const URI_BYTES_MAX: usize = 8 * 1024;

/// Gateways that a request may have passed before this one.
pub(crate) const HOPS_MAX: u64 = 3;

/// Description of one entry (S-16).
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 16 * 1024;

/// Tools of one server that are pinned, those that vanished included: four times what it may offer. A server that lists
/// others each time would fill the disk.
pub(crate) const PINS_MAX: usize = 4000;

/// Their definitions together. Large servers have a tenth of it.
pub(crate) const PINS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The file of them, in which names and quotes are besides.
pub(crate) const PINS_FILE_BYTES_MAX: usize = 2 * PINS_BYTES_MAX;

/// Least time between two writes of pins: servers come up one after another.
pub(crate) const PINS_QUIET: Duration = Duration::from_secs(1);

/// Tools of one server whose change is logged one by one; the command shows all.
pub(crate) const CHANGED_LOGGED_MAX: usize = 10;

/// One schema of a tool (S-16).
pub(crate) const SCHEMA_BYTES_MAX: usize = 256 * 1024;

/// The part of `instructions` that every client shows (clients.md 1.10).
pub(crate) const INSTRUCTIONS_HEAD_CHARS: usize = 240;

/// Instructions of one server (mcp-protocol 6.7).
pub(crate) const INSTRUCTIONS_SERVER_BYTES: usize = 2 * 1024;

/// All instructions (mcp-protocol 6.7).
pub(crate) const INSTRUCTIONS_BYTES: usize = 16 * 1024;

/// Answer streams of one session that are kept for a resume. Bounds what empty ones cost.
pub(crate) const REPLAY_STREAMS_MAX: usize = 64;

/// Clients remembered for the loss report: no machine has so many.
pub(crate) const ACQUAINTANCES_MAX: usize = 64;

/// Characters kept of what a client calls itself.
pub(crate) const CLIENT_NAME_CHARS: usize = 128;

/// Tools that `find_tools` gives without being told how many: among eight the right one nearly always is (docs/search.md), and
/// their definitions weigh as much as a page.
pub(crate) const FIND_LIMIT: usize = 8;

/// Most tools that it gives.
pub(crate) const FIND_LIMIT_MAX: usize = 20;

/// Of these, how many come with their input schemas. Among five is the right one in 98 of 100 searches of the measure, and an answer
/// with eight schemas is a quarter longer (docs/search.md).
pub(crate) const FIND_SCHEMAS: usize = 5;

/// Input schemas in one answer of it, together. Ordinary ones are of a kibibyte; what does not fit is shown one by one.
pub(crate) const FIND_SCHEMAS_BYTES_MAX: usize = 48 * 1024;

/// Of a tool's description, what it shows.
pub(crate) const FIND_DESCRIPTION_CHARS: usize = 240;

/// Longest schema that is repeated to whoever called a tool without what it requires.
pub(crate) const SEARCH_SCHEMA_BYTES_MAX: usize = 8 * 1024;

/// Servers named in the description of `find_tools`. The text is in every prompt.
pub(crate) const SEARCH_SERVERS_TOLD_MAX: usize = 64;

/// Words of one tool that are searched: a description of four pages has as many, and what stands further down hardly tells
/// what the tool is for.
pub(crate) const SEARCH_WORDS_MAX: usize = 1000;

/// Parameters of one tool that are searched.
pub(crate) const SEARCH_PARAMETERS_MAX: usize = 64;

/// Words of one question that count. People and models ask with ten.
pub(crate) const SEARCH_QUERY_WORDS_MAX: usize = 32;

/// Unknown words of one question that are taken for their nearest neighbours: each is compared with all words of all tools.
pub(crate) const SEARCH_GUESSES_MAX: usize = 8;

/// Of a question, what is read: its first words are in it, whatever follows.
pub(crate) const SEARCH_QUERY_BYTES_MAX: usize = 1024;

/// How long a client is waited for that is asked what directories it works in. It answers from its memory.
pub(crate) const ROOTS_WAIT: Duration = Duration::from_secs(5);

/// Directories of one client that are looked at: more than anybody opens at once.
pub(crate) const ROOTS_MAX: usize = 64;

/// Longest URI of one: no path is longer on the systems there are.
pub(crate) const ROOT_BYTES_MAX: usize = 4096;
