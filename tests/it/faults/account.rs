//! What must be true of a case as a whole: every record is counted, what failed is told by its word, nothing else failed, no line
//! lies, and no secret is anywhere.

use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed};

use chain::{StageError, escape::is_forbidden};
use record::{event, field};
use serde_json::Value;

use super::{
    canary::Canaries,
    case::{Guest, Position, Situation},
    evidence::{Evidence, Problems},
    expect::{self, Missing},
    promise::Promise,
};

/// Characters of an error of loading that somebody may still want to read.
const ERROR_CHARS: usize = 16 << 10;

/// Everything that is wrong with a case.
pub(crate) fn judge(evidence: &Evidence, canaries: &Canaries) -> Vec<String> {
    let mut problems = Problems::default();
    loading(evidence, &mut problems);
    let missing = expect::records(evidence, &mut problems);
    if evidence.case.situation == Situation::Shutdown {
        cut(evidence, &mut problems);
    } else {
        drained(evidence, &missing, &mut problems);
        expect::requests(evidence, &mut problems);
        reports(evidence, &mut problems);
        written(evidence, &mut problems);
    }
    counts(evidence, &mut problems);
    stages(evidence, &mut problems);
    shadow(evidence, &mut problems);
    alerts(evidence, &canaries.beginnings(), &mut problems);
    lines(evidence, &mut problems);
    secrets(evidence, canaries, &mut problems);
    problems.0
}

fn loading(evidence: &Evidence, problems: &mut Problems) {
    match (&evidence.refusal, evidence.case.promise()) {
        (None, Promise::NotLoaded(_)) => problems.0.push("the plugin was loaded".to_owned()),
        (None, _) => {}
        (Some(error), Promise::NotLoaded(words)) => {
            problems.check(error.contains(words), || format!("loading says {error:.200}"));
            problems.check(!error.chars().any(is_forbidden), || format!("{error:?}"));
            let length = error.chars().count();
            problems.check(length <= ERROR_CHARS, || format!("an error of {length} characters"));
        }
        (Some(error), _) => problems.0.push(format!("the plugin was not loaded: {error:.200}")),
    }
}

/// Taken or dropped, every record that was made is counted.
fn counts(evidence: &Evidence, problems: &mut Problems) {
    let (played, drained) = (&evidence.played, &evidence.played.drained);
    let made = evidence.said.len() as u64 + played.unseen + played.installs + played.refusals;
    let counted = drained.accepted + drained.dropped;
    problems.check(made == counted, || format!("{made} records were made: {drained:?}"));
    let full = evidence.case.situation == Situation::Full;
    problems.check((drained.dropped > 0) == full, || format!("{drained:?}"));
}

/// A shutdown that came too late says so, and what is written no more is counted as lost.
fn cut(evidence: &Evidence, problems: &mut Problems) {
    let drained = &evidence.played.drained;
    problems.check(!drained.in_time && !drained.is_complete(), || format!("{drained:?}"));
    let (written, lost) = evidence.witness_counts;
    let whole = evidence.said.iter().filter(|it| it.event != event::RESPONSE_DELTA).count() as u64;
    // Reports of failures come on top.
    let dropped = evidence.case.guest == Guest::Hostile && evidence.case.deed == "drop";
    problems.check(dropped || written + lost >= whole, || {
        format!("{written} lines were written and {lost} lost of {whole} records")
    });
    problems.check(written == evidence.raw.len() as u64, || format!("{written} lines, not more"));
    problems.check(evidence.lost_lines >= lost, || {
        format!("{lost} lines are lost, and {} counted", evidence.lost_lines)
    });
}

/// What did not come out is what was counted, and it is told.
fn drained(evidence: &Evidence, missing: &Missing, problems: &mut Problems) {
    let drained = &evidence.played.drained;
    problems.check(drained.in_time && drained.lost_lines == 0, || format!("{drained:?}"));
    let dropped = |it: &Value| it["attributes"][field::DROPPED].as_u64().unwrap_or_default();
    let (mut by_editors, mut by_queue) = (0, 0);
    for line in evidence.own(event::LOG_DROPPED) {
        let plugin = line["attributes"].get(field::PLUGIN);
        if plugin.is_some_and(|it| it == "session") {
            // Texts that arrived in parts, and not records.
            continue;
        }
        let editor = plugin.is_some();
        *(if editor { &mut by_editors } else { &mut by_queue }) += dropped(line);
    }
    problems.check(by_queue == drained.dropped, || format!("{by_queue} are told: {drained:?}"));
    let good = match (evidence.case.situation, evidence.case.streaming) {
        // Parts of answers are dropped as well, and are not among the missing.
        (Situation::Full, true) => {
            by_editors <= missing.edited
                && missing.edited + missing.other <= drained.dropped + by_editors
        }
        (Situation::Full, false) => {
            by_editors <= missing.edited
                && missing.edited + missing.other == drained.dropped + by_editors
        }
        _ => missing.other == 0 && missing.edited == by_editors,
    };
    problems.check(good, || format!("{missing:?}, {by_editors} dropped by editors, {drained:?}"));
    let told = |event: &str| evidence.own(event).count() as u64;
    let changes = (told(event::CHAIN_REVISED), told(event::CHAIN_REFUSED));
    let made = (evidence.played.installs, evidence.played.refusals);
    problems.check(changes == made, || format!("{changes:?} changes are told, of {made:?}"));
}

/// The words that the log tells of the guest's failures.
fn reports(evidence: &Evidence, problems: &mut Problems) {
    let events = [event::PLUGIN_TRAPPED, event::PLUGIN_FAILED, event::PLUGIN_OPENED];
    let told: BTreeSet<&str> = events
        .into_iter()
        .flat_map(|it| evidence.own(it))
        .filter(|it| it["attributes"][field::PLUGIN] == evidence.case.guest.name())
        .filter_map(|it| it["attributes"][field::PLUGIN_ERROR].as_str())
        .collect();
    if evidence.case.position == Position::Shadow {
        // It is not the log that failed.
        problems.check(told.is_empty(), || format!("{told:?} are told of a shadow"));
        return;
    }
    check_words(evidence, &told, "are told", problems);
}

/// That these are words of what the guest did, and that the word is among them which must be.
fn check_words(evidence: &Evidence, found: &BTreeSet<&str>, what: &str, problems: &mut Problems) {
    let case = &evidence.case;
    let promise = case.promise();
    let (may, must): (&[StageError], bool) = match promise {
        Promise::NotLoaded(_) => (&[], false),
        Promise::Fails(ref error) => (std::slice::from_ref(error), true),
        // The one record that it cannot bear, or the thousand that it can, may have found no room.
        Promise::Poison => (&[StageError::Trap], case.situation != Situation::Full),
        Promise::May(errors) => {
            (errors, case.deed == "thousandth" && case.situation != Situation::Full)
        }
        // A terminal record that it wants to drop.
        Promise::Goes if case.guest == Guest::Hostile && case.deed == "drop" => {
            (&[StageError::Refused], false)
        }
        Promise::Goes => (&[], false),
    };
    let may: Vec<&str> = may.iter().map(|it| it.name()).collect();
    let opened = StageError::BreakerOpen.name();
    let good = found.iter().all(|it| may.contains(it) || (!may.is_empty() && *it == opened))
        && (!must || may.iter().any(|it| found.contains(it)));
    problems.check(good, || format!("{found:?} {what}, not {may:?}"));
}

/// The counters of the guest have the same words, and those of good plugins have none.
fn stages(evidence: &Evidence, problems: &mut Problems) {
    let case = &evidence.case;
    for (key, stage) in &evidence.stages {
        let counts = StageError::ALL.iter().zip(&stage.failures);
        let failed: Vec<(&str, u64)> = counts
            .map(|(error, count)| (error.name(), count.load(Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect();
        if key.plugin != case.guest.name() {
            problems.check(failed.is_empty(), || format!("{} failed: {failed:?}", key.plugin));
            continue;
        }
        // What an editor says of single records is no failure of a call.
        if case.guest == Guest::Hostile && matches!(case.deed, "fail" | "drop") {
            problems.check(failed.is_empty(), || format!("{failed:?} are counted"));
            continue;
        }
        let words = failed.iter().map(|(word, _)| *word).collect();
        check_words(evidence, &words, "are counted", problems);
        let once = case.deed != "thousandth" || failed.iter().all(|(_, count)| *count == 1);
        problems.check(once, || format!("{failed:?}: a trap costs one instance"));
    }
}

/// A shadow is given what its chain is given, and its failures are counted as its own.
fn shadow(evidence: &Evidence, problems: &mut Problems) {
    let Some(it) = &evidence.shadow else {
        let none = evidence.case.position != Position::Shadow;
        problems.check(none, || "there was no shadow".to_owned());
        return;
    };
    let (compared, traps) = (it.compared.load(Relaxed), it.traps.load(Relaxed));
    problems.check(compared > 0, || "the shadow saw nothing".to_owned());
    let fails = matches!(evidence.case.promise(), Promise::Fails(_));
    problems.check(traps > 0 || !fails, || format!("{traps} traps of the shadow"));
}

/// Handlers reach the channels that they were granted, while they work, and nothing else.
fn alerts(evidence: &Evidence, content: &[String], problems: &mut Problems) {
    let mut by_guest = 0;
    for (channel, alert) in &evidence.alerts {
        problems.check(channel == "ops", || format!("an alert to {channel:.100}"));
        let text = format!("{}{}{}", alert.key, alert.title, alert.body);
        let clean = !content.iter().any(|it| text.contains(it));
        problems.check(clean, || format!("an alert with content: {alert:?}"));
        let known = ["early", "huge", "long"].contains(&alert.key.as_str());
        by_guest += usize::from(known || alert.key.starts_with("spam"));
    }
    let case = &evidence.case;
    let sends = case.guest == Guest::Saboteur && matches!(case.deed, "alert-spam" | "alert-huge");
    problems.check((by_guest > 0) == sends, || format!("the guest sent {by_guest} alerts"));
}

/// No line lies, whoever made it.
fn lines(evidence: &Evidence, problems: &mut Problems) {
    let (lines, records) = (evidence.raw.len(), evidence.witness.len());
    problems.check(lines == records, || format!("{records} of {lines} lines are records"));
    for line in evidence.raw.iter().chain(&evidence.people).chain(&evidence.grave) {
        problems.check(!line.chars().any(is_forbidden), || format!("{line:?}"));
    }
}

/// A formatter that fails costs its form: the host writes the lines, each record's own.
fn written(evidence: &Evidence, problems: &mut Problems) {
    let (case, people) = (&evidence.case, &evidence.people);
    if case.guest != Guest::Vandal {
        return;
    }
    if case.deed == "empty" {
        let fewer = people.len() < evidence.witness.len();
        problems.check(fewer, || format!("{} lines, where none was made", people.len()));
        return;
    }
    for (line, record) in people.iter().zip(&evidence.witness) {
        let event = &record["event_name"];
        let fits = match serde_json::from_str::<Value>(line) {
            Ok(it) => it["event_name"] == *event && it["attributes"] == record["attributes"],
            Err(_) => event.as_str().is_some_and(|it| line.starts_with(it)),
        };
        problems.check(fits, || format!("{line:.300}: the line of {record}"));
    }
    let grave = evidence.witness.iter().filter(|it| {
        let severity = it["severity_number"].as_u64().unwrap_or_default();
        case.position == Position::Two && severity >= u64::from(record::Severity::WARNING.number())
    });
    let wanted = (evidence.witness.len(), grave.count());
    let found = (people.len(), evidence.grave.len());
    problems.check(found == wanted, || format!("{found:?} lines of {wanted:?} records"));
}

fn secrets(evidence: &Evidence, canaries: &Canaries, problems: &mut Problems) {
    let words = canaries.find(&evidence.words());
    problems.check(words.is_none(), || format!("{words:?} is in metrics, alerts or errors"));
    let case = &evidence.case;
    // Where nobody redacts, an editor that keeps records as they are gives them away: that is what it is asked for.
    let keeps = match case.promise() {
        Promise::Poison | Promise::May(_) => true,
        Promise::Goes => !matches!(case.deed, "drop" | "overlapping"),
        Promise::NotLoaded(_) | Promise::Fails(_) => false,
    };
    if case.position == Position::Alone && keeps {
        return;
    }
    let lines = canaries.find(&evidence.lines());
    problems.check(lines.is_none(), || format!("{lines:?} is in the lines"));
}
