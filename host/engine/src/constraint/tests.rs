use serde_json::{Value, json};

use super::{Constraints, SOURCE_BYTES_MAX};
use crate::{
    checkpoint::Files,
    job::Constraint,
    sampler::mask::Mask as _,
    tests::{folder, json_file},
    tokenizer::Tokenizer,
};

fn tokenizer() -> Tokenizer {
    let files = Files::Folder(folder("llama"));
    Tokenizer::from_files(&files, &json_file("llama", "config.json")).unwrap()
}

/// A text that a model with these preferences writes under a constraint, at most `limit` tokens; and whether it is complete.
fn write(constraint: &Constraint, limit: usize, seed: u32) -> (String, bool) {
    let tokenizer = tokenizer();
    let mut mask = Constraints::default().mask(&tokenizer, constraint).unwrap();
    let mut tokens = Vec::new();
    let mut state = seed;
    while tokens.len() < limit {
        let mut logits: Vec<f32> = (0..512)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 1e6
            })
            .collect();
        mask.allow(&mut logits).unwrap();
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0 as u32;
        assert!(logits[best as usize].is_finite());
        let ended = mask.accept(best).unwrap();
        if tokenizer.is_eos(best) {
            return (tokenizer.decode(&tokens).unwrap(), true);
        }
        tokens.push(best);
        if ended {
            return (tokenizer.decode(&tokens).unwrap(), true);
        }
    }
    (tokenizer.decode(&tokens).unwrap(), false)
}

#[test]
fn whatever_a_model_prefers_it_writes_what_was_asked_for() {
    let schema = json!({
        "type": "object",
        "properties": {
            "color": {"enum": ["red", "파랑"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 99},
            "sure": {"type": "boolean"},
        },
        "required": ["color", "count", "sure"],
        "additionalProperties": false,
    });
    for seed in 0..20 {
        let (text, complete) = write(&Constraint::JsonSchema(schema.clone()), 200, seed);
        assert!(complete, "{text}");
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|it| panic!("{it}: {text}"));
        assert!(["red", "파랑"].contains(&value["color"].as_str().unwrap()), "{text}");
        assert!(value["count"].as_u64().unwrap() <= 99, "{text}");
        assert!(value["sure"].is_boolean(), "{text}");

        let (text, complete) = write(&Constraint::Regex("(ab|cd){2,4}!".to_owned()), 50, seed);
        assert!(complete && text.ends_with('!') && text.len() <= 9, "{text}");

        let grammar = "start: \"<call>\" obj \"</call>\"\nobj: %json {\"enum\": [1, 2]}\n";
        let (text, complete) = write(&Constraint::Grammar(grammar.to_owned()), 50, seed);
        assert!(
            complete && ["<call>1</call>", "<call>2</call>"].contains(&text.as_str()),
            "{text}"
        );

        // Cut off at any place, it is the beginning of an object.
        let (text, complete) = write(&Constraint::JsonObject, 60, seed);
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => assert!(value.is_object(), "{text}"),
            Err(error) => assert!(!complete && error.is_eof(), "{error}: {text}"),
        }
    }
}

#[test]
fn what_cannot_be_followed_is_refused_with_a_reason() {
    let tokenizer = tokenizer();
    let constraints = Constraints::default();
    let check = |constraint: Constraint, expected: &str| {
        let error = constraints.check(&tokenizer, &constraint).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    };
    let schema = |it: Value| Constraint::JsonSchema(it);
    check(schema(json!({"type": "strange"})), "strange");
    check(schema(json!({"type": "string", "minLength": 3, "maxLength": 2})), "cannot be followed");
    check(schema(json!({"$ref": "https://example.com/schema.json"})), "cannot be followed");
    check(schema(json!(7)), "cannot be followed");
    check(schema(json!({"description": "x".repeat(SOURCE_BYTES_MAX)})), "is larger than");
    check(Constraint::Regex("(".to_owned()), "cannot be followed");
    check(Constraint::Grammar("start: missing".to_owned()), "cannot be followed");
    assert!(constraints.check(&tokenizer, &schema(json!(true))).is_ok());
}
