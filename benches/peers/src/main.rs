//! The same redaction job on the same records, in Bucksaw and in its peers: who removes what, and what does it cost?
//!
//! `run.sh` builds what this needs, and runs it: `peers FOLDER [--smoke]`, where FOLDER holds the guests and Presidio's Python.

mod check;
mod clock;
mod corpus;
mod measure;
mod peer;
mod peers;
mod report;

use std::path::PathBuf;

use anyhow::{Context, Result};
use corpus::Input;
use measure::Plan;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().context("usage: peers FOLDER [--smoke]")?);
    let plan = Plan::new(arguments.any(|it| it == "--smoke"));

    let file = folder.join("records.jsonl");
    corpus::write(&file, plan.records)?;
    let records = corpus::read(&file)?;
    let cases: Vec<&[Input]> = records.chunk_by(|a, b| a.case == b.case).collect();

    let mut contenders = peers::all(&folder, &file);
    for records in &cases {
        check::check(&mut contenders, records);
    }
    measure::measure(&mut contenders, &cases, &plan);

    let cases: Vec<_> = cases.iter().filter_map(|it| Some(it.first()?.case)).collect();
    report::table(&contenders, &cases, plan.records);
    report::ratios(&contenders, &cases);
    Ok(())
}
