//! What the JSON work of one relayed message costs: an answer read, given the client's id, and written again.
//! `cargo bench -p trunkline-wire`; `make bench` measures the whole way.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use trunkline_wire::{Id, Json, Message, Object, Response};

/// An answer with one text of `bytes` bytes.
fn answer(bytes: usize) -> Bytes {
    let text = "x".repeat(bytes);
    format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#).into()
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("answer");
    for bytes in [200, 64 << 10, 1 << 20] {
        let text = answer(bytes);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("{bytes} bytes"), |bench| {
            bench.iter(|| {
                let Ok(Message::Response(read)) = Message::parse(black_box(&text)) else { panic!("an answer") };
                let id = Id::new(Json::literal(r#""a client's""#)).expect("a string is an id");
                black_box(Response { id: Some(id), outcome: read.outcome }.text())
            });
        });
    }
    group.finish();
}

fn calls(criterion: &mut Criterion) {
    let text = Bytes::from_static(
        br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"linear__get_issue","arguments":{"id":"A-1"},"_meta":{"progressToken":0,"threadId":"t"}}}"#,
    );
    criterion.bench_function("call, renamed", |bench| {
        bench.iter(|| {
            let Ok(Message::Request(request)) = Message::parse(black_box(&text)) else { panic!("a request") };
            let mut params: Object = request.params().expect("an object");
            params.set("name", Json::from("get_issue"));
            black_box(params.to_json())
        });
    });
}

criterion_group!(benches, answers, calls);
criterion_main!(benches);
