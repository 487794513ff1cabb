//! A component that was compiled, checked, described and configured once, and can be opened by every worker.

use std::sync::Arc;

use chain::{Alerts, Editor, Formatter, Handler, Source, StageError};
use wasmtime::{
    Engine,
    component::{Component, Instance as Linked, InstancePre, types::ComponentItem},
};

use crate::{
    bindings::v0_1::{self, types},
    editor::EditorInstance,
    error::{Diagnostic, LoadError, one_line},
    formatter::FormatterInstance,
    guard::Guards,
    handler::HandlerInstance,
    http::{self, GuestHttp},
    instance::{GuestState, Instance, Lent},
    limits::Limits,
    pack::Reads,
    patterns::Patterns,
    runtime::Runtime,
};

/// What the configuration says of one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name that chains use.
    pub name: String,
    /// JSON object for the plugin itself.
    pub config: String,
    pub limits: Limits,
    pub grants: Grants,
}

/// What a plugin may use of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Names of alert channels.
    pub alert: Vec<String>,
    /// A store of its own, and the bytes that its keys and values together may take.
    pub state: Option<usize>,
    /// Hosts, each with a port if it is not the scheme's own, that requests may go to.
    pub http: Vec<String>,
}

/// A plugin's one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Editor,
    Formatter,
    Handler,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Editor => "editor",
            Self::Formatter => "formatter",
            Self::Handler => "handler",
        }
    }
}

/// Who a plugin says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub version: String,
    pub summary: String,
    /// JSON Schema of its configuration.
    pub config_schema: String,
}

/// A loaded plugin.
#[derive(Clone)]
pub struct Plugin(Arc<Loaded>);

pub(crate) struct Loaded {
    pub(crate) name: String,
    pub(crate) settings: Settings,
    pub(crate) role: Role,
    pub(crate) description: Description,
    pub(crate) pre: InstancePre<GuestState>,
    pub(crate) alerts: Arc<dyn Alerts>,
    pub(crate) lent: Lent,
    /// Where its requests are made, if it imports any of `wasi:http`.
    pub(crate) network: Option<tokio::runtime::Handle>,
    pub(crate) setup: Setup,
    _ticking: Arc<()>,
}

/// Labels of one plugin, and bytes of one: each edit is written as its label, so a long one would make text grow without end.
const LABELS_MAX: usize = 1024;
const LABEL_BYTES_MAX: usize = 64;

/// What a configured plugin asked for.
pub(crate) struct Setup {
    asked: types::Setup,
    pub(crate) reads: Reads,
    pub(crate) labels: Vec<Arc<str>>,
    pub(crate) patterns: Patterns,
    /// None when the plugin makes no such promise.
    pub(crate) longest_match: Option<usize>,
    pub(crate) guards: Guards,
}

impl Plugin {
    /// Compiles a component or takes it out of the runtime's cache, checks its exports and imports, and describes and
    /// configures it once.
    ///
    /// # Errors
    /// When any of that fails; nothing of it is kept but the cache's entry. A cache that cannot be used is no error.
    pub fn load(runtime: &Runtime, bytes: &[u8], settings: Settings) -> Result<Self, LoadError> {
        if Engine::detect_precompiled(bytes).is_none() && is_core_module(bytes) {
            return Err(LoadError::CoreModule);
        }
        let component = runtime.component(bytes)?;
        let Kind { role, with_http } = inspect(&component, runtime.engine(), &settings.grants)?;
        let pre = runtime
            .linker(with_http)?
            .instantiate_pre(&component)
            .map_err(|it| LoadError::Binding(one_line(&it)))?;
        let alerts = runtime.alerts();
        let network = with_http.then(|| runtime.network().handle()).transpose();
        let network = network.map_err(LoadError::Network)?;
        let http = GuestHttp::new(network.clone());
        let (instance, linked) = Instance::new(&pre, &settings.limits, alerts.clone(), http)
            .map_err(|error| LoadError::Failed { entry: "instantiate", error })?;
        let mut entry = Entry { instance, linked, role, limits: settings.limits };
        let description = entry.describe(&pre)?;
        let setup = Setup::new(entry.configure(&pre, &settings.config)?)?;
        let (name, grants) = (&settings.name, &settings.grants);
        let state = grants.state.map(|it| runtime.states().grant(name, it));
        let outbound = with_http.then(|| runtime.network().outbound(name, &grants.http)).flatten();
        Ok(Self(Arc::new(Loaded {
            name: settings.name.clone(),
            settings,
            role,
            description,
            pre,
            alerts,
            lent: Lent { state, outbound },
            network,
            setup,
            _ticking: runtime.ticking(),
        })))
    }

    pub fn role(&self) -> Role {
        self.0.role
    }

    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// Whether it is an editor that sees every content field and can put labels in the place of what it takes out: what a chain
    /// needs before content may reach an output.
    pub fn takes_out_content(&self) -> bool {
        let it = &self.0.setup;
        self.0.role == Role::Editor && it.reads.every_content() && !it.labels.is_empty()
    }

    /// The names, or wildcards, of the fields that it reads.
    pub fn reads(&self) -> &[String] {
        &self.0.setup.asked.reads
    }

    /// As an editor, if it is one.
    pub fn editor(&self) -> Option<Arc<dyn Source<dyn Editor>>> {
        (self.0.role == Role::Editor).then(|| Arc::new(self.clone()) as _)
    }

    pub fn formatter(&self) -> Option<Arc<dyn Source<dyn Formatter>>> {
        (self.0.role == Role::Formatter).then(|| Arc::new(self.clone()) as _)
    }

    pub fn handler(&self) -> Option<Arc<dyn Source<dyn Handler>>> {
        (self.0.role == Role::Handler).then(|| Arc::new(self.clone()) as _)
    }

    /// A new instance, configured as the first one was.
    fn instance(&self) -> Result<(Instance, Linked), StageError> {
        let it = &self.0;
        let http = GuestHttp::new(it.network.clone());
        let (instance, linked) =
            Instance::new(&it.pre, &it.settings.limits, it.alerts.clone(), http)?;
        let mut entry = Entry { instance, linked, role: it.role, limits: it.settings.limits };
        match entry.configure(&it.pre, &it.settings.config) {
            // A plugin that asks for something else each time has been checked for nothing.
            Ok(asked) if same(&asked, &it.setup.asked) => {
                entry.instance.settle(&it.settings.grants, it.lent.clone());
                Ok((entry.instance, entry.linked))
            }
            Err(LoadError::Failed { error, .. }) => Err(error),
            _ => Err(StageError::Configure),
        }
    }
}

impl Source<dyn Editor> for Plugin {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn open(&self) -> Result<Box<dyn Editor>, StageError> {
        let (instance, linked) = self.instance()?;
        Ok(Box::new(EditorInstance::new(self.0.clone(), instance, &linked)?))
    }
}

impl Source<dyn Formatter> for Plugin {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn open(&self) -> Result<Box<dyn Formatter>, StageError> {
        let (instance, linked) = self.instance()?;
        Ok(Box::new(FormatterInstance::new(self.0.clone(), instance, &linked)?))
    }
}

impl Source<dyn Handler> for Plugin {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn open(&self) -> Result<Box<dyn Handler>, StageError> {
        let (instance, linked) = self.instance()?;
        Ok(Box::new(HandlerInstance::new(self.0.clone(), instance, &linked)?))
    }

    fn waits(&self) -> bool {
        self.0.network.is_some()
    }
}

impl Setup {
    fn new(asked: types::Setup) -> Result<Self, LoadError> {
        if asked.labels.len() > LABELS_MAX {
            return Err(LoadError::Labels(format!("{LABELS_MAX} labels")));
        }
        if asked.labels.iter().any(|it| it.len() > LABEL_BYTES_MAX) {
            return Err(LoadError::Labels(format!("labels of {LABEL_BYTES_MAX} bytes")));
        }
        Ok(Self {
            reads: Reads::new(&asked.reads),
            labels: asked.labels.iter().map(|it| Arc::from(it.as_str())).collect(),
            patterns: Patterns::compile(&asked.patterns)?,
            longest_match: (asked.longest_match > 0).then_some(asked.longest_match as usize),
            guards: Guards::compile(&asked.guards)?,
            asked,
        })
    }
}

/// A fresh instance, before it becomes a stage.
struct Entry {
    instance: Instance,
    linked: Linked,
    role: Role,
    limits: Limits,
}

/// Calls one of the two functions that every role has, on the interface of this role.
macro_rules! call {
    ($entry:expr, $pre:expr, $name:literal, $call:ident $(, $argument:expr)?) => {{
        let entry = $entry;
        macro_rules! on {
            ($interface:ident) => {{
                let guest = v0_1::$interface::GuestIndices::new($pre)
                    .and_then(|it| it.load(entry.instance.store(), &entry.linked))
                    .map_err(|it| LoadError::Binding(one_line(&it)))?;
                entry
                    .instance
                    .enter(entry.limits.setup, |store| guest.$call(store $(, $argument)?))
                    .map_err(|error| LoadError::Failed { entry: $name, error })?
            }};
        }
        match entry.role {
            Role::Editor => on!(editor),
            Role::Formatter => on!(formatter),
            Role::Handler => on!(handler),
        }
    }};
}

impl Entry {
    fn describe(&mut self, pre: &InstancePre<GuestState>) -> Result<Description, LoadError> {
        let it: types::Description = call!(self, pre, "describe", call_describe);
        Ok(Description {
            name: it.name,
            version: it.version,
            summary: it.summary,
            config_schema: it.config_schema,
        })
    }

    fn configure(
        &mut self,
        pre: &InstancePre<GuestState>,
        config: &str,
    ) -> Result<types::Setup, LoadError> {
        let answer: Result<types::Setup, Vec<types::Diagnostic>> =
            call!(self, pre, "configure", call_configure, config);
        answer.map_err(|diagnostics| {
            let own = |it: types::Diagnostic| Diagnostic { key: it.key, message: it.message };
            LoadError::Configuration(diagnostics.into_iter().map(own).collect())
        })
    }
}

/// What a component is by its exports and imports.
struct Kind {
    role: Role,
    /// Whether it imports any of `wasi:http` and what belongs to it.
    with_http: bool,
}

/// The role by the exports, after the imports were found to be granted.
fn inspect(component: &Component, engine: &Engine, grants: &Grants) -> Result<Kind, LoadError> {
    let kind = component.component_type();
    let (mut capability, mut network) = (None, Vec::new());
    for (import, _) in kind.imports(engine) {
        match import {
            v0_1::TYPES => {}
            v0_1::ALERTS if grants.alert.is_empty() => {
                let grant = "grants = { alert = [\"<channel>\"] }";
                return Err(LoadError::Ungranted { import: v0_1::ALERTS.to_owned(), grant });
            }
            v0_1::STATE if grants.state.is_none() => {
                let grant = "grants = { state_kib = 64 }";
                return Err(LoadError::Ungranted { import: v0_1::STATE.to_owned(), grant });
            }
            v0_1::ALERTS => capability = Some(v0_1::ALERTS),
            v0_1::STATE => capability = Some(v0_1::STATE),
            other if http::is_import(other) => network.push(other.to_owned()),
            other => return Err(LoadError::UnknownImport { import: other.to_owned() }),
        }
    }
    let exports: Vec<String> = kind
        .exports(engine)
        .filter(|(_, it)| matches!(it.ty, ComponentItem::ComponentInstance(_)))
        .map(|(name, _)| name.to_owned())
        .collect();
    let has = |name: &str| exports.iter().any(|it| it == name);
    let roles: Vec<Role> = [
        (v0_1::EDITOR, Role::Editor),
        (v0_1::FORMATTER, Role::Formatter),
        (v0_1::HANDLER, Role::Handler),
    ]
    .into_iter()
    .filter(|(export, _)| has(export))
    .map(|(_, role)| role)
    .collect();
    // Of all that it takes to make a request, the one that is a capability of its own is named.
    let network = network.iter().max_by_key(|it| it.starts_with("wasi:http/")).cloned();
    let with_http = network.is_some();
    let reaches = capability.map(str::to_owned).or_else(|| network.clone());
    match (roles.as_slice(), reaches, network) {
        // An editor sees what nobody else may see, and a formatter only writes what it is given: neither may reach out.
        ([role @ (Role::Editor | Role::Formatter)], Some(import), _) => {
            Err(LoadError::WrongRole { role: role.name(), import })
        }
        ([_], _, Some(import)) if grants.http.is_empty() => {
            let grant = "grants = { http = [\"<host>\"] }";
            Err(LoadError::Ungranted { import, grant })
        }
        ([role], _, _) => Ok(Kind { role: *role, with_http }),
        ([], _, _) if exports.is_empty() => {
            Err(LoadError::WrongWorld { exports: "nothing".to_owned() })
        }
        ([], _, _) => Err(LoadError::WrongWorld { exports: exports.join(", ") }),
        _ => Err(LoadError::SeveralRoles(exports.join(", "))),
    }
}

/// The preamble of a core module: version 1, layer 0. A component has layer 1.
fn is_core_module(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm\x01\0\0\0")
}

fn same(a: &types::Setup, b: &types::Setup) -> bool {
    let patterns = |it: &types::Setup| -> Vec<(u32, String)> {
        it.patterns.iter().map(|it| (it.id, it.regex.clone())).collect()
    };
    let guards = |it: &types::Setup| -> Vec<(u32, String)> {
        it.guards.iter().map(|it| (it.min_bytes, it.regex.clone())).collect()
    };
    a.reads == b.reads
        && a.labels == b.labels
        && patterns(a) == patterns(b)
        && guards(a) == guards(b)
}
