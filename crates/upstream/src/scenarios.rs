//! Faults of the catalogue (reliability 14) that take longer than anybody wants to wait, with the clock paused: servers
//! that are away for an hour, fifty that fail together, lists that change without end. Each test is named for its
//! F-item and for the statement that it proves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use trunkline_testkit::{Fault, Script, tool};
use trunkline_wire::ServerName;

use crate::dial::Order;
use crate::error::{DialError, DialErrorKind};
use crate::fakes::{World, config, connect, environment, name};
use crate::fleet::Fleet;
use crate::supervisor::Dialer;
use crate::transport::Dialed;

/// Servers that refuse every connection until a moment, and are fine from then on.
struct Away {
    until: Instant,
    attempts: Mutex<Vec<Instant>>,
}

impl Away {
    fn until(until: Instant) -> Arc<Self> {
        Arc::new(Self { until, attempts: Mutex::default() })
    }

    /// When somebody tried, oldest first.
    fn attempts(&self) -> Vec<Instant> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Dialer for Away {
    fn dial<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Dialed, DialError>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        Box::pin(async move {
            if Instant::now() < self.until {
                return Err(DialError::new(DialErrorKind::Connect, "connection refused"));
            }
            let (dialed, _server) = connect(Script::default(), order.environment).await;
            Ok(dialed)
        })
    }
}

/// The largest distance between the distribution of `points` and the even one between `from` and `to`
/// (Kolmogorov-Smirnov).
#[expect(clippy::cast_precision_loss, reason = "hundreds of points")]
fn unevenness(points: &[Instant], from: Instant, to: Instant) -> f64 {
    let whole = to.duration_since(from).as_secs_f64();
    let mut places: Vec<f64> = points.iter().map(|point| point.duration_since(from).as_secs_f64() / whole).collect();
    places.sort_by(f64::total_cmp);
    let count = places.len() as f64;
    let distance = |(rank, place): (usize, &f64)| {
        let rank = rank as f64;
        (place - rank / count).abs().max((place - (rank + 1.0) / count).abs())
    };
    places.iter().enumerate().map(distance).fold(0.0, f64::max)
}

#[tokio::test(start_paused = true)]
async fn f09_r10_a_server_that_was_away_for_an_hour_is_back_within_a_minute() {
    let back = Instant::now() + Duration::from_hours(1);
    let away = Away::until(back);
    let (environment, _notices) = environment();
    let dialer: Arc<dyn Dialer> = away.clone();
    let fleet = Fleet::start_with(&[(name(), config())], environment, dialer);
    let mut states = fleet.all()[0].states();
    let waited = tokio::time::timeout(Duration::from_hours(2), states.wait_for(|view| view.state == "ready"));
    waited.await.expect("nobody gives up").expect("the supervisor lives");
    assert!(back.elapsed() <= Duration::from_secs(61), "{:?}", back.elapsed());
    assert!(away.attempts().len() > 60, "somebody looked all the time: {}", away.attempts().len());
}

#[tokio::test(start_paused = true)]
async fn f10_r11_fifty_servers_that_fail_together_do_not_come_back_together() {
    let start = Instant::now();
    let away = Away::until(start + Duration::from_hours(1));
    let (environment, _notices) = environment();
    let dialer: Arc<dyn Dialer> = away.clone();
    let names = (0..50).map(|number| ServerName::new(&format!("s{number}")).expect("a name"));
    let servers: Vec<_> = names.map(|name| (name, config())).collect();
    let _fleet = Fleet::start_with(&servers, environment, dialer);
    let end = start + Duration::from_mins(5);
    tokio::time::sleep_until(end).await;
    let attempts = away.attempts();
    // A ladder without luck tries about ten times in this time; with it, half of each wait is saved.
    assert!(attempts.len() <= 50 * 25, "{} attempts", attempts.len());
    // The first steps are short for all; from then on nothing of the common beginning may show. In lockstep the
    // distance is a quarter and more.
    let settled = start + Duration::from_mins(1);
    let later: Vec<Instant> = attempts.into_iter().filter(|attempt| *attempt >= settled).collect();
    assert!(later.len() > 200, "{} attempts", later.len());
    let distance = unevenness(&later, settled, end);
    assert!(distance < 0.15, "attempts bunch together: {distance}");
}

#[tokio::test(start_paused = true)]
async fn f25_r23_a_burst_of_changes_is_one_fetch_and_an_endless_one_is_a_fetch_in_two_seconds() {
    let burst = Fault::list_changed_burst("tools/list", "notifications/tools/list_changed", 200).times(1);
    let world = World::new(Script { faults: vec![burst], ..Script::default() });
    let server = world.ready().await;
    let fetched = || server.seen_of("tools/list").len();
    sleep(Duration::from_secs(10)).await;
    assert!((2..=3).contains(&fetched()), "{} fetches for one burst", fetched() - 1);

    let before = fetched();
    for _ in 0..1800 {
        server.notify("notifications/tools/list_changed", "{}").await;
        sleep(Duration::from_millis(333)).await;
    }
    let endless = fetched() - before;
    assert!((200..=300).contains(&endless), "{endless} fetches in ten minutes");
    assert_eq!(world.passed().last(), Some(&"ready"), "and the server is no worse for it");
}

#[tokio::test(start_paused = true)]
async fn f25_r23_a_change_while_the_list_is_fetched_is_not_lost() {
    let slow = || vec![Fault::slow("tools/list", Duration::from_secs(1))];
    let world = World::new(Script { faults: slow(), ..Script::default() });
    let server = world.ready().await;
    server.notify("notifications/tools/list_changed", "{}").await;
    // The answer to this one is made up already.
    server.saw("tools/list", 2).await;
    server.change(Script { tools: vec![tool("late")], faults: slow(), ..Script::default() }).await;
    server.notify("notifications/tools/list_changed", "{}").await;
    sleep(Duration::from_secs(10)).await;
    let offer = world.upstream().offer();
    let names: Vec<&str> = offer.tools.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["late"]);
}

#[tokio::test(start_paused = true)]
async fn f23_r21_a_server_that_comes_back_without_its_lists_is_not_ready() {
    let without = Script { faults: vec![Fault::silent("tools/list")], ..Script::default() };
    let world = World::planned(config(), [crate::fakes::Plan::Serve(Script::default())], without);
    world.ready().await.exit().await;
    world.is("backoff").await;
    // The history holds the last ones only.
    sleep(Duration::from_mins(10)).await;
    assert!(!world.passed().contains(&"ready"), "{:?}", world.passed());
    world.is("backoff").await;
    let status = world.upstream().status();
    assert!(status.reason.as_deref().is_some_and(|reason| reason.contains("tools/list")), "{:?}", status.reason);
    assert_eq!((status.tools, status.stale), (1, true), "R-22: what it had is still listed");
}
