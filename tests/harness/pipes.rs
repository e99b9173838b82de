//! A client of a child process on pipes, for comparing what a server says directly.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::client::{self, member};
use super::in_time;

pub(crate) struct PipeClient {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    next: u64,
}

impl PipeClient {
    pub(crate) async fn connect(command: &str, args: &[String], revision: &str) -> PipeClient {
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
        let mut client = PipeClient { _child: child, input, output, next: 1 };
        client.send(&client::initialize(revision)).await;
        client.answer("0").await;
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        client
    }

    async fn send(&mut self, message: &str) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.expect("the server reads");
    }

    async fn answer(&mut self, id: &str) -> String {
        loop {
            let line = in_time("a line of the server", self.output.next_line()).await;
            let line = line.expect("UTF-8").expect("the server lives");
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
