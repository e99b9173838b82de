//! A client of a child process on pipes, for comparing what a server says directly.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::client::{self, member};
use super::in_time;

pub(crate) struct PipeClient {
    _child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    next: u64,
}

impl PipeClient {
    /// A legacy client, initialized.
    pub(crate) async fn connect(command: &str, args: &[String], revision: &str) -> PipeClient {
        let mut client = PipeClient::open(command, args);
        client.send(&client::initialize(revision)).await;
        client.answer("0").await;
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        client
    }

    /// The bare pipes: nothing was said yet.
    pub(crate) fn open(command: &str, args: &[String]) -> PipeClient {
        let mut child = Command::new(command)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        PipeClient { _child: child, input: Some(input), output, next: 1 }
    }

    pub(crate) async fn send(&mut self, message: &str) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(format!("{message}\n").as_bytes()).await.expect("the server reads");
    }

    /// Ends the server's input; what it still says can be read.
    pub(crate) fn close(&mut self) {
        self.input = None;
    }

    /// The next line; none when the server ended.
    pub(crate) async fn line(&mut self) -> Option<String> {
        in_time("a line of the server", self.output.next_line()).await.expect("UTF-8")
    }

    /// The answer with this id; what comes before it is skipped.
    pub(crate) async fn answer(&mut self, id: &str) -> String {
        loop {
            let line = self.line().await.expect("the server lives");
            if member(&line, "id").as_deref() == Some(id) && member(&line, "method").is_none() {
                return line;
            }
        }
    }

    pub(crate) async fn ask(&mut self, method: &str, params: &str) -> String {
        let id = self.next.to_string();
        self.next += 1;
        self.send(&client::request(&id, method, params)).await;
        self.answer(&id).await
    }
}
