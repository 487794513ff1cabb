//! Lines of a request, in the order in which they are written.

use std::fmt::Write as _;

use sdk::clock;

use crate::writer::{Entry, Shape, Writer, push_content, push_shaped};

const PARAMETERS: [Entry; 7] = [
    ("max_tokens", "gen_ai.request.max_tokens", Shape::Whole, ""),
    ("temperature", "gen_ai.request.temperature", Shape::Plain, ""),
    ("top_p", "gen_ai.request.top_p", Shape::Plain, ""),
    ("top_k", "gen_ai.request.top_k", Shape::Whole, ""),
    ("seed", "gen_ai.request.seed", Shape::Whole, ""),
    ("stop", "gen_ai.request.stop_sequences", Shape::Plain, ""),
    ("output_type", "gen_ai.output.type", Shape::Plain, ""),
];

/// The last one is not in the guide's sample.
const METRICS: [Entry; 4] = [
    ("generation_ms", "bucksaw.generation_ms", Shape::Whole, "ms"),
    ("tokens_generated", "gen_ai.usage.output_tokens", Shape::Whole, ""),
    ("tokens_per_second", "bucksaw.tokens_per_second", Shape::Tenths, ""),
    ("endpoint_total_ms", "bucksaw.endpoint_total_ms", Shape::Whole, "ms"),
];

const TIMING: [Entry; 4] = [
    ("queue_ms", "bucksaw.queue_ms", Shape::Tenths, "ms"),
    ("prefill_ms", "bucksaw.prefill_ms", Shape::Tenths, "ms"),
    ("decode_ms", "bucksaw.decode_ms", Shape::Tenths, "ms"),
    ("endpoint_total_ms", "bucksaw.endpoint_total_ms", Shape::Whole, "ms"),
];

pub(crate) fn received(w: &mut Writer<'_, '_>) {
    let record = w.record;
    w.banner("🎯", w.words.request_started, &[record.text("http.route").unwrap_or_default()]);
    w.label("⏰", w.words.start_time);
    let stamp = w.stamp;
    let out = w.out();
    clock::push_stamp(out, &stamp);
    out.push('.');
    clock::push_padded(out, clock::subsecond(record.time()) / 1_000_000, 3);
    w.end();
}

pub(crate) fn prompt(w: &mut Writer<'_, '_>) {
    let record = w.record;
    // The INFO record has the length, the DEBUG record the whole text.
    if let Some(count) = record.int("bucksaw.prompt.chars") {
        w.characters("📝", w.words.prompt_length, count);
        if w.full {
            w.content("📝", w.words.prompt_preview, "bucksaw.prompt.text");
        }
    } else {
        w.content("📝", w.words.full_prompt, "bucksaw.prompt.text");
    }
    if let Some(images) = record.int("bucksaw.prompt.images") {
        w.labelled("🖼️", w.words.image_included, w.words.yes_or_no(images > 0));
    }
    if let Some(tag) = record.bool("bucksaw.prompt.vision_tag") {
        w.labelled("🔖", w.words.vision_tag, w.words.yes_or_no(tag));
    }
    if let Some(stack) = record.text("bucksaw.code.stack") {
        w.labelled("📚", w.words.call_stack, stack);
    }
}

pub(crate) fn image(w: &mut Writer<'_, '_>) {
    let record = w.record;
    let words = w.words;
    let index = record.int("bucksaw.image.index").unwrap_or_default();
    let size = (record.int("bucksaw.image.width"), record.int("bucksaw.image.height"));
    if let (Some(width), Some(height)) = size {
        of_image(w, "📐", words.image_size, index);
        let _ = write!(w.out(), "{width}x{height}");
        w.end();
    }
    if let Some(mode) = record.text("bucksaw.image.mode") {
        of_image(w, "🎨", words.image_mode, index);
        push_content(w.out(), mode);
        w.end();
    }
    if let Some(count) = record.int("bucksaw.image.base64_chars") {
        of_image(w, "🔢", words.base64_length, index);
        let _ = write!(w.out(), "{count}{}", words.characters);
        w.end();
    }
    if let Some(bytes) = record.int("bucksaw.image.bytes") {
        of_image(w, "💾", words.file_size, index);
        let _ = write!(w.out(), "{:.1}KB", bytes as f64 / 1024.0);
        w.end();
    }
    if let Some(decode) = record.float("bucksaw.image.decode_ms") {
        of_image(w, "⏳", words.decode_time, index);
        let _ = write!(w.out(), "{decode:.1}ms");
        w.end();
    }
    if let Some(status) = record.text("bucksaw.multimodal.status") {
        of_image(w, "🧠", words.multimodal, index);
        w.out().push_str(if status == "ok" { words.success } else { words.failure });
        if let Some(error) = record.text("error.type") {
            let _ = write!(w.out(), " ({error})");
        }
        w.end();
    }
}

/// A label that says which image from the second one on: `이미지 크기 (2): `.
fn of_image(w: &mut Writer<'_, '_>, emoji: &str, label: &str, index: i64) {
    w.begin(emoji);
    w.out().push_str(label);
    if index > 0 {
        let _ = write!(w.out(), " ({})", index.saturating_add(1));
    }
    w.out().push_str(": ");
}

pub(crate) fn params(w: &mut Writer<'_, '_>) {
    w.list("⚙️", w.words.parameters, &PARAMETERS);
}

pub(crate) fn lora(w: &mut Writer<'_, '_>) {
    let record = w.record;
    let words = w.words;
    let status = record.text("bucksaw.lora.status").unwrap_or_default();
    if record.text("bucksaw.lora.requested").is_some() || (record.is_stub() && status != "none") {
        w.content("🧩", words.lora_requested, "bucksaw.lora.requested");
    } else {
        w.labelled("🧩", words.lora_requested, words.none);
    }
    if let Some(used) = record.bool("bucksaw.lora.default_used") {
        w.labelled("🧩", words.lora_default, words.yes_or_no(used));
    }
    let result = match status {
        "ok" => words.lora_set,
        "failed" => words.lora_failed,
        _ => return,
    };
    w.begin("🧩");
    w.out().push_str(result);
    if let Some(resolved) = record.text("bucksaw.lora.resolved") {
        w.out().push_str(": ");
        push_content(w.out(), resolved);
    }
    w.end();
}

pub(crate) fn gpu_memory(w: &mut Writer<'_, '_>) {
    const GIB: f64 = (1_u64 << 30) as f64;
    let record = w.record;
    let after = record.text("bucksaw.gpu.phase") == Some("after");
    let Some(used) = record.float("hw.gpu.memory.usage") else { return };
    if after && !w.full {
        return;
    }
    let phase = if after { w.words.after_generation } else { w.words.before_generation };
    w.begin("🖥️");
    let word = w.words.gpu_memory;
    let _ = write!(w.out(), "{word} ({phase}): {:.2}GB", used / GIB);
    if let Some(limit) = record.float("hw.gpu.memory.limit").filter(|it| *it > 0.0) {
        let share = record.float("hw.gpu.memory.utilization").unwrap_or(used / limit);
        let _ = write!(w.out(), " / {:.2}GB ({:.1}%)", limit / GIB, share * 100.0);
    }
    w.end();
}

pub(crate) fn first_token(w: &mut Writer<'_, '_>) {
    let record = w.record;
    let words = w.words;
    let Some(seconds) = record.float("gen_ai.response.time_to_first_chunk") else { return };
    w.label("⏳", words.first_token);
    let _ = write!(w.out(), "{:.1}ms", seconds * 1000.0);
    let parts = [(words.queue, "bucksaw.queue_ms"), (words.prefill, "bucksaw.prefill_ms")];
    let mut open = false;
    for (word, field) in parts {
        if let Some(it) = record.float(field) {
            w.out().push_str(if open { ", " } else { " (" });
            let _ = write!(w.out(), "{word} {it:.1}ms");
            open = true;
        }
    }
    if open {
        w.out().push(')');
    }
    w.end();
}

pub(crate) fn response(w: &mut Writer<'_, '_>) {
    if let Some(count) = w.record.int("bucksaw.response.chars") {
        w.characters("📤", w.words.response_length, count);
        w.content("💡", w.words.response_preview, "bucksaw.response.text");
    } else {
        w.content("💬", w.words.full_response, "bucksaw.response.text");
    }
}

pub(crate) fn json_parse(w: &mut Writer<'_, '_>) {
    let record = w.record;
    let words = w.words;
    let status = match record.text("bucksaw.json.status").unwrap_or_default() {
        "ok" => words.success,
        "invalid" => words.failure,
        "truncated" => words.json_truncated,
        "not_json" => words.not_json,
        other => other,
    };
    w.label("🧾", words.json_result);
    push_content(w.out(), status);
    let parts = [
        (words.expected, "bucksaw.json.expected"),
        (words.error_offset, "bucksaw.json.error_offset"),
        (words.keys, "bucksaw.json.keys"),
    ];
    let mut open = false;
    for (word, field) in parts {
        if let Some(field) = record.field(field) {
            w.out().push_str(if open { ", " } else { " (" });
            let _ = write!(w.out(), "{word}: ");
            push_shaped(w.out(), field.value(), Shape::Plain);
            open = true;
        }
    }
    if open {
        w.out().push(')');
    }
    w.end();
}

pub(crate) fn performance(w: &mut Writer<'_, '_>) {
    // The second record of a request at DEBUG has the parts of the time.
    if w.record.float("bucksaw.queue_ms").is_some() {
        return w.list("⏱️", w.words.timing, &TIMING);
    }
    let shown = if w.full { METRICS.len() } else { METRICS.len() - 1 };
    w.list("⏱️", w.words.metrics, METRICS.get(..shown).unwrap_or_default());
}

pub(crate) fn finished(w: &mut Writer<'_, '_>) {
    w.banner("✅", w.words.succeeded, &[]);
}

pub(crate) fn failed(w: &mut Writer<'_, '_>) {
    let record = w.record;
    w.banner("❌", w.words.failed, &[record.text("error.type").unwrap_or_default()]);
    w.content("❌", w.words.error, "exception.message");
    // There is one at DEBUG only.
    if let Some(trace) = record.text("exception.stacktrace") {
        w.begin("📚");
        let word = w.words.stack_trace;
        let _ = write!(w.out(), "{word}:");
        w.end();
        for line in trace.lines() {
            w.out().push_str("   ");
            push_content(w.out(), line);
            w.end();
        }
    }
}

pub(crate) fn cancelled(w: &mut Writer<'_, '_>) {
    let record = w.record;
    w.banner("⚠️", w.words.cancelled, &[record.text("error.type").unwrap_or_default()]);
}

pub(crate) fn rejected(w: &mut Writer<'_, '_>) {
    let record = w.record;
    let status = record.int("http.response.status_code").map(|it| it.to_string());
    let error = record.text("error.type").unwrap_or_default();
    w.banner("⛔", w.words.rejected, &[status.as_deref().unwrap_or_default(), error]);
    w.content("⛔", w.words.reason, "exception.message");
}

pub(crate) fn total(w: &mut Writer<'_, '_>) {
    let Some(total) = w.record.float("bucksaw.endpoint_total_ms") else { return };
    let unit = w.words.seconds;
    w.label("⏱️", w.words.total);
    let _ = write!(w.out(), "{:.3}{unit}", total / 1000.0);
    w.end();
}
