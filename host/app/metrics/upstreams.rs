//! What is counted of each upstream. Labels are configured names.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text::encode_registry},
    registry::Registry,
};
use upstream::Counts;

use super::family;

/// In the format of [`super::encode`], to stand behind it.
pub fn encode(counts: Vec<Counts>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Upstreams(counts)));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode_registry(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Upstreams(Vec<Counts>);

/// Name, help and where the number is.
type Series = (&'static str, &'static str, fn(&Counts) -> u64);

const SERIES: [Series; 5] = [
    ("bucksaw_upstream_usable", "Whether the upstream may be asked.", |it| u64::from(it.usable)),
    ("bucksaw_upstream_requests_in_flight", "Requests that the upstream has.", |it| it.in_flight),
    (
        "bucksaw_upstream_attempts_total",
        "Requests that the upstream was sent, second attempts included.",
        |it| it.attempts,
    ),
    (
        "bucksaw_upstream_failures_total",
        "Requests that broke, were late, or were answered with 502, 503 or 504.",
        |it| it.failures,
    ),
    (
        "bucksaw_upstream_ejections_total",
        "Times that the upstream was left alone because it failed.",
        |it| it.ejections,
    ),
];

impl Collector for Upstreams {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, of) in SERIES {
            let samples = self.0.iter().map(|it| ([("upstream", &*it.name)], of(it)));
            family(&mut encoder, (name, help), samples)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_upstream_has_a_sample_of_each_series() {
        let text = encode(vec![Counts {
            name: "a".into(),
            usable: true,
            in_flight: 2,
            attempts: 3,
            failures: 4,
            ejections: 5,
        }]);
        for (line, kind) in [
            ("bucksaw_upstream_usable{upstream=\"a\"} 1", "gauge"),
            ("bucksaw_upstream_requests_in_flight{upstream=\"a\"} 2", "gauge"),
            ("bucksaw_upstream_attempts_total{upstream=\"a\"} 3", "counter"),
            ("bucksaw_upstream_failures_total{upstream=\"a\"} 4", "counter"),
            ("bucksaw_upstream_ejections_total{upstream=\"a\"} 5", "counter"),
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
            let name = line.split('{').next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name}: {text}");
        }
    }
}
