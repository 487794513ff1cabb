//! Opening the outputs of a configuration. One that the running revision has open in the same form stays open: its lines go on in
//! order.

use std::{collections::BTreeMap, io, sync::Arc};

use chain::Output;

use crate::{
    config::{self, Config, Problems},
    env::Vars,
};

/// The open outputs of a configuration, by name, with what each was opened for.
#[derive(Default)]
pub struct Outputs(BTreeMap<String, (config::Output, Arc<Output>)>);

impl Outputs {
    /// Opens every output that `before` has not open already.
    ///
    /// # Errors
    /// A problem for each output that cannot be opened.
    pub fn open(config: &Config, vars: &Vars, before: &Self) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut outputs = Self::default();
        for it in &config.outputs {
            let same = |(known, _): &&(config::Output, Arc<Output>)| is_same(known, it);
            let opened = match before.0.get(&it.name).filter(same) {
                Some((_, output)) => Ok(output.clone()),
                None => open(it, vars),
            };
            match opened {
                Ok(output) => {
                    outputs.0.insert(it.name.clone(), (it.clone(), output));
                }
                Err(error) => {
                    let (key, what) = match &it.sink {
                        config::Sink::File(path) => ("path", path.display().to_string()),
                        config::Sink::Console { .. } => ("sink", "the console".to_owned()),
                    };
                    let key = format!("outputs.{}.{key}", it.name);
                    problems.add(key, format!("{what} cannot be opened: {error}"));
                }
            }
        }
        if problems.0.is_empty() { Ok(outputs) } else { Err(problems) }
    }

    /// Outputs of the same names whose lines go nowhere: no file is made, and nothing is written on a console.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn discarding(config: &Config) -> io::Result<Self> {
        let discard = |it: &config::Output| {
            let output = Output::start(&it.name, it.filter, it.overflow, Box::new(Nowhere))?;
            Ok((it.name.clone(), (it.clone(), output)))
        };
        config.outputs.iter().map(discard).collect::<io::Result<_>>().map(Self)
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Output>> {
        self.0.get(name).map(|(_, it)| it)
    }

    pub fn all(&self) -> Vec<Arc<Output>> {
        self.0.values().map(|(_, it)| it.clone()).collect()
    }
}

struct Nowhere;

impl chain::Sink for Nowhere {
    fn write(&mut self, _lines: &[chain::Line]) -> io::Result<()> {
        Ok(())
    }
}

/// Whether an output would be opened in the same form; which plugin formats its lines is the chain's business.
fn is_same(a: &config::Output, b: &config::Output) -> bool {
    a.sink == b.sink && a.filter == b.filter && a.overflow == b.overflow
}

fn open(config: &config::Output, vars: &Vars) -> io::Result<Arc<Output>> {
    let sink: Box<dyn chain::Sink> = match &config.sink {
        config::Sink::Console { target, color } => {
            Box::new(sink::Console::new(*target, *color, vars.get("NO_COLOR").is_some()))
        }
        config::Sink::File(path) => Box::new(sink::File::open(path)?),
    };
    Output::start(&config.name, config.filter, config.overflow, sink)
}
