//! The log without the server: `record`, `chain` and `plugin` bring neither the arithmetic nor the API into another service.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use toml::{Table, Value};

use crate::support::repository;

/// Of each package, the names of what it depends on.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn read(path: &str) -> Table {
    let text = fs::read_to_string(repository(path)).unwrap();
    text.parse::<Table>().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names that stand in a table of dependencies.
fn names(table: Option<&Value>) -> impl Iterator<Item = String> {
    table.and_then(Value::as_table).into_iter().flat_map(Table::keys).cloned()
}

/// The lock file knows no kinds: a package of this workspace has its development dependencies among the others there, so those
/// packages are read from their manifests. Of other people's packages it has what this build needs of them, in any version and for
/// any target.
fn graph() -> Graph {
    let lock = read("Cargo.lock");
    let mut graph = Graph::new();
    for package in lock["package"].as_array().unwrap() {
        let dependencies = package.get("dependencies").and_then(Value::as_array);
        // `name`, or `name version` where there are several.
        let dependencies = dependencies.into_iter().flatten().map(|it| {
            let name = it.as_str().unwrap().split(' ').next();
            name.unwrap().to_owned()
        });
        let name = package["name"].as_str().unwrap();
        graph.entry(name.to_owned()).or_default().extend(dependencies);
    }
    let workspace = read("Cargo.toml");
    for (name, dependency) in workspace["workspace"]["dependencies"].as_table().unwrap() {
        let Some(folder) = dependency.get("path").and_then(Value::as_str) else { continue };
        let manifest = read(&format!("{folder}/Cargo.toml"));
        let of_targets = manifest.get("target").and_then(Value::as_table);
        let of_targets = of_targets.into_iter().flat_map(Table::values);
        let mut own: BTreeSet<String> = names(manifest.get("dependencies")).collect();
        own.extend(of_targets.flat_map(|it| names(it.get("dependencies"))));
        graph.insert(name.clone(), own);
    }
    graph
}

/// Everything that comes with a package.
fn all_of<'a>(graph: &'a Graph, package: &'a str) -> BTreeSet<&'a str> {
    let (mut found, mut next) = (BTreeSet::new(), vec![package]);
    while let Some(it) = next.pop() {
        if found.insert(it) {
            // A name that is not there would hide all that is behind it.
            next.extend(graph[it].iter().map(String::as_str));
        }
    }
    found
}

#[test]
fn the_log_alone_needs_no_candle_and_no_http_server() {
    let graph = graph();
    let check = |package: &str, want: &[&str]| {
        let heavy = ["axum", "candle"];
        let all = all_of(&graph, package);
        let found: Vec<&str> =
            heavy.into_iter().filter(|heavy| all.iter().any(|it| it.starts_with(heavy))).collect();
        assert_eq!(found, want, "{package}");
    };
    check("record", &[]);
    check("chain", &[]);
    check("plugin", &[]);
    // Those that have them show that they would be found.
    check("engine", &["candle"]);
    check("server", &["axum", "candle"]);
}
