//! What QUIC does on each link, in files of the format qlog, for whoever looks for a fault in a network.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use quinn::{QlogConfig, QlogStream};
use tracing::{debug, warn};

/// The most that one link's file holds, in bytes: its beginning.
pub const MAX_QLOG_FILE: usize = 16 << 20;

/// Files that one process has in the folder. A further link's takes the place of the oldest whose link has ended: every
/// handshake has a file, and anybody can begin one.
pub const MAX_QLOG_FILES: usize = 1024;

/// A folder in which each link over QUIC has a file: when packets were sent, received and lost, and what was thought of the
/// path. There is nothing in it of what they hold. The other carriers write none.
#[derive(Debug)]
pub struct QlogFolder {
    path: PathBuf,
    files: Arc<Mutex<Files>>,
}

/// A folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write qlog files in the folder {}: {reason}; name one with --qlog that exists and that this user may write in",
    path.display()
)]
pub struct QlogFolderError {
    path: PathBuf,
    reason: io::Error,
}

/// The files of this process.
#[derive(Debug, Default)]
struct Files {
    /// All that there ever were.
    made: u64,
    /// Those of links that there are.
    open: usize,
    /// The others, the oldest first.
    ended: VecDeque<PathBuf>,
    /// Somebody has been told that there is no room.
    told: bool,
}

/// One link's file. What quinn writes is cut into records, so that the last one is whole.
#[derive(Debug)]
struct Writer {
    /// None once it holds all that it may, or cannot be written.
    file: Option<File>,
    path: PathBuf,
    /// The record that is being written. A record is small, and there is no end of them.
    record: Vec<u8>,
    /// Bytes that the file may still take.
    room: usize,
    files: Arc<Mutex<Files>>,
}

impl QlogFolder {
    /// Takes a folder that is there, after having written in it.
    ///
    /// # Errors
    ///
    /// [`QlogFolderError`] when it is not there, or this process may not write in it.
    pub fn open(path: &Path) -> Result<Arc<Self>, QlogFolderError> {
        let probe = path.join(format!(".adit-{:016x}", rand::random::<u64>()));
        File::create_new(&probe)
            .and_then(|_| fs::remove_file(&probe))
            .map_err(|reason| QlogFolderError {
                path: path.to_owned(),
                reason,
            })?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            files: Arc::default(),
        }))
    }

    /// A file for a link that is about to be. None where there can be none, which has been logged: a link is worth more
    /// than what is known of it.
    pub(crate) fn link(&self, role: &str, peer: SocketAddr) -> Option<QlogStream> {
        let began = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let path = self.admit(role, peer, &began)?;
        let file = match File::create_new(&path) {
            Ok(file) => file,
            Err(error) => {
                warn!(file = %path.display(), %error, "cannot write a qlog file: this link has none");
                lock(&self.files).open -= 1;
                return None;
            }
        };
        debug!(file = %path.display(), %peer, "writing qlog");
        let mut config = QlogConfig::default();
        config
            .title(Some(format!("adit {role}: link with {peer}")))
            .description(Some(format!("times count from {began}")))
            .writer(Box::new(Writer {
                file: Some(file),
                path,
                record: Vec::new(),
                room: MAX_QLOG_FILE,
                files: Arc::clone(&self.files),
            }));
        config.into_stream()
    }

    /// Counts a file in, and makes room for it.
    fn admit(&self, role: &str, peer: SocketAddr, began: &str) -> Option<PathBuf> {
        let mut files = lock(&self.files);
        if files.open + files.ended.len() >= MAX_QLOG_FILES {
            let Some(oldest) = files.ended.pop_front() else {
                if !std::mem::replace(&mut files.told, true) {
                    warn!(
                        limit = MAX_QLOG_FILES,
                        "so many links have qlog files: further ones have none"
                    );
                }
                return None;
            };
            // Somebody may have taken it away.
            let _ = fs::remove_file(oldest);
        }
        files.made += 1;
        files.open += 1;
        // Without characters that shells or file systems mind.
        let began = began.replace(['-', ':'], "");
        let ip = peer.ip().to_canonical().to_string().replace(':', "-");
        let (port, process, number) = (peer.port(), std::process::id(), files.made);
        let name = format!("{began}-{role}-{ip}_{port}-{process}-{number}.sqlog");
        Some(self.path.join(name))
    }
}

impl Writer {
    fn end_record(&mut self) {
        let Some(file) = &mut self.file else { return };
        let shown = self.path.display();
        if self.record.len() > self.room {
            debug!(file = %shown, limit = MAX_QLOG_FILE, "a qlog file holds all that it may: it has the beginning of its link");
            self.file = None;
        } else if let Err(error) = file.write_all(&self.record) {
            warn!(file = %shown, %error, "cannot write a qlog file: it ends here");
            self.file = None;
        } else {
            self.room -= self.record.len();
        }
        self.record.clear();
    }
}

impl Write for Writer {
    /// Never fails: quinn would say so in the log at each packet.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_some() {
            self.record.extend_from_slice(bytes);
            // At each record, so that a process that is killed has written what it knew. In JSON no other newline is bare.
            if bytes.ends_with(b"\n") {
                self.end_record();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut files = lock(&self.files);
        files.open -= 1;
        files.ended.push_back(std::mem::take(&mut self.path));
    }
}

fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    // Nothing panics under this lock.
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A folder that goes with its test.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("adit-qlog-{}-{number}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> = names
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn writer(path: &Path, room: usize) -> Writer {
        Writer {
            file: Some(File::create_new(path).unwrap()),
            path: path.to_owned(),
            record: Vec::new(),
            room,
            files: Arc::new(Mutex::new(Files {
                open: 1,
                ..Files::default()
            })),
        }
    }

    #[test]
    fn a_file_holds_whole_records_and_no_more_than_it_may() {
        let folder = Folder::new();
        let path = folder.0.join("a.sqlog");
        let mut writer = writer(&path, 10);
        for part in ["ab", "c\n", "", "defgh", "\n", "ij\n", "k\n"] {
            writer.write_all(part.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "abc\ndefgh\n");
        assert!(writer.record.is_empty(), "what is not written is not kept");
    }

    #[test]
    fn names_say_who_and_when_and_are_for_any_file_system() {
        let folder = Folder::new();
        let qlog = QlogFolder::open(&folder.0).unwrap();
        assert!(folder.names().is_empty(), "the probe is gone");
        let _links = ["192.0.2.1:4433", "[::ffff:192.0.2.2]:4433", "[2001:db8::1]:443"]
            .map(|peer| qlog.link("hub", peer.parse().unwrap()).unwrap());
        let names = folder.names();
        for (which, peer) in ["192.0.2.1_4433", "192.0.2.2_4433", "2001-db8--1_443"]
            .iter()
            .enumerate()
        {
            let end = format!("Z-hub-{peer}-{}-{}.sqlog", std::process::id(), which + 1);
            let name = names.iter().find(|name| name.ends_with(&end));
            let name = name.unwrap_or_else(|| panic!("no {end} in {names:?}"));
            let time = &name[..name.len() - end.len()];
            assert_eq!((time.len(), time.as_bytes()[8]), (19, b'T'), "{name}");
        }
    }

    #[test]
    fn the_oldest_file_whose_link_has_ended_makes_room() {
        let folder = Folder::new();
        let qlog = QlogFolder::open(&folder.0).unwrap();
        let peer = "192.0.2.1:4433".parse().unwrap();
        let link = || qlog.link("agent", peer);
        let held = link();
        drop([link(), link()]);
        let (first, second) = {
            let files = lock(&qlog.files);
            assert_eq!(files.open, 1);
            (files.ended[0].clone(), files.ended[1].clone())
        };
        let others: Vec<_> = (3..MAX_QLOG_FILES).map(|_| link().unwrap()).collect();
        assert!(first.exists());
        let more = [link().unwrap()];
        assert!(!first.exists() && second.exists());
        let more = (more, link().unwrap());
        assert!(!second.exists());
        assert!(link().is_none(), "every one is of a link that there is");
        drop(more);
        assert!(link().is_some());
        assert_eq!(folder.names().len(), MAX_QLOG_FILES);
        drop((held, others));
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = Folder::new();
        let missing = folder.0.join("missing");
        let error = QlogFolder::open(&missing).unwrap_err().to_string();
        assert!(
            error.contains(missing.to_str().unwrap()) && error.contains("--qlog"),
            "{error}"
        );
    }
}
