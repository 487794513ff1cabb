//! Datadog's sensitive data scanner: native, the ceiling of what redaction by rules can do.

use std::{borrow::Cow, sync::Arc};

use anyhow::{Result, anyhow};
use dd_sds::{
    MatchAction, RegexRuleConfig, RootRuleConfig, RuleConfig, Scanner, SecondaryValidator,
};
use rules::{Check, RULES, Rule};

use crate::{corpus::Input, peer::Peer};

pub struct DdSds(Scanner);

impl DdSds {
    pub fn peer() -> Result<Box<dyn Peer>> {
        let rules: Vec<_> = RULES.iter().map(rule).collect();
        let scanner = Scanner::builder(&rules).build().map_err(|it| anyhow!("{it:?}"))?;
        Ok(Box::new(Self(scanner)))
    }
}

fn rule(rule: &Rule) -> RootRuleConfig<Arc<dyn RuleConfig>> {
    // Its own syntax has no flags; its word boundary is ASCII's anyway.
    let pattern = rule.pattern.replace(r"(?-u:\b)", r"\b");
    let validator = match rule.check {
        Check::None => None,
        Check::Luhn => Some(SecondaryValidator::LuhnChecksum),
        Check::Mod97 => Some(SecondaryValidator::IbanChecker),
    };
    let config = RegexRuleConfig::new(&pattern).with_validator(validator);
    RootRuleConfig::new(config.build()).match_action(MatchAction::redact(rule.label))
}

impl Peer for DdSds {
    fn redact<'a>(&'a mut self, records: &'a [Input]) -> Result<Vec<Cow<'a, str>>> {
        let mut texts = Vec::with_capacity(records.len());
        for record in records {
            // It changes an event in place, so it gets one of its own.
            let mut text = record.text.clone();
            self.0.scan(&mut text).map_err(|it| anyhow!("{it:?}"))?;
            texts.push(Cow::Owned(text));
        }
        Ok(texts)
    }
}
