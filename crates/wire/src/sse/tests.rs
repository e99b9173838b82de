use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Decodes `stream` cut into chunks after each of `cuts`.
fn decode(stream: &[u8], cuts: &[usize], limit: usize) -> Vec<Result<Event, TooLarge>> {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    let mut rest = Bytes::copy_from_slice(stream);
    for cut in cuts {
        decoder.push(rest.split_to((*cut).min(rest.len())));
        events.extend(decoder.by_ref());
    }
    decoder.push(rest);
    events.extend(decoder.by_ref());
    events
}

fn events(stream: &str) -> Vec<Event> {
    decode(stream.as_bytes(), &[], 1024).into_iter().map(|event| event.expect("within the limit")).collect()
}

fn message(data: &'static str) -> Event {
    Event { data: data.into(), ..Event::default() }
}

#[test]
fn reads_every_kind_of_line_end() {
    assert_eq!(events("data: 1\n\ndata: 2\r\rdata: 3\r\n\r\n"), [message("1"), message("2"), message("3")]);
}

#[test]
fn joins_data_lines_and_takes_one_space_off() {
    assert_eq!(events("data:a\ndata:  b\ndata\ndata: c\n\n"), [message("a\n b\n\nc")]);
}

#[test]
fn reads_all_four_fields() {
    let stream = ": hello\nevent: endpoint\nid: 7\nretry: 1500\nother: x\ndata: {}\n\n";
    let wanted = Event { event: Some("endpoint".into()), data: "{}".into(), id: Some("7".into()), retry: Some(1500) };
    assert_eq!(events(stream), [wanted]);
}

#[test]
fn a_priming_event_has_an_id_and_no_data() {
    let primed = [Event { id: Some("s3.0".into()), ..Event::default() }];
    assert_eq!(events("id: s3.0\ndata:\n\n"), primed);
    assert_eq!(events("id: s3.0\n\n"), primed);
    assert_eq!(events("data:\n\nevent: ping\n\n:\n\n\n"), []);
}

#[test]
fn an_id_with_nul_is_ignored_and_an_empty_one_resets() {
    assert_eq!(events("id: a\0b\ndata: 1\n\n"), [message("1")]);
    assert_eq!(events("id\ndata: 1\n\n")[0].id.as_deref(), Some(""));
}

#[test]
fn retry_is_digits_only() {
    assert_eq!(events("retry: 1s\nretry:\nretry: -1\nretry: 99999999999999999999\ndata: 1\n\n"), [message("1")]);
    assert_eq!(events("retry: 20\n\n")[0].retry, Some(20));
}

#[test]
fn one_byte_order_mark_is_stripped() {
    assert_eq!(events("\u{feff}data: 1\n\n\u{feff}data: 2\n\ndata: 3\n\n"), [message("1"), message("3")]);
}

#[test]
fn an_incomplete_event_is_not_reported() {
    assert_eq!(events("data: 1\n\ndata: 2\n"), [message("1")]);
}

#[test]
fn a_large_event_is_skipped_whole_and_the_next_one_read() {
    let stream = format!("id: 5\ndata: {}\ndata: more\r\nid: 6\n\ndata: ok\n\n", "x".repeat(100));
    let wanted = [Err(TooLarge { limit: 64, id: Some("5".into()) }), Ok(message("ok"))];
    assert_eq!(decode(stream.as_bytes(), &[], 64), wanted);
    assert_eq!(decode(stream.as_bytes(), &[1; 150], 64), wanted);
}

#[test]
fn a_large_event_is_reported_before_it_ends() {
    let mut decoder = Decoder::new(64);
    decoder.push(Bytes::from(format!("data: {}", "x".repeat(100))));
    assert!(matches!(decoder.next(), Some(Err(_))));
    assert!(decoder.next().is_none());
    assert_eq!(decoder.held(), 0);
}

#[test]
fn comments_do_not_count_against_the_limit() {
    let stream = format!("{}data: 1\n\n", ": still here\n".repeat(50));
    assert_eq!(decode(stream.as_bytes(), &[], 64), [Ok(message("1"))]);
}

#[test]
fn data_within_one_chunk_is_not_copied() {
    let chunk = Bytes::from_static(b"id: 1\ndata: payload\n\n");
    let mut decoder = Decoder::new(64);
    decoder.push(chunk.clone());
    let event = decoder.next().expect("an event").expect("small");
    assert_eq!(event.data.as_ptr(), chunk[12..].as_ptr());
}

/// Would take hours if a byte were looked at again with every chunk.
#[test]
fn sixteen_mebibytes_in_small_chunks_are_read_in_one_pass() {
    let line = Bytes::from(vec![b'x'; 1024]);
    let mut decoder = Decoder::new(64 << 20);
    decoder.push(Bytes::from_static(b"data: "));
    for _ in 0..16 * 1024 {
        assert!(decoder.next().is_none());
        decoder.push(line.clone());
    }
    assert!(decoder.next().is_none());
    decoder.push(Bytes::from_static(b"\n\n"));
    assert_eq!(decoder.next().expect("an event").expect("within the limit").data.len(), 16 << 20);
}

#[test]
fn s18_no_text_of_a_peer_can_end_a_line() {
    let mut out = BytesMut::new();
    encode(&mut out, Some("a\nevent: evil\r\0"), None, b"{\n\"a\":1}\r\n\r\nid: 9");
    assert_eq!(&out[..], b"id: aevent: evil\ndata: { \"a\":1}    id: 9\n\n");
}

#[test]
fn writes_priming_named_and_plain_events() {
    let mut out = BytesMut::new();
    encode(&mut out, Some("s.0"), Some(500), b"");
    encode_named(&mut out, "endpoint", b"/messages?x=1");
    out.put_slice(COMMENT);
    encode(&mut out, None, None, b"{}");
    assert_eq!(&out[..], b"id: s.0\nretry: 500\ndata:\n\nevent: endpoint\ndata: /messages?x=1\n\n:\n\ndata: {}\n\n");
}

/// Pieces that streams are made of, so that random streams reach every rule.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "\n", "\r", "\r\n", "data", "data:", "data: ", "id: 1", "id:", "retry: 9", "event: x", ":", " ", "\0",
            "\u{feff}", "\n\n", "é",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn chunk_boundaries_do_not_matter(stream in stream(), cuts in vec(0_usize..12, 0..60), limit in 4_usize..200) {
        prop_assert_eq!(decode(&stream, &cuts, limit), decode(&stream, &[], limit));
    }

    #[test]
    fn undrained_pushes_read_as_one(stream in stream(), at in 0_usize..100) {
        let mut whole = Bytes::from(stream);
        let expected = decode(&whole, &[], 100);
        let mut decoder = Decoder::new(100);
        decoder.push(whole.split_to(at.min(whole.len())));
        decoder.push(whole);
        prop_assert_eq!(decoder.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_written_reads_back(
        id in proptest::option::of("[^\r\n\0]{0,12}"),
        retry in proptest::option::of(any::<u64>()),
        data in "[^\r\n]{1,60}",
    ) {
        let mut out = BytesMut::new();
        encode(&mut out, id.as_deref(), retry, data.as_bytes());
        let wanted = Event { event: None, data: data.into(), id: id.map(Into::into), retry };
        prop_assert_eq!(decode(&out, &[], 1024), [Ok(wanted)]);
    }
}
