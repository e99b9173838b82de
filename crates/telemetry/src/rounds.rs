//! [`Rounds`]: polls work whose parts wake one another, without a trip through the scheduler for each wake.
//!
//! An HTTP connection and the request on it are two futures that pass pieces to each other, and each piece wakes the
//! task that both run in. A task that is woken while it runs goes to the back of its queue, and an idle thread
//! is woken to take it from there: a trip that a call over HTTP makes several times. Here a wake that comes during the poll only asks for
//! another round, in place.
//!
//! Promises: no wake is lost, whichever thread it comes from; rounds are bounded, so that work that is always awake
//! (tokio's budget is spent, a flood comes in) gives way to others.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Rounds within one poll. A request and its answer need three or four.
const ROUNDS_MAX: u32 = 8;

/// The work is being polled: its wakes need no help.
const POLLED: u8 = 1;
/// It was woken since the last round began.
const WOKEN: u8 = 2;

/// Polls one piece of work in rounds. Belongs to it for as long as it lives, whichever task that is in.
#[derive(Debug)]
pub struct Rounds {
    bell: Arc<Bell>,
    /// The bell, as the work sees it.
    waker: Waker,
}

#[derive(Debug, Default)]
struct Bell {
    state: AtomicU8,
    /// The task to wake when nobody polls.
    task: AtomicWaker,
}

impl Default for Rounds {
    fn default() -> Self {
        let bell = Arc::<Bell>::default();
        Self { waker: Waker::from(Arc::clone(&bell)), bell }
    }
}

impl Rounds {
    /// Polls `work` until it is ready or nothing wakes it any more.
    pub fn poll<T>(&mut self, context: &mut Context<'_>, mut work: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let bell = &self.bell;
        bell.task.register(context.waker());
        for _ in 0..ROUNDS_MAX {
            // The swaps pair with that of `wake`: who finds `POLLED` leaves `WOKEN`, and is seen at the end.
            bell.state.swap(POLLED, Ordering::AcqRel);
            let polled = work(&mut Context::from_waker(&self.waker));
            let woken = bell.state.swap(0, Ordering::AcqRel) & WOKEN != 0;
            if polled.is_ready() || !woken {
                return polled;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Drives `work` to its end.
    pub async fn drive<F: Future>(&mut self, mut work: Pin<&mut F>) -> F::Output {
        poll_fn(|context| self.poll(context, |context| work.as_mut().poll(context))).await
    }

    /// Forgets the task: until the next poll, wakes go nowhere.
    pub fn rest(&mut self) {
        self.bell.task.take();
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) & POLLED == 0 {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Counts how often the task is woken.
    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn work_that_wakes_itself_goes_on_in_place_and_its_task_sleeps() {
        let count = Arc::<Count>::default();
        let task = Waker::from(count.clone());
        let mut left = 3;
        let ended = Rounds::default().poll(&mut Context::from_waker(&task), |context| {
            left -= 1;
            context.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        assert_eq!((ended, left, count.0.load(Ordering::Relaxed)), (Poll::Ready(()), 0, 0));
    }

    #[test]
    fn work_that_is_always_awake_gives_way_and_comes_back() {
        let count = Arc::<Count>::default();
        let task = Waker::from(count.clone());
        let mut polls = 0;
        let polled = Rounds::default().poll(&mut Context::from_waker(&task), |context| {
            polls += 1;
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((polled, polls, count.0.load(Ordering::Relaxed)), (Poll::Pending, ROUNDS_MAX, 1));
    }

    #[test]
    fn a_wake_between_polls_wakes_the_task_that_polled_last_and_none_at_rest() {
        let count = Arc::<Count>::default();
        let task = Waker::from(count.clone());
        let (mut rounds, mut inner) = (Rounds::default(), None);
        let pending = rounds.poll(&mut Context::from_waker(&task), |context| {
            inner = Some(context.waker().clone());
            Poll::<()>::Pending
        });
        assert!(pending.is_pending());
        let inner = inner.expect("it was polled");
        inner.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        rounds.rest();
        inner.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn no_wake_of_another_thread_is_lost() {
        let (mut rounds, (to, mut from)) = (Rounds::default(), tokio::sync::mpsc::channel::<u32>(1));
        let sender = std::thread::spawn(move || (0..20_000).try_for_each(|n| to.blocking_send(n)));
        let mut sum = 0;
        while let Some(n) = poll_fn(|context| rounds.poll(context, |inner| from.poll_recv(inner))).await {
            sum += n;
        }
        assert_eq!(sum, 199_990_000);
        sender.join().expect("it ends").expect("all were taken");
    }
}
