//! What `scripts/instructions` runs under callgrind: the work of the hot paths, so many times each, from fixed seeds.
//!
//! Each work is prepared, done a few times, and then counted: everything below [`counted`] and nothing else. A line of
//! JSON says what was done and what was allocated for it. Callgrind, told to write its counters whenever that function
//! returns, has one profile for each of these lines, in their order.

#[path = "../../benches/corpus/mod.rs"]
mod corpus;
mod documents;
mod service;

use std::alloc::System;

use anyhow::{Result, ensure};
use clap::Parser;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATIONS: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How often each work is done before it is counted: caches are filled, pools and tables have their size.
const WARM_UP: usize = 4;

#[derive(Parser)]
struct Arguments {
    /// The names of works; all of them when missing.
    works: Vec<String>,
    /// Do each so many times as often.
    #[arg(long, default_value_t = 1)]
    times: usize,
}

/// Some work that is counted.
struct Work {
    name: &'static str,
    /// How many operations are counted.
    operations: usize,
    /// Makes so many operations ready.
    prepare: Box<dyn Fn(usize) -> Ready>,
}

impl Work {
    fn new(name: &'static str, operations: usize, prepare: impl Fn(usize) -> Ready + 'static) -> Self {
        Self { name, operations, prepare: Box::new(prepare) }
    }

    /// Does it, and returns the line that says so.
    fn count(&self, times: usize) -> Result<serde_json::Value> {
        (self.prepare)(WARM_UP).done()?;
        let operations = self.operations * times;
        let mut ready = (self.prepare)(operations);
        let region = Region::new(ALLOCATIONS);
        counted(&mut *ready.run);
        let change = region.change();
        (ready.check)()?;
        Ok(serde_json::json!({
            "work": self.name,
            "operations": operations,
            "allocations": change.allocations + change.reallocations,
            "allocated_bytes": change.bytes_allocated,
        }))
    }
}

/// Operations that only have to be run, and whose results are looked at afterwards.
struct Ready {
    run: Box<dyn FnMut()>,
    check: Box<dyn FnOnce() -> Result<()>>,
}

impl Ready {
    fn done(mut self) -> Result<()> {
        (self.run)();
        (self.check)()
    }
}

/// What is counted. Callgrind knows it by this name.
#[inline(never)]
fn counted(run: &mut dyn FnMut()) {
    run();
    std::hint::black_box(());
}

#[expect(clippy::print_stdout, reason = "the lines are what it is run for")]
fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let corpus = corpus::Corpus::load();
    // Without memory every hit is read from the database.
    let (tiered, flat) = (service::Service::start(true)?, service::Service::start(false)?);
    let works: Vec<Work> = tiered
        .works(&corpus)?
        .into_iter()
        .chain(flat.disk_works(&corpus)?)
        .chain(documents::works(&corpus))
        .collect();
    for name in &arguments.works {
        ensure!(works.iter().any(|work| work.name == name), "there is no work named {name}");
    }
    for work in works
        .iter()
        .filter(|work| arguments.works.is_empty() || arguments.works.iter().any(|name| name == work.name))
    {
        println!("{}", work.count(arguments.times)?);
    }
    drop(works);
    tiered.stop();
    flat.stop();
    Ok(())
}
