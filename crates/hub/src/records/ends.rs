//! [`Ends`]: the sessions that are over, for as long as somebody could come with their ids.
//!
//! An id stays good without any memory of it, so of one that was ended a memory must be kept. Whoever begins and ends a
//! session every minute ends ten thousand a week, so this is kept small: 64 bits of a hash for each, in books of some
//! thousand. A book is one small file. Only the last one is written to, and one whose ends nobody can ask for any more
//! goes as a whole.

use std::collections::{BTreeMap, HashSet};

use sha2::{Digest, Sha256};

use crate::limits::{ENDS_BOOKS_MAX, ENDS_PER_BOOK};

/// The files of the books, by their number.
const FILES: &str = "ended-";

/// Bytes of one hash, and of the date before them.
const WORD: usize = size_of::<u64>();

/// The longest body of a file.
pub(super) const FILE_BYTES_MAX: usize = (1 + ENDS_PER_BOOK) * WORD;

/// Which sessions are over, by hashes of their nonces.
#[derive(Debug, Default)]
pub(super) struct Ends {
    all: HashSet<u64>,
    books: BTreeMap<u64, Book>,
    /// The highest number a book ever had: none is given twice, since the file of the first may still have to go.
    last: u64,
    /// Files of books that are no more.
    gone: Vec<u64>,
}

#[derive(Debug, Default)]
struct Book {
    ended: Vec<u64>,
    /// When the last of them ended, in seconds of the Unix age.
    newest: u64,
    changed: bool,
}

/// What is to be done with a file.
#[derive(Debug)]
pub(super) enum Task {
    Write(Vec<u8>),
    Remove,
}

impl Ends {
    pub(super) fn has(&self, nonce: &str) -> bool {
        self.all.contains(&hash(nonce))
    }

    /// Enters an end. Says whether it was one.
    pub(super) fn add(&mut self, nonce: &str, now: u64) -> bool {
        let hash = hash(nonce);
        if !self.all.insert(hash) {
            return false;
        }
        if self.books.get(&self.last).is_none_or(|book| book.ended.len() >= ENDS_PER_BOOK) {
            self.last += 1;
        }
        let book = self.books.entry(self.last).or_default();
        book.ended.push(hash);
        book.newest = book.newest.max(now);
        book.changed = true;
        if self.books.len() > ENDS_BOOKS_MAX
            && let Some((oldest, _)) = self.books.first_key_value()
        {
            tracing::warn!(
                "more sessions were ended than are remembered; the ids of the first {ENDS_PER_BOOK} are good again"
            );
            self.drop_book(*oldest);
        }
        true
    }

    /// Lets go of the books whose last end is older than `lifetime_secs`. Says whether there were any.
    pub(super) fn prune(&mut self, now: u64, lifetime_secs: u64) -> bool {
        let old = |(_, book): &(&u64, &Book)| now.saturating_sub(book.newest) > lifetime_secs;
        let old: Vec<u64> = self.books.iter().filter(old).map(|(number, _)| *number).collect();
        for number in &old {
            self.drop_book(*number);
        }
        !old.is_empty()
    }

    /// Takes up the body of a file. A book of this process that has its number gets another one.
    pub(super) fn read(&mut self, file: &str, body: &[u8]) -> Option<()> {
        let number = number_of(file)?;
        let (words, rest) = body.as_chunks::<WORD>();
        let (newest, ended) = words.split_first().filter(|_| rest.is_empty())?;
        let ended: Vec<u64> = ended.iter().map(|word| u64::from_le_bytes(*word)).collect();
        self.all.extend(&ended);
        self.last = self.last.max(number);
        if let Some(own) = self.books.remove(&number) {
            self.last += 1;
            self.books.insert(self.last, Book { changed: true, ..own });
        }
        self.books.insert(number, Book { ended, newest: u64::from_le_bytes(*newest), changed: false });
        Some(())
    }

    /// What is to be done on disk, by the file. It counts as done from here on: see [`Ends::failed`].
    pub(super) fn take_tasks(&mut self) -> Vec<(String, Task)> {
        let mut tasks = Vec::new();
        for (number, book) in self.books.iter_mut().filter(|(_, book)| book.changed) {
            book.changed = false;
            let words = std::iter::once(&book.newest).chain(&book.ended);
            tasks.push((file_of(*number), Task::Write(words.flat_map(|word| word.to_le_bytes()).collect())));
        }
        tasks.extend(self.gone.drain(..).map(|number| (file_of(number), Task::Remove)));
        tasks
    }

    /// The disk did not take it: it is to be done again, if it still means something.
    pub(super) fn failed(&mut self, file: &str) {
        let Some(number) = number_of(file) else { return };
        match self.books.get_mut(&number) {
            Some(book) => book.changed = true,
            None => self.gone.push(number),
        }
    }

    /// A file that is there, though not read yet, has its number.
    pub(super) fn keep_clear_of(&mut self, file: &str) {
        self.last = self.last.max(number_of(file).unwrap_or_default());
    }

    fn drop_book(&mut self, number: u64) {
        for hash in self.books.remove(&number).into_iter().flat_map(|book| book.ended) {
            self.all.remove(&hash);
        }
        self.gone.push(number);
    }
}

/// Whether a file is one of the books'.
pub(super) fn is_book(file: &str) -> bool {
    number_of(file).is_some()
}

fn number_of(file: &str) -> Option<u64> {
    file.strip_prefix(FILES)?.parse().ok()
}

fn file_of(number: u64) -> String {
    format!("{FILES}{number}")
}

/// Nonces are random and under a seal, so nobody chooses what collides.
fn hash(nonce: &str) -> u64 {
    let hash = Sha256::digest(nonce);
    hash.iter().take(WORD).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does what is to be done, on a disk that is a map.
    fn write(ends: &mut Ends, disk: &mut BTreeMap<String, Vec<u8>>) {
        for (file, task) in ends.take_tasks() {
            match task {
                Task::Write(body) => drop(disk.insert(file, body)),
                Task::Remove => drop(disk.remove(&file)),
            }
        }
    }

    fn read(disk: &BTreeMap<String, Vec<u8>>) -> Ends {
        let mut ends = Ends::default();
        for (file, body) in disk {
            ends.read(file, body).expect("as it was written");
        }
        ends
    }

    #[test]
    fn r5_every_end_is_known_again_and_only_the_last_book_is_written() {
        let (mut ends, mut disk) = (Ends::default(), BTreeMap::new());
        for number in 0..ENDS_PER_BOOK + 10 {
            assert!(ends.add(&number.to_string(), 5));
        }
        assert!(!ends.add("0", 6), "it was over");
        write(&mut ends, &mut disk);
        assert_eq!(disk.len(), 2);
        let mut again = read(&disk);
        assert!((0..ENDS_PER_BOOK + 10).all(|number| again.has(&number.to_string())) && !again.has("other"));
        again.add("other", 6);
        let tasks = again.take_tasks();
        assert!(tasks.len() == 1 && tasks[0].0 == "ended-2", "{tasks:?}");
        again.failed("ended-2");
        assert_eq!(again.take_tasks().len(), 1, "it is to be written still");
        assert!(disk.values().all(|body| body.len() <= FILE_BYTES_MAX));
    }

    #[test]
    fn r25_what_nobody_can_ask_for_goes_and_so_does_the_oldest_book_of_too_many() {
        let (mut ends, mut disk) = (Ends::default(), BTreeMap::new());
        for number in 0..=ENDS_PER_BOOK * ENDS_BOOKS_MAX {
            ends.add(&number.to_string(), number as u64);
        }
        write(&mut ends, &mut disk);
        assert_eq!((disk.len(), ends.books.len()), (ENDS_BOOKS_MAX, ENDS_BOOKS_MAX));
        assert!(!ends.has("0") && ends.has(&ENDS_PER_BOOK.to_string()));
        let now = (ENDS_PER_BOOK * ENDS_BOOKS_MAX + 100) as u64;
        assert!(ends.prune(now, 100) && !ends.prune(now, 100));
        write(&mut ends, &mut disk);
        assert_eq!((disk.len(), ends.all.len()), (1, 1), "the last one is young enough");
        assert!(ends.prune(now + 1, 100) && ends.all.is_empty());
        ends.add("new", now);
        write(&mut ends, &mut disk);
        assert!(read(&disk).has("new"), "its file is none that was to go");
    }

    #[test]
    fn r37_a_body_that_is_no_book_is_none() {
        for (file, body) in [("ended-x", &[0; 16][..]), ("ended-1", &[0; 15]), ("ended-1", &[])] {
            assert!(Ends::default().read(file, body).is_none(), "{file}");
        }
    }
}
