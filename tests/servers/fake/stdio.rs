//! One message a line on stdin and stdout.
//!
//! The plain path never changes threads: the reading thread answers what it can at once and writes when no
//! further line is waiting, because the bench measures what stands before this server, not this server.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::listen;
use crate::options::Fault;
use crate::protocol::{Answer, Server};
use crate::session::Session;

pub(crate) async fn serve(server: Arc<Server>) -> ExitCode {
    if server.options.family {
        crate::family::raise();
    }
    let fault = server.fault();
    if fault == Some(Fault::Exit) {
        eprintln!("fake-upstream: cannot open its database, giving up");
        return ExitCode::from(3);
    }
    if fault == Some(Fault::Loud) {
        std::io::stderr().write_all(&vec![b'x'; 10 << 20]).expect("somebody drains stderr");
    }
    tokio::time::sleep(server.options.slow_start).await;
    if server.options.stubborn {
        note_term(&server);
    }

    let output = Output::new();
    let (lines, outgoing) = mpsc::channel(1024);
    let writer = tokio::task::spawn_blocking({
        let output = output.clone();
        move || write(outgoing, &output)
    });
    let session = Arc::new(Session::new(lines.clone()));
    server.adopt(&session);
    let reader = tokio::task::spawn_blocking({
        let server = server.clone();
        move || {
            read(&server, &session, &lines, &output);
            server.desk.note("ends", "stdin closed");
            listen::end_all(&server, listen::End::Graceful);
            server.forget(&session);
        }
    });
    reader.await.expect("the reader does not panic");
    if server.options.stubborn {
        std::future::pending::<()>().await;
    }
    // What still runs is cut by the exit anyway; what is queued is written.
    let _ = tokio::time::timeout(Duration::from_secs(1), writer).await;
    ExitCode::SUCCESS
}

/// From now on TERM is written down, and that is all.
fn note_term(server: &Arc<Server>) {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a handler");
    let server = server.clone();
    tokio::spawn(async move {
        while term.recv().await.is_some() {
            server.desk.note("ends", "TERM");
        }
    });
}

fn read(server: &Arc<Server>, session: &Arc<Session>, lines: &mpsc::Sender<String>, output: &Output) {
    let mut input = BufReader::with_capacity(256 << 10, descriptor(std::io::stdin()));
    let mut line = Vec::new();
    let mut replies = Vec::new();
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        if server.desk.exists() {
            server.desk.note("received", &format!(r#"{{"verb":"line","body":{text}}}"#));
        }
        match server.fault() {
            Some(Fault::Hang) => {}
            Some(Fault::Garbage) => replies.extend_from_slice(b"Welcome to the fake server! <ready>\n"),
            _ => match server.receive(text, session, lines) {
                Answer::Nothing => {}
                Answer::Now(reply) => append(&mut replies, &reply),
                Answer::Later(work) => {
                    let lines = lines.clone();
                    tokio::spawn(async move {
                        if let Some(reply) = work.await {
                            let _ = lines.send(reply).await;
                        }
                    });
                }
            },
        }
        if input.buffer().is_empty() || replies.len() > 1 << 20 {
            output.write(&replies);
            replies.clear();
        }
    }
}

/// Writes what tasks queued, in as few system calls as it can.
fn write(mut outgoing: mpsc::Receiver<String>, output: &Output) {
    let mut batch = Vec::new();
    while outgoing.blocking_recv_many(&mut batch, 256) > 0 {
        let mut bytes = Vec::with_capacity(batch.iter().map(|line| line.len() + 1).sum());
        for line in batch.drain(..) {
            if line == crate::http::CUT {
                output.write(&bytes);
                output.write(br#"{"jsonrpc":"2.0","id":"#);
                std::process::exit(9);
            }
            append(&mut bytes, &line);
        }
        output.write(&bytes);
    }
}

fn append(bytes: &mut Vec<u8>, line: &str) {
    bytes.extend_from_slice(line.as_bytes());
    // A tool that plays with broken lines brings its own ends.
    if !line.ends_with('\n') {
        bytes.push(b'\n');
    }
}

/// stdout without the standard library's line buffer; whole lines only, one writer at a time.
#[derive(Clone)]
struct Output(Arc<Mutex<File>>);

impl Output {
    fn new() -> Output {
        Output(Arc::new(Mutex::new(descriptor(std::io::stdout()))))
    }

    fn write(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        // A reader that is gone shows as the end of stdin.
        let _ = self.0.lock().expect("no writer panics").write_all(bytes);
    }
}

fn descriptor(stream: impl std::os::fd::AsFd) -> File {
    File::from(stream.as_fd().try_clone_to_owned().expect("a descriptor can be doubled"))
}
