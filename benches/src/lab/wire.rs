//! Moves packets between two TUN devices, as the link between them says.
//!
//! One thread does nothing else. It sleeps until the next packet comes or is due, with timers that the kernel does not round:
//! what it is late by is measured, and told.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use adit_bench::latencies::Latencies;
use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::setpriority_process;
use rustix::thread::set_current_timer_slack;
use serde::{Deserialize, Serialize};
use tun_rs::SyncDevice;

use super::link::{Conditions, Counts, Direction, Moment};

/// The largest packet of a device whose MTU is 1,500 bytes.
const PACKET: usize = 2048;

/// Packets that are taken from a device before those that are due are delivered.
const BATCH: usize = 32;

/// How soon the thread notices that it is to end, or that the link is another.
const GLANCE: Duration = Duration::from_millis(20);

/// Of a thread, as `nice` counts.
const HIGHEST_PRIORITY: i32 = -20;

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    link: Arc<Mutex<Link>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Link {
    begun: Instant,
    /// From the first device to the second, and back.
    directions: [Direction<Box<[u8]>>; 2],
    lateness: Latencies,
    /// Packets that a device did not take.
    refused: u64,
    /// Why packets move no more.
    broken: Option<io::Error>,
    over: bool,
}

/// What crossed the link since it is as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// From the first device to the second, and back.
    pub(crate) directions: [Counts; 2],
    /// How late packets were delivered.
    pub(crate) lateness: Latencies,
    /// Packets that a device did not take.
    pub(crate) refused: u64,
}

impl Wire {
    /// Joins two devices by a link that treats packets the same both ways.
    pub(crate) fn join(devices: [SyncDevice; 2], conditions: Conditions, seed: u64) -> anyhow::Result<Self> {
        for device in &devices {
            device
                .set_nonblocking(true)
                .context("cannot read the TUN device without waiting")?;
        }
        let link = Arc::new(Mutex::new(Link::new(conditions, seed)?));
        let shared = Arc::clone(&link);
        let thread = thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || carry(&devices, &shared))
            .context("cannot start a thread for the link")?;
        Ok(Self {
            link,
            thread: Some(thread),
        })
    }

    /// From now on the link is another: what is under way on it is lost, and counts begin anew.
    pub(crate) fn replace(&self, conditions: Conditions, seed: u64) -> anyhow::Result<()> {
        *lock(&self.link) = Link::new(conditions, seed)?;
        Ok(())
    }

    /// What crossed it since then.
    pub(crate) fn traffic(&self) -> anyhow::Result<Traffic> {
        let link = lock(&self.link);
        if let Some(error) = &link.broken {
            anyhow::bail!("the link broke: {error}");
        }
        let [there, back] = &link.directions;
        Ok(Traffic {
            directions: [there.counts(), back.counts()],
            lateness: link.lateness.clone(),
            refused: link.refused,
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        lock(&self.link).over = true;
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is no more to do.
            let _ = thread.join();
        }
    }
}

impl Link {
    fn new(conditions: Conditions, seed: u64) -> anyhow::Result<Self> {
        Ok(Self {
            begun: Instant::now(),
            directions: [0, 1]
                .map(|direction| Direction::new(conditions, seed.wrapping_mul(2).wrapping_add(direction))),
            lateness: Latencies::new()?,
            refused: 0,
            broken: None,
            over: false,
        })
    }

    fn now(&self) -> Moment {
        self.begun.elapsed()
    }

    /// Takes what the devices have and gives them what is due. How long there is nothing more to do, unless a packet comes.
    fn turn(&mut self, devices: &[SyncDevice; 2], packet: &mut [u8]) -> io::Result<Duration> {
        for (from, to) in [(0, 1), (1, 0)] {
            for _ in 0..BATCH {
                match devices[from].recv(packet) {
                    Ok(len) => {
                        let now = self.now();
                        self.directions[from].push(now, len, packet[..len].into());
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            let now = self.now();
            while let Some((due, packet)) = self.directions[from].pop(now) {
                self.lateness.record(now.saturating_sub(due));
                if devices[to].send(&packet).is_err() {
                    self.refused += 1;
                }
            }
        }
        let now = self.now();
        let due = self.directions.iter().filter_map(Direction::next_due).min();
        Ok(due.map_or(GLANCE, |due| due.saturating_sub(now).min(GLANCE)))
    }
}

fn carry(devices: &[SyncDevice; 2], link: &Mutex<Link>) {
    // Otherwise timers of this thread may be 50 µs late. Where that cannot be changed, the lateness shows it.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    // The measured processes keep the machine busy, and must not make the link late. Only root may; else as above.
    let _ = setpriority_process(None, HIGHEST_PRIORITY);
    let mut packet = [0; PACKET];
    loop {
        let idle = {
            let mut link = lock(link);
            if link.over {
                return;
            }
            match link.turn(devices, &mut packet) {
                Ok(idle) => idle,
                Err(error) => {
                    link.broken = Some(error);
                    return;
                }
            }
        };
        let mut ready = devices
            .each_ref()
            .map(|device| PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN));
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: idle.subsec_nanos().into(),
        };
        // Whether a packet came, the time is over or a signal arrived: the next turn sees it.
        let _ = poll(&mut ready, Some(&timeout));
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
