//! Which chain a request takes. It looks at what the server knows before it does any work for the request, and at the
//! configuration; it knows no plugin, and nothing of what becomes of the records.

use std::sync::Arc;

use server::RouteRequest;

use crate::config::{Config, DEFAULT_CHAIN, Route};

/// The routes of one configuration.
pub struct Routes {
    routes: Vec<(Route, Arc<str>)>,
    default: Arc<str>,
    tenant_header: String,
}

impl Routes {
    /// Made anew with every change of the configuration.
    pub fn new(config: &Config) -> Self {
        // A level is in force for all requests alike, so it need not be asked about again.
        let in_force = |it: &&Route| it.level.is_none_or(|level| config.log.level <= level);
        let routes = config.routes.iter().filter(in_force);
        Self {
            routes: routes.map(|it| (it.clone(), it.chain.as_str().into())).collect(),
            default: DEFAULT_CHAIN.into(),
            tenant_header: config.server.tenant_header.clone(),
        }
    }

    /// The chain of the first route that matches, or the default one. The same request always gets the same answer.
    pub fn choose(&self, request: &RouteRequest<'_>) -> Arc<str> {
        let matching = self.routes.iter().find(|(route, _)| self.matches(route, request));
        matching.map_or(&self.default, |(_, chain)| chain).clone()
    }

    fn matches(&self, route: &Route, request: &RouteRequest<'_>) -> bool {
        let header = |name: &str, value: &str| {
            request.headers.get(name).is_some_and(|it| it.as_bytes() == value.as_bytes())
        };
        let named = |it: &str| Some(it) == request.model;
        route.path.as_deref().is_none_or(|it| it == request.path)
            && route.model.as_deref().is_none_or(named)
            // An adapter is served as a model of its own name.
            && route.adapter.as_deref().is_none_or(named)
            && route.tenant.as_deref().is_none_or(|it| header(&self.tenant_header, it))
            && route.headers.iter().all(|(name, value)| header(name, value))
            && route.sample.is_none_or(|share| position(request.request_id) < share)
    }
}

/// Where a request id stands between 0 and 1, 1 excluded: everywhere and always the same, and spread evenly over many ids.
/// All routes ask the same question, so after a route with a share of 0.1 one with 0.3 gets another 0.2.
///
/// FNV-1a over the bytes, and the last step of `SplitMix64`, since FNV leaves the upper bits of short texts alike. It is no
/// secret: a client that chooses its id chooses its side, which is why no route can drop a required editor.
fn position(request_id: &str) -> f64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = request_id.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    // A float holds 53 bits without rounding, so the result stays below 1.
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::env::Vars;

    const ID: &str = "a1b2c3d4-0000-4000-8000-00000000abcd";

    fn routes(more: &str) -> Routes {
        let text = format!(
            r#"
{more}
[plugins.redact]
[plugins.guide]
[outputs.console]
sink = "console"
format = "guide"
[chains]
default = {{ edit = ["redact"], outputs = ["console"] }}
one = {{ edit = ["redact"], outputs = ["console"] }}
two = {{ edit = ["redact"], outputs = ["console"] }}
"#
        );
        Routes::new(&Config::parse(&text, Path::new("."), &Vars::default()).unwrap())
    }

    /// A table before the routes, and the `when` of a route to `one`.
    fn route(table: &str, when: &str) -> Routes {
        routes(&format!("{table}\n[[route]]\nwhen = {{ {when} }}\nchain = \"one\"\n"))
    }

    fn choose(
        routes: &Routes,
        path: &str,
        model: Option<&str>,
        headers: &[(&str, &str)],
    ) -> String {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let request = RouteRequest { path, headers: &headers, model, request_id: ID };
        routes.choose(&request).as_ref().to_owned()
    }

    /// Path, model and headers.
    type Asked<'a> = (&'a str, Option<&'a str>, &'a [(&'a str, &'a str)]);

    #[test]
    fn all_that_a_route_says_must_match() {
        const CHAT: &str = "/v1/chat/completions";
        fn check((table, when): (&str, &str), asked: Asked<'_>, want: bool) {
            let (path, model, headers) = asked;
            let got = choose(&route(table, when), path, model, headers);
            assert_eq!(got == "one", want, "{when} {asked:?}: {got}");
        }
        let adapters = "[engine]\nadapters = { demo-ko = \"builtin:demo-ko\" }";
        let path = ("", "path = \"/vision\"");
        check(path, ("/vision", None, &[]), true);
        check(path, ("/vision/", None, &[]), false);
        check(path, (CHAT, Some("/vision"), &[]), false);

        let model = ("", "model = \"demo\"");
        check(model, (CHAT, Some("demo"), &[]), true);
        check(model, (CHAT, Some("Demo"), &[]), false);
        check(model, (CHAT, None, &[]), false);

        let adapter = (adapters, "adapter = \"demo-ko\"");
        check(adapter, (CHAT, Some("demo-ko"), &[]), true);
        check(adapter, (CHAT, Some("demo"), &[]), false);
        check(adapter, (CHAT, None, &[]), false);

        let tenant = ("", "tenant = \"acme\"");
        check(tenant, (CHAT, None, &[("X-Tenant", "acme")]), true);
        check(tenant, (CHAT, None, &[("x-tenant", "Acme")]), false);
        check(tenant, (CHAT, None, &[("x-team", "acme")]), false);
        let tenant = ("[server]\ntenant_header = \"x-team\"", "tenant = \"acme\"");
        check(tenant, (CHAT, None, &[("x-team", "acme")]), true);
        check(tenant, (CHAT, None, &[("x-tenant", "acme")]), false);

        let headers = ("", "header = { X-A = \"1\", x-b = \"2\" }");
        check(headers, (CHAT, None, &[("x-a", "1"), ("x-b", "2"), ("x-c", "3")]), true);
        check(headers, (CHAT, None, &[("x-a", "1")]), false);

        let both = ("", "path = \"/vision\", tenant = \"acme\"");
        check(both, ("/vision", None, &[("x-tenant", "acme")]), true);
        check(both, ("/vision", None, &[]), false);
        check(both, (CHAT, None, &[("x-tenant", "acme")]), false);
    }

    #[test]
    fn a_level_matches_while_the_log_is_at_least_as_detailed() {
        let check = |level: &str, when: &str, want: bool| {
            let table = format!("[log]\nlevel = {level:?}");
            let got = choose(&route(&table, &format!("level = {when:?}")), "/", None, &[]);
            assert_eq!(got == "one", want, "{when} at {level}");
        };
        check("DEBUG", "DEBUG", true);
        check("INFO", "DEBUG", false);
        check("DEBUG", "info", true);
        check("INFO", "info", true);
        check("WARNING", "info", false);
        check("WARNING", "CRITICAL", true);
    }

    #[test]
    fn the_first_route_that_matches_wins() {
        let routes = routes(
            "[[route]]\nwhen = { path = \"/a\" }\nchain = \"one\"\n\
             [[route]]\nwhen = { sample = 1 }\nchain = \"two\"\n\
             [[route]]\nwhen = { path = \"/b\" }\nchain = \"one\"\n",
        );
        assert_eq!(choose(&routes, "/a", None, &[]), "one");
        assert_eq!(choose(&routes, "/b", None, &[]), "two", "a share of 1 is every request");
    }

    #[test]
    fn an_id_stands_where_it_stood_in_earlier_versions() {
        let check = |id: &str, want: f64| {
            assert!((position(id) - want).abs() < 1e-9, "{id}: {}", position(id));
        };
        check(ID, 0.821756304228);
        check("00000000-0000-0000-0000-000000000000", 0.142006260489);
        check("", 0.957673425242);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        /// Six standard deviations of what chance does with so many ids.
        #[test]
        fn a_share_of_many_ids_is_that_share(
            share in 0.01..1.0_f64,
            first in any::<u64>(),
            random in any::<bool>(),
        ) {
            const IDS: u64 = 4000;
            let id = |at: u64| {
                // Ids that differ in one digit have to be spread as well as random ones.
                let low = if random { at.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { at };
                Uuid::from_u64_pair(first, low).hyphenated().to_string()
            };
            let taken = (0..IDS).filter(|at| position(&id(*at)) < share).count();
            let got = taken as f64 / IDS as f64;
            prop_assert!((got - share).abs() < 0.048, "{got} for {share}");
        }

        #[test]
        fn every_id_has_its_place(id in any::<String>()) {
            let place = position(&id);
            prop_assert!((0.0..1.0).contains(&place));
            prop_assert_eq!(place.to_bits(), position(&id).to_bits());
        }
    }
}
