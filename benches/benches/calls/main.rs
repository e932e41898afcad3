//! Whole calls over QUIC between two endpoints in this process: the rh3 layer beside the `h3` crate.
//!
//! Both ends run on one current-thread runtime, with the same certificates, windows, congestion controller, socket
//! buffers and messages. `h3` has the ordinary roles: who dials makes the calls. Before criterion's times a table says
//! what a call costs in processor time, packets and system calls, with two threads too: there a driver may send while
//! a call is still writing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking"
)]

mod h3_pair;
mod message;
mod rh3_pair;

use std::path::Path;
use std::time::{Duration, Instant};

use adit_bench::{certificates, cpu};
use adit_transport::{Congestion, Tuning};
use criterion::{Criterion, Throughput};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use h3_pair::H3Pair;
use message::MESSAGE;
use rh3_pair::Rh3Pair;

/// Calls at a time.
const CONCURRENCY: [u64; 2] = [1, 64];

/// Threads of the runtime, for the table of costs.
const WORKERS: [usize; 2] = [1, 2];

/// Two connected ends: clones share the connection.
trait Pair: Clone + Send + Sized + 'static {
    /// How the tables call it.
    const NAME: &str;

    /// Connects a new pair.
    async fn connect(certs: &Path, tuning: Tuning) -> Self;

    /// Makes one unary call, head to trailers.
    fn call(&mut self) -> impl Future<Output = ()> + Send;

    /// Makes one call that is answered with so many large messages.
    fn download(&mut self, messages: u64) -> impl Future<Output = ()> + Send;
}

fn main() {
    let certs = tempfile::tempdir().unwrap();
    certificates::make(certs.path()).unwrap();
    // `cargo test` only wants to know that everything works.
    if std::env::args().any(|arg| arg == "--bench") {
        println!(
            "| 100-byte calls | workers | at a time | CPU µs per call | UDP packets per call | sends per call with GSO |"
        );
        println!("|---|---|---|---|---|---|");
        costs::<Rh3Pair>(certs.path());
        costs::<H3Pair>(certs.path());
    }
    let mut criterion = Criterion::default().configure_from_args();
    times::<Rh3Pair>(&mut criterion, certs.path());
    times::<H3Pair>(&mut criterion, certs.path());
    criterion.final_summary();
}

/// Of both pairs alike: only quinn's own controllers can be given to the other one.
fn settings() -> Tuning {
    Tuning {
        congestion: Congestion::Bbr,
        ..Tuning::default()
    }
}

fn runtime(workers: usize) -> Runtime {
    let mut runtime = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.worker_threads(workers).enable_all().build().unwrap()
}

fn costs<P: Pair>(certs: &Path) {
    const CALLS: u64 = 50_000;
    for (workers, concurrency) in WORKERS
        .into_iter()
        .flat_map(|workers| CONCURRENCY.map(|c| (workers, c)))
    {
        let cost = |segmentation_offload| {
            let tuning = Tuning {
                segmentation_offload,
                ..settings()
            };
            runtime(workers).block_on(async {
                let pair = P::connect(certs, tuning).await;
                calls(&pair, CALLS / 10, concurrency).await;
                let (time, sends) = (cpu::used_by_self().unwrap(), cpu::udp_sends().unwrap());
                calls(&pair, CALLS, concurrency).await;
                (
                    cpu::used_by_self().unwrap() - time,
                    cpu::udp_sends().unwrap() - sends,
                )
            })
        };
        let ((time, sends), (_, packets)) = (cost(true), cost(false));
        let each = |count: f64| count / CALLS as f64;
        println!(
            "| {} | {workers} | {concurrency} | {:.1} | {:.2} | {:.2} |",
            P::NAME,
            each(time.as_secs_f64() * 1e6),
            each(packets as f64),
            each(sends as f64),
        );
    }
}

fn times<P: Pair>(criterion: &mut Criterion, certs: &Path) {
    let runtime = runtime(1);
    let pair = runtime.block_on(P::connect(certs, settings()));

    let mut group = criterion.benchmark_group("unary");
    group.throughput(Throughput::Elements(1));
    for concurrency in CONCURRENCY {
        group.bench_function(format!("{}, {concurrency} at a time", P::NAME), |b| {
            b.iter_custom(|count| runtime.block_on(calls(&pair, count, concurrency)));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("download");
    group.throughput(Throughput::Bytes(MESSAGE as u64));
    group.bench_function(P::NAME, |b| {
        b.iter_custom(|count| {
            let mut pair = pair.clone();
            runtime.block_on(async move {
                let begun = Instant::now();
                pair.download(count).await;
                begun.elapsed()
            })
        });
    });
    group.finish();
}

/// Makes `count` calls, `concurrency` at a time, and says how long all of them took.
async fn calls<P: Pair>(pair: &P, count: u64, concurrency: u64) -> Duration {
    let begun = Instant::now();
    let mut loops = JoinSet::new();
    for index in 0..concurrency {
        let mut pair = pair.clone();
        let share = count / concurrency + u64::from(index < count % concurrency);
        loops.spawn(async move {
            for _ in 0..share {
                pair.call().await;
            }
        });
    }
    loops.join_all().await;
    begun.elapsed()
}
