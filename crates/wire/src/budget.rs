//! [`Budget`]: the one allowance that every buffered byte is charged to.
//!
//! Limits of single buffers multiply with the number of buffers; this sum does not. Whoever buffers takes a
//! [`Charge`] first and is refused when the budget is spent; dropping the charge gives the bytes back.
//!
//! What is charged is not all that a process holds. Whoever measures that tells its holders by the same way:
//! [`Budget::press`] sets a [`Pressure`], and whoever keeps something that can be spared asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// A shared allowance of bytes. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
    pressure: AtomicU8,
}

/// How near the process is to the memory it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// What can be spared is given up.
    Shrink,
    /// New work is refused.
    Refuse,
}

/// Bytes taken from a [`Budget`], given back on drop.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    bytes: usize,
}

/// The budget has no room for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no room for {wanted} more bytes in the buffers, which may hold {limit} together (`limits.buffer_bytes`)")]
pub struct OutOfBudget {
    /// Bytes asked for.
    pub wanted: usize,
    /// Bytes of the whole budget.
    pub limit: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicUsize::new(0), pressure: AtomicU8::default() }))
    }

    /// Takes `bytes`, or says that there is no room.
    pub fn charge(&self, bytes: usize) -> Result<Charge, OutOfBudget> {
        self.take(bytes)?;
        Ok(Charge { budget: self.clone(), bytes })
    }

    /// Bytes now taken.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes in all.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Tells all holders how near the process is to the memory it may have.
    pub fn press(&self, pressure: Pressure) {
        self.0.pressure.store(pressure as u8, Ordering::Relaxed);
    }

    /// How near the process is to the memory it may have, as far as anybody said.
    pub fn pressure(&self) -> Pressure {
        match self.0.pressure.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Shrink,
            _ => Pressure::Refuse,
        }
    }

    fn take(&self, bytes: usize) -> Result<(), OutOfBudget> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.0.limit);
        match self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(_) => Err(OutOfBudget { wanted: bytes, limit: self.0.limit }),
        }
    }
}

impl Charge {
    /// Takes `bytes` more into this charge.
    pub fn grow(&mut self, bytes: usize) -> Result<(), OutOfBudget> {
        self.budget.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_beyond_the_limit_and_takes_back() {
        let budget = Budget::new(10);
        let mut charge = budget.charge(6).expect("fits");
        assert_eq!(budget.charge(5).map(|c| c.bytes()), Err(OutOfBudget { wanted: 5, limit: 10 }));
        charge.grow(4).expect("fits exactly");
        assert!(charge.grow(usize::MAX).is_err());
        drop(charge);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn pressure_reaches_every_holder() {
        let budget = Budget::new(10);
        let holder = budget.clone();
        for pressure in [Pressure::Refuse, Pressure::Shrink, Pressure::None] {
            budget.press(pressure);
            assert_eq!(holder.pressure(), pressure);
        }
    }
}
