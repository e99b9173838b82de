//! [`FileWatch`]: says when the configuration file may have changed.
//!
//! What is watched are directories, never the file itself: editors write a new file and rename it over the old one,
//! configuration managers swap a link somewhere above it, and either way a watch on the file would look at a file that
//! is gone. Watched are the directory of each link on the way to the file, and of a directory that is not there yet,
//! the nearest one above it. Afterwards the file must be at rest for a moment, and differ from what was seen last. The
//! watches are set anew after each change, since the way may be another. Without a watcher, for want of descriptors
//! perhaps, reloads come by SIGHUP and by command.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use trunkline_config::{Sources, default_config_path};

/// How long the file must be at rest before it is read: editors write in several steps.
const QUIET: Duration = Duration::from_millis(300);

/// The latest it is read while changes keep coming.
const LATEST: Duration = Duration::from_secs(5);

/// Larger than any configuration that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Links on the way to a file. The kernel follows no more than this either.
const LINKS_MAX: usize = 40;

/// Looks after the configuration file.
pub(crate) struct FileWatch {
    path: PathBuf,
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
    watched: BTreeSet<PathBuf>,
    seen: u64,
}

impl FileWatch {
    /// Begins to watch.
    pub(crate) fn new(sources: &Sources) -> Self {
        let path = sources.file.clone().unwrap_or_else(|| default_config_path(&sources.env));
        let path = std::path::absolute(&path).unwrap_or(path);
        // That something happened is all that is told, so one place is enough.
        let (bell, events) = mpsc::channel(1);
        let ring = move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| !matches!(event.kind, EventKind::Access(_))) {
                let _ = bell.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(ring);
        let watcher = watcher.inspect_err(unwatched).ok();
        let mut watch = Self { path, watcher, events, watched: BTreeSet::new(), seen: 0 };
        watch.rearm();
        watch
    }

    /// Waits until the file has changed and is at rest. Safe to drop and call again.
    pub(crate) async fn changed(&mut self) {
        loop {
            if self.events.recv().await.is_none() {
                return std::future::pending().await;
            }
            let latest = Instant::now() + LATEST;
            while timeout_at(latest.min(Instant::now() + QUIET), self.events.recv()).await.is_ok()
                && Instant::now() < latest
            {}
            if fingerprint(&self.path) != self.seen {
                return;
            }
            self.rearm();
        }
    }

    /// Watches what has to be watched now, and takes the file as it is for seen.
    pub(crate) fn rearm(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted = directories(&self.path);
        for gone in self.watched.difference(&wanted) {
            // It may be gone indeed.
            let _ = watcher.unwatch(gone);
        }
        // All of them: a directory that was replaced has the same name and another watch.
        for directory in &wanted {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                unwatched(&error);
            }
        }
        self.watched = wanted;
        self.seen = fingerprint(&self.path);
    }
}

fn unwatched(error: &notify::Error) {
    tracing::warn!(%error, "changes of the configuration are not seen; SIGHUP and `trunkline reload` work all the same");
}

/// Every directory in which a change can lead to another file.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut out = BTreeSet::new();
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_dir()) {
            above = directory.parent();
        }
        out.extend(above.map(Path::to_path_buf));
        // The nearest link on the way: the file, or a directory above it.
        let link = path.ancestors().find_map(|part| Some((part.to_path_buf(), fs::read_link(part).ok()?)));
        let Some((link, target)) = link else { break };
        let rest = path.strip_prefix(&link).map(Path::to_path_buf).unwrap_or_default();
        out.extend(link.parent().map(Path::to_path_buf));
        let base = link.parent().unwrap_or(Path::new("/")).join(target);
        path = if rest.as_os_str().is_empty() { base } else { base.join(rest) };
    }
    out
}

/// Tells one state of the file from another, its absence included.
fn fingerprint(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    // Whoever reads it says what is wrong with a pipe or a giant in its place.
    let metadata = fs::metadata(path).ok();
    let file = metadata.filter(|metadata| metadata.is_file() && metadata.len() <= FILE_BYTES_MAX);
    file.map(|metadata| (metadata.permissions().readonly(), fs::read(path).ok())).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watching(path: &Path) -> FileWatch {
        FileWatch::new(&Sources { file: Some(path.to_path_buf()), ..Sources::default() })
    }

    /// Whether a change is told, after all that may come of it.
    async fn told(watch: &mut FileWatch) -> bool {
        let told = tokio::time::timeout(Duration::from_secs(3), watch.changed()).await.is_ok();
        watch.rearm();
        told
    }

    #[tokio::test]
    async fn r36_a_file_that_is_written_renamed_over_removed_and_made_again_is_seen() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        let mut watch = watching(&path);
        fs::write(&path, "a").expect("written");
        assert!(told(&mut watch).await, "made");
        fs::write(&path, "ab").expect("written");
        assert!(told(&mut watch).await, "written");
        for text in ["one", "two"] {
            fs::write(dir.path().join("new"), text).expect("written");
            fs::rename(dir.path().join("new"), &path).expect("renamed");
            assert!(told(&mut watch).await, "renamed over");
        }
        fs::remove_file(&path).expect("removed");
        assert!(told(&mut watch).await, "removed");
        fs::write(dir.path().join("other"), "x").expect("written");
        fs::write(&path, "").expect("written");
        assert!(told(&mut watch).await, "made again");
    }

    #[tokio::test]
    async fn r36_a_link_that_leads_elsewhere_is_seen_and_what_changes_nothing_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let (real, other) = (dir.path().join("real"), dir.path().join("other"));
        fs::create_dir(&real).expect("made");
        fs::create_dir(&other).expect("made");
        fs::write(real.join("config.toml"), "real").expect("written");
        fs::write(other.join("config.toml"), "other").expect("written");
        let current = dir.path().join("current");
        std::os::unix::fs::symlink(&real, &current).expect("linked");
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).expect("made");
        std::os::unix::fs::symlink(current.join("config.toml"), etc.join("config.toml")).expect("linked");
        let mut watch = watching(&etc.join("config.toml"));
        fs::write(real.join("config.toml"), "changed").expect("written");
        assert!(told(&mut watch).await, "behind two links");
        std::os::unix::fs::symlink(&other, dir.path().join("next")).expect("linked");
        fs::rename(dir.path().join("next"), &current).expect("renamed");
        assert!(told(&mut watch).await, "a link in the middle was swapped");
        fs::write(other.join("config.toml"), "again").expect("written");
        assert!(told(&mut watch).await, "where it leads now");
        fs::write(other.join("unrelated"), "x").expect("written");
        fs::write(other.join("config.toml"), "again").expect("written");
        assert!(!told(&mut watch).await, "the same text");
    }
}
