//! Servers that are paused: off until they are resumed, whatever else happens.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_paused_server_is_off_whatever_is_reloaded_and_goes_on_as_it_is_configured_by_then() {
    let world = World::new(Script::default());
    world.ready().await;
    assert!(world.fleet.pause("git") && world.fleet.pause("git"), "twice is once");
    world.is("disabled").await;
    assert!(world.upstream().is_paused() && !world.upstream().config().enabled);
    let told = world.upstream().status().reason.expect("it is away");
    assert_eq!(told, "server `git` is paused; resume it on the dashboard, or restart it");
    let mut quick = config();
    quick.tuning.tool_timeout = Duration::from_secs(7);
    world.reload(quick);
    sleep(Duration::from_mins(5)).await;
    assert_eq!((world.pipes.dials(), world.upstream().status().state), (1, "disabled"));
    assert!(world.fleet.resume("git"));
    world.ready().await;
    assert_eq!(world.upstream().config().tuning.tool_timeout, Duration::from_secs(7));
    assert!(world.upstream().config().enabled && !world.upstream().is_paused());
    assert!(!world.fleet.resume("git") && !world.fleet.pause("nobody"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_the_configuration_switches_off_is_not_paused_any_more() {
    let world = World::new(Script::default());
    world.ready().await;
    world.fleet.pause("git");
    world.is("disabled").await;
    world.reload(Server { enabled: false, ..config() });
    assert!(!world.upstream().is_paused() && !world.fleet.resume("git"), "it is off by the file");
    assert!(!world.fleet.pause("git"), "it does not run");
    world.reload(config());
    world.ready().await;
}
