//! The fault proxy itself: each kind of weather does what it says, and is counted.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::client::text_of;
use crate::harness::daemon::Daemon;
use crate::harness::fake::Fake;
use crate::harness::proxy::{Counts, Cut, Door, End, FaultProxy, Flow, Weather};
use crate::harness::{in_time, until};

/// A server that says everything again, and ends when the client does.
async fn parrot() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.expect("the proxy listens")
}

async fn hears(socket: &mut TcpStream, said: &[u8]) {
    let mut heard = vec![0; said.len()];
    in_time("what was said", socket.read_exact(&mut heard)).await.expect("all of it");
    assert_eq!(heard, said);
}

async fn echoes(socket: &mut TcpStream, said: &[u8]) {
    socket.write_all(said).await.expect("the connection is open");
    hears(socket, said).await;
}

/// What is left to read, and how it ended.
async fn rest(socket: &mut TcpStream) -> (Vec<u8>, Result<usize, ErrorKind>) {
    let mut heard = Vec::new();
    let ended = in_time("the end", socket.read_to_end(&mut heard)).await;
    (heard, ended.map_err(|problem| problem.kind()))
}

#[tokio::test]
async fn in_fair_weather_everything_passes_and_is_counted() {
    let proxy = FaultProxy::before(&parrot().await).await;
    let mut socket = connect(&proxy).await;
    echoes(&mut socket, &vec![7; 300_000]).await;
    socket.shutdown().await.expect("open");
    assert_eq!(rest(&mut socket).await, (Vec::new(), Ok(0)));
    until("the end to be counted", async || (Counts::of(&proxy.counts().ended) == 1).then_some(())).await;
    assert_eq!(Counts::of(&proxy.counts().up), 300_000);
    assert_eq!(Counts::of(&proxy.counts().down), 300_000);
    assert_eq!(proxy.established(), 0);
}

#[tokio::test]
async fn a_cut_comes_after_the_last_byte_that_may_pass_and_not_before_the_next() {
    let proxy = FaultProxy::before(&parrot().await).await;
    proxy.set(&Weather::cutting_answers(5, End::Reset));
    let mut socket = connect(&proxy).await;
    echoes(&mut socket, b"12345").await;
    assert_eq!(Counts::of(&proxy.counts().reset), 0);
    socket.write_all(b"6").await.expect("still open");
    assert_eq!(rest(&mut socket).await, (Vec::new(), Err(ErrorKind::ConnectionReset)));
    assert_eq!(Counts::of(&proxy.counts().reset), 1);
    assert_eq!(Counts::of(&proxy.counts().up), 6, "the server did hear it");
}

#[tokio::test]
async fn a_cut_of_requests_keeps_the_rest_from_the_server() {
    let proxy = FaultProxy::before(&parrot().await).await;
    proxy.set(&Weather::cutting_requests(3, End::Close));
    let mut socket = connect(&proxy).await;
    socket.write_all(b"12345").await.expect("open");
    let (heard, _) = rest(&mut socket).await;
    assert!(b"123".starts_with(&heard), "{heard:?}");
    assert_eq!(Counts::of(&proxy.counts().up), 3);
    assert_eq!(Counts::of(&proxy.counts().closed), 1);
}

#[tokio::test]
async fn a_half_close_ends_one_way_and_leaves_the_other() {
    let proxy = FaultProxy::before(&parrot().await).await;
    proxy.set(&Weather::cutting_answers(2, End::HalfClose));
    let mut socket = connect(&proxy).await;
    socket.write_all(b"1234").await.expect("open");
    assert_eq!(rest(&mut socket).await, (b"12".to_vec(), Ok(2)));
    socket.write_all(b"56").await.expect("this way is open");
    until("the server to hear it", async || (Counts::of(&proxy.counts().up) == 6).then_some(())).await;
    assert_eq!(Counts::of(&proxy.counts().half_closed), 1);
}

#[tokio::test]
async fn orders_end_what_exists_and_spare_what_comes() {
    let proxy = FaultProxy::before(&parrot().await).await;
    let (mut first, mut second) = (connect(&proxy).await, connect(&proxy).await);
    echoes(&mut first, b"a").await;
    echoes(&mut second, b"b").await;
    assert_eq!(proxy.established(), 2);
    proxy.reset_all();
    assert_eq!(rest(&mut first).await.1, Err(ErrorKind::ConnectionReset));
    assert_eq!(rest(&mut second).await.1, Err(ErrorKind::ConnectionReset));
    let mut third = connect(&proxy).await;
    echoes(&mut third, b"c").await;
    proxy.close_all();
    assert_eq!(rest(&mut third).await, (Vec::new(), Ok(0)));
    assert_eq!(Counts::of(&proxy.counts().reset), 2);
    assert_eq!(Counts::of(&proxy.counts().closed), 1);
}

#[tokio::test]
async fn what_is_held_arrives_when_the_hole_closes() {
    let proxy = FaultProxy::before(&parrot().await).await;
    let mut socket = connect(&proxy).await;
    echoes(&mut socket, b"before").await;
    proxy.set_established(&Weather::holding());
    socket.write_all(b"held").await.expect("open");
    assert!(socket.try_read(&mut [0; 8]).is_err(), "nothing came");
    // The hole is of this connection only.
    echoes(&mut connect(&proxy).await, b"another").await;
    proxy.set(&Weather::default());
    hears(&mut socket, b"held").await;
}

#[tokio::test]
async fn what_is_swallowed_is_lost_and_the_connection_with_it() {
    let proxy = FaultProxy::before(&parrot().await).await;
    let mut socket = connect(&proxy).await;
    echoes(&mut socket, b"before").await;
    proxy.set(&Weather::swallowing());
    socket.write_all(b"lost").await.expect("open");
    until("the loss", async || (Counts::of(&proxy.counts().swallowed) == 4).then_some(())).await;
    proxy.set(&Weather::default());
    assert_eq!(rest(&mut socket).await.1, Err(ErrorKind::ConnectionReset));
    assert_eq!(Counts::of(&proxy.counts().up), 6);
}

#[tokio::test]
async fn slices_delays_and_throttles_change_the_pace_and_no_byte() {
    let proxy = FaultProxy::before(&parrot().await).await;
    let brief = Duration::from_millis(1)..Duration::from_millis(3);
    let weathers = [Weather::slicing(1), Weather::delaying(brief), Weather::throttling(100, Duration::from_millis(1))];
    proxy.shuffle(7, weathers.to_vec());
    for round in 0..6 {
        echoes(&mut connect(&proxy).await, &[round; 1000]).await;
    }
    // And one after the other on the same connection.
    let mut socket = connect(&proxy).await;
    for weather in weathers {
        proxy.set_established(&weather);
        echoes(&mut socket, b"the same connection").await;
    }
}

#[tokio::test]
async fn one_seed_is_one_fate() {
    let server = parrot().await;
    let weathers = vec![Weather::cutting_answers(0, End::Reset), Weather::default()];
    let mut fates = Vec::new();
    for _ in 0..2 {
        let proxy = FaultProxy::before(&server).await;
        proxy.shuffle(42, weathers.clone());
        let mut fate = Vec::new();
        for _ in 0..16 {
            let mut socket = connect(&proxy).await;
            socket.write_all(b"x").await.expect("open");
            fate.push(in_time("an answer or an end", socket.read(&mut [0; 1])).await.is_ok());
        }
        fates.push(fate);
    }
    assert_eq!(fates[0], fates[1]);
    assert!(fates[0].contains(&true) && fates[0].contains(&false), "{fates:?}");
}

#[tokio::test]
async fn each_connection_can_be_chosen_for() {
    let proxy = FaultProxy::before(&parrot().await).await;
    let cut = Flow { cut: Some(Cut { after: 0, end: End::Close }), ..Flow::default() };
    let cut = Weather { down: cut, ..Weather::default() };
    proxy.choose(move |number| if number == 1 { cut.clone() } else { Weather::default() });
    echoes(&mut connect(&proxy).await, b"the first").await;
    let mut second = connect(&proxy).await;
    second.write_all(b"the second").await.expect("open");
    assert_eq!(rest(&mut second).await.0, b"");
    echoes(&mut connect(&proxy).await, b"the third").await;
}

#[tokio::test]
async fn a_closed_door_refuses_resets_or_lets_wait() {
    let proxy = FaultProxy::before(&parrot().await).await;
    let mut old = connect(&proxy).await;
    echoes(&mut old, b"before").await;

    proxy.door(Door::Refuse).await;
    let refused = TcpStream::connect(proxy.address()).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    echoes(&mut old, b"who is in stays in").await;

    proxy.door(Door::Reset).await;
    let mut reset = connect(&proxy).await;
    assert_eq!(rest(&mut reset).await.1, Err(ErrorKind::ConnectionReset));

    proxy.door(Door::Silent).await;
    let mut waiting = connect(&proxy).await;
    waiting.write_all(b"waiting").await.expect("the kernel takes it");
    proxy.door(Door::Open).await;
    hears(&mut waiting, b"waiting").await;
}

#[tokio::test]
async fn a_server_that_is_away_is_a_reset() {
    let proxy = FaultProxy::before("127.0.0.1:1").await;
    let mut socket = connect(&proxy).await;
    assert_eq!(rest(&mut socket).await.1, Err(ErrorKind::ConnectionReset));
    assert_eq!(Counts::of(&proxy.counts().connected), 0);
    assert_eq!(Counts::of(&proxy.counts().accepted), 1);
}

#[tokio::test]
async fn servers_behind_it_work_however_their_bytes_are_cut() {
    let mut config = String::new();
    let mut proxies = Vec::new();
    let mut fakes = Vec::new();
    for mode in ["http", "sse"] {
        let fake = Fake::start(mode, mode, &["--streams"]).await;
        let proxy = FaultProxy::before(&fake.address()).await;
        proxy.set(&Weather::slicing(7));
        config.push_str(&fake.block().replace(&fake.url, &proxy.url(&fake.url)));
        proxies.push(proxy);
        fakes.push(fake);
    }
    let daemon = Daemon::start(&config).await;
    daemon.until_ready(&["http", "sse"]).await;
    let client = daemon.client().await;
    for (mode, proxy) in ["http", "sse"].iter().zip(&proxies) {
        let said = "ü".repeat(2000);
        let result = client.call(&format!("{mode}__echo"), &format!(r#"{{"message":"{said}"}}"#)).await;
        assert_eq!(text_of(&result), said);
        assert!(Counts::of(&proxy.counts().down) > 4000, "it went through the proxy");
    }
}
