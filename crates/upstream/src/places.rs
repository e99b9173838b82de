//! [`Places`]: how many requests a server works on at a time, and who is next.
//!
//! While there is room nobody waits, and all there is to it is one short lock. When there is none, clients take turns,
//! one request each, in the order in which they began to wait; and one that holds half of the places is passed over as
//! long as another waits. So a client with a hundred calls in the queue delays one with a single call by one turn.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A server's places.
#[derive(Debug)]
pub(crate) struct Places {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Places that are given out. Those beyond were, before there were fewer.
    count: usize,
    /// By place: who holds it.
    holders: Vec<Option<u64>>,
    free: Vec<usize>,
    /// The clients that wait; whose turn it is comes first.
    lanes: VecDeque<Lane>,
    /// In all lanes.
    waiting: usize,
    last_ticket: u64,
}

/// The requests of one client that wait, the oldest first.
#[derive(Debug)]
struct Lane {
    share: u64,
    tickets: VecDeque<(u64, oneshot::Sender<Seat>)>,
}

/// One of the places, given back on drop.
#[derive(Debug)]
pub(crate) struct Seat {
    places: Arc<Places>,
    at: usize,
}

/// A request in the queue, out of it on drop.
#[derive(Debug)]
pub(crate) struct Ticket {
    places: Arc<Places>,
    share: u64,
    number: u64,
    seat: oneshot::Receiver<Seat>,
}

/// What became of the wish for a place.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Here it is.
    Seat(Seat),
    /// It has to be waited for.
    Ticket(Ticket),
    /// Too many wait for one.
    Full,
}

impl Places {
    /// So many places.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let state = State {
            count,
            holders: vec![None; count],
            free: (0..count).rev().collect(),
            lanes: VecDeque::new(),
            waiting: 0,
            last_ticket: 0,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Takes a place for the client `share`, or a ticket for one unless `queue_max` wait already. Nobody who waits is
    /// passed by.
    pub(crate) fn take(self: &Arc<Self>, share: u64, queue_max: usize) -> Taken {
        let mut state = self.state();
        if state.lanes.is_empty()
            && let Some(at) = state.free.pop()
        {
            state.holders[at] = Some(share);
            return Taken::Seat(Seat { places: self.clone(), at });
        }
        if state.waiting >= queue_max {
            return Taken::Full;
        }
        let (sender, seat) = oneshot::channel();
        state.waiting += 1;
        state.last_ticket += 1;
        let number = state.last_ticket;
        match state.lanes.iter_mut().find(|lane| lane.share == share) {
            Some(lane) => lane.tickets.push_back((number, sender)),
            None => state.lanes.push_back(Lane { share, tickets: VecDeque::from([(number, sender)]) }),
        }
        Taken::Ticket(Ticket { places: self.clone(), share, number, seat })
    }

    /// From now on there are so many. Who holds one keeps it; who waits gets what is new.
    pub(crate) fn resize(self: &Arc<Self>, count: usize) {
        let mut state = self.state();
        state.count = count;
        let most = count.max(state.holders.len());
        state.holders.resize(most, None);
        state.free = (0..count).rev().filter(|at| state.holders[*at].is_none()).collect();
        let mut turns = Vec::new();
        while !state.lanes.is_empty()
            && let Some(at) = state.free.pop()
        {
            turns.extend(state.seat(at));
        }
        drop(state);
        for (at, sender) in turns {
            drop(sender.send(Seat { places: self.clone(), at }));
        }
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.state().holders.iter().flatten().count()
    }

    /// Whether any is taken or waited for.
    pub(crate) fn wanted(&self) -> bool {
        let state = self.state();
        state.waiting > 0 || state.holders.iter().any(Option::is_some)
    }

    fn give_back(self: &Arc<Self>, at: usize) {
        let turn = {
            let mut state = self.state();
            state.holders[at] = None;
            if at < state.count { state.seat(at) } else { None }
        };
        if let Some((at, sender)) = turn {
            // One who left at this very moment gives it back at once.
            drop(sender.send(Seat { places: self.clone(), at }));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives a place to whose turn it is, or lays it aside.
    fn seat(&mut self, at: usize) -> Option<(usize, oneshot::Sender<Seat>)> {
        let Some((share, sender)) = self.next() else {
            self.free.push(at);
            return None;
        };
        self.holders[at] = Some(share);
        Some((at, sender))
    }

    /// Takes out whose turn it is.
    fn next(&mut self) -> Option<(u64, oneshot::Sender<Seat>)> {
        let most = (self.count / 2).max(1);
        let fits = |lane: &Lane| self.holders.iter().filter(|holder| **holder == Some(lane.share)).count() < most;
        let at = self.lanes.iter().position(fits).unwrap_or(0);
        let mut lane = self.lanes.remove(at)?;
        let (_, sender) = lane.tickets.pop_front().expect("an empty lane is taken away");
        let share = lane.share;
        self.waiting -= 1;
        if !lane.tickets.is_empty() {
            self.lanes.push_back(lane);
        }
        Some((share, sender))
    }
}

impl Ticket {
    /// Waits for the turn. Safe to drop.
    pub(crate) async fn seated(&mut self) -> Seat {
        match (&mut self.seat).await {
            Ok(seat) => seat,
            // The places live as long as the ticket does, and keep the sender until the turn comes.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.places.state();
        let Some(at) = state.lanes.iter().position(|lane| lane.share == self.share) else { return };
        let lane = &mut state.lanes[at];
        let before = lane.tickets.len();
        lane.tickets.retain(|(number, _)| *number != self.number);
        let gone = before - lane.tickets.len();
        if lane.tickets.is_empty() {
            state.lanes.remove(at);
        }
        state.waiting -= gone;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.give_back(self.at);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn seat(places: &Arc<Places>, share: u64) -> Seat {
        let Taken::Seat(seat) = places.take(share, 8) else { panic!("a place") };
        seat
    }

    fn ticket(places: &Arc<Places>, share: u64) -> Ticket {
        let Taken::Ticket(ticket) = places.take(share, 8) else { panic!("a ticket") };
        ticket
    }

    #[tokio::test]
    async fn r24_clients_take_turns_however_many_requests_each_has_in_the_queue() {
        let places = Places::new(1);
        let mut held = Some(seat(&places, 1));
        let mut waiting: Vec<(u64, Ticket)> = [1, 1, 1, 1, 2, 2, 3].map(|share| (share, ticket(&places, share))).into();
        let mut order = Vec::new();
        while !waiting.is_empty() {
            held.take();
            let turn = waiting.iter_mut().position(|(_, ticket)| {
                held = ticket.seated().now_or_never();
                held.is_some()
            });
            order.push(waiting.remove(turn.expect("somebody's turn")).0);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 1, 1]);
    }

    #[tokio::test]
    async fn r24_who_holds_half_of_the_places_is_passed_over_while_another_waits() {
        let places = Places::new(4);
        let mut held: Vec<Seat> = (0..4).map(|_| seat(&places, 1)).collect();
        let mut more = ticket(&places, 1);
        let mut others = [ticket(&places, 2), ticket(&places, 2)];
        for other in &mut others {
            held.pop();
            let seat = other.seated().now_or_never().expect("the other's turn, twice in a row");
            assert!(more.seated().now_or_never().is_none());
            std::mem::forget(seat);
        }
        // Nobody else waits: no place stays empty for the rule's sake.
        held.pop();
        assert!(more.seated().now_or_never().is_some());
    }

    #[tokio::test]
    async fn r24_the_queue_is_bounded_and_who_leaves_it_makes_room() {
        let places = Places::new(1);
        let held = seat(&places, 1);
        let (first, second) = (ticket(&places, 1), ticket(&places, 2));
        assert!(matches!(places.take(3, 2), Taken::Full));
        drop(first);
        let mut third = ticket(&places, 3);
        drop(second);
        drop(held);
        assert!(third.seated().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_turn_that_nobody_takes_goes_to_the_next() {
        let places = Places::new(1);
        let held = seat(&places, 1);
        let (first, mut second) = (ticket(&places, 1), ticket(&places, 2));
        drop(held);
        assert!(second.seated().now_or_never().is_none(), "the first has it");
        drop(first);
        let seat = second.seated().now_or_never().expect("the second has it now");
        drop(seat);
        assert_eq!(places.taken(), 0);
    }

    #[tokio::test]
    async fn r36_places_can_become_more_or_fewer_while_they_are_held() {
        let places = Places::new(1);
        let first = seat(&places, 1);
        let mut second = ticket(&places, 2);
        places.resize(2);
        let second = second.seated().now_or_never().expect("there is another one now");
        places.resize(1);
        let mut third = ticket(&places, 3);
        drop(second);
        assert!(third.seated().now_or_never().is_none(), "that one is no more");
        drop(first);
        let third = third.seated().now_or_never().expect("its turn");
        assert_eq!((places.taken(), places.wanted()), (1, true));
        drop(third);
        assert_eq!((places.taken(), places.wanted()), (0, false));
    }

    proptest! {
        /// Whatever comes and goes: no place is lost or given twice, none stays empty while somebody waits.
        #[test]
        fn r24_no_place_is_lost_or_idle(steps in proptest::collection::vec((0..4_u8, 0..5_u64, any::<prop::sample::Index>()), 1..300)) {
            let places = Places::new(3);
            let (mut held, mut waiting): (Vec<Seat>, Vec<Ticket>) = (Vec::new(), Vec::new());
            for (what, share, index) in steps {
                match what {
                    0 | 1 => match places.take(share, 8) {
                        Taken::Seat(seat) => held.push(seat),
                        Taken::Ticket(ticket) => waiting.push(ticket),
                        Taken::Full => prop_assert_eq!(waiting.len(), 8),
                    },
                    2 if !held.is_empty() => drop(held.swap_remove(index.index(held.len()))),
                    3 if !waiting.is_empty() => drop(waiting.swap_remove(index.index(waiting.len()))),
                    _ => {}
                }
                waiting.retain_mut(|ticket| match ticket.seated().now_or_never() {
                    Some(seat) => {
                        held.push(seat);
                        false
                    }
                    None => true,
                });
                prop_assert_eq!(places.taken(), held.len());
                prop_assert!(held.len() == 3 || waiting.is_empty(), "{} hold, {} wait", held.len(), waiting.len());
            }
            drop((held, waiting));
            prop_assert_eq!(places.taken(), 0);
        }
    }
}
