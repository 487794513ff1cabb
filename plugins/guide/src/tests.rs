use sdk::native::{self, BatchBuilder};

use crate::Guide;

const DEBUG: u32 = 5;
const INFO: u32 = 9;
const WARNING: u32 = 13;
const ERROR: u32 = 17;

/// 2025-01-09 14:30:25.123 in Korea.
const TIME: i64 = 1_736_400_625_123_000_000;
const KOREA: i32 = 9 * 3600;

fn record(batch: BatchBuilder, event: &str, severity: u32, after: i64) -> BatchBuilder {
    batch.record(event, severity).time(TIME + after * 1_000_000_000, KOREA).request(
        "a1b2c3d4-0000-4000-8000-000000000000",
        "a1b2c3d4",
        0,
    )
}

fn one(event: &str, severity: u32) -> BatchBuilder {
    record(BatchBuilder::new(), event, severity, 0)
}

fn formatted(config: &str, batch: BatchBuilder) -> Vec<String> {
    let (plugin, setup) = native::configure::<Guide>(config).unwrap();
    assert_eq!(setup.reads, ["*"]);
    let batch = batch.build();
    let formatted = native::format(&plugin, &batch);
    let mut last = 0;
    for line in &formatted.lines {
        assert!(last <= line.record && (line.record as usize) < batch.records.len());
        last = line.record;
    }
    native::lines(&formatted).into_iter().map(str::to_owned).collect()
}

/// Lines of one record, without the time.
fn check(config: &str, batch: BatchBuilder, expected: &[&str]) {
    let lines = formatted(config, batch);
    let lines: Vec<_> =
        lines.iter().map(|it| it.strip_prefix("2025-01-09 14:30:25 - ").unwrap_or(it)).collect();
    assert_eq!(lines, expected);
}

/// The request of the guide's sample, with everything that the server says about it at INFO.
fn sample() -> BatchBuilder {
    let gib = f64::from(1 << 30);
    let batch = BatchBuilder::new();
    let batch = record(batch, "request.received", INFO, 0)
        .text("http.request.method", "POST")
        .text("http.route", "/vision")
        .content("user_agent.original", "curl/8");
    let batch = record(batch, "request.prompt", INFO, 0)
        .int("bucksaw.prompt.chars", 250)
        .content("bucksaw.prompt.text", "이 이미지를 설명해 주세요…(+237자)")
        .int("bucksaw.prompt.images", 1);
    let batch = record(batch, "request.image", INFO, 0)
        .int("bucksaw.image.index", 0)
        .int("bucksaw.image.width", 1920)
        .int("bucksaw.image.height", 1080)
        .text("bucksaw.image.mode", "RGB")
        .text("bucksaw.image.format", "png");
    let batch = record(batch, "request.params", INFO, 0)
        .int("gen_ai.request.max_tokens", 512)
        .float("gen_ai.request.temperature", 0.7);
    let batch = record(batch, "gpu.memory", INFO, 0)
        .engine()
        .text("bucksaw.gpu.phase", "before")
        .int("hw.gpu.memory.usage", (15.23 * gib) as i64)
        .int("hw.gpu.memory.limit", (80.0 * gib) as i64)
        .float("hw.gpu.memory.utilization", 15.23 / 80.0);
    let batch = record(batch, "gpu.memory", INFO, 2)
        .engine()
        .text("bucksaw.gpu.phase", "after")
        .int("hw.gpu.memory.usage", (15.5 * gib) as i64)
        .int("hw.gpu.memory.limit", (80.0 * gib) as i64);
    let batch = record(batch, "response.content", INFO, 2)
        .int("bucksaw.response.chars", 342)
        .content("bucksaw.response.text", "이미지에는 사무실 환경이...")
        .text("gen_ai.response.finish_reason", "stop");
    let batch = record(batch, "request.performance", INFO, 2)
        .int("bucksaw.generation_ms", 1850)
        .int("gen_ai.usage.input_tokens", 300)
        .int("gen_ai.usage.output_tokens", 145)
        .float("bucksaw.tokens_per_second", 78.378)
        .int("bucksaw.endpoint_total_ms", 2150);
    let batch = record(batch, "request.finished", INFO, 2).int("http.response.status_code", 200);
    let batch = record(batch, "request.total", INFO, 2).float("bucksaw.endpoint_total_ms", 2155.9);
    record(batch, "request.summary", INFO, 2).text("bucksaw.outcome", "finished")
}

/// A record that the sample has not: the request asked for an adapter.
fn adapter(batch: BatchBuilder) -> BatchBuilder {
    record(batch, "lora.resolved", INFO, 0)
        .content("bucksaw.lora.requested", "sql")
        .text("bucksaw.lora.resolved", "sql")
        .bool("bucksaw.lora.default_used", false)
        .text("bucksaw.lora.status", "ok")
}

const SAMPLE: &str = "\
2025-01-09 14:30:25 - INFO - 🎯 [a1b2c3d4] ===== 요청 시작: /vision =====
2025-01-09 14:30:25 - INFO - ⏰ [a1b2c3d4] 시작 시각: 2025-01-09 14:30:25.123
2025-01-09 14:30:25 - INFO - 📝 [a1b2c3d4] 프롬프트 길이: 250자
2025-01-09 14:30:25 - INFO - 🖼️ [a1b2c3d4] 이미지 포함: 예
2025-01-09 14:30:25 - INFO - 📐 [a1b2c3d4] 이미지 크기: 1920x1080
2025-01-09 14:30:25 - INFO - 🎨 [a1b2c3d4] 이미지 모드: RGB
2025-01-09 14:30:25 - INFO - ⚙️ [a1b2c3d4] 생성 파라미터:
   - max_tokens: 512
   - temperature: 0.7
2025-01-09 14:30:25 - INFO - 🖥️ [a1b2c3d4] GPU 메모리 (생성 전): 15.23GB / 80.00GB (19.0%)
2025-01-09 14:30:27 - INFO - 📤 [a1b2c3d4] 응답 길이: 342자
2025-01-09 14:30:27 - INFO - 💡 [a1b2c3d4] 응답 미리보기: 이미지에는 사무실 환경이...
2025-01-09 14:30:27 - INFO - ⏱️ [a1b2c3d4] 성능 지표:
   - generation_ms: 1850ms
   - tokens_generated: 145
   - tokens_per_second: 78.4
2025-01-09 14:30:27 - INFO - ✅ [a1b2c3d4] ===== 요청 성공 =====
2025-01-09 14:30:27 - INFO - ⏱️ [a1b2c3d4] 총 소요 시간: 2.156초";

#[test]
fn the_sample_of_the_guide_byte_for_byte() {
    let lines = formatted(r#"{"lines": "sample"}"#, sample());
    assert_eq!(lines.join("\n"), SAMPLE);
}

#[test]
fn the_whole_of_info() {
    let lines = formatted("{}", adapter(sample()));
    let more = [
        "2025-01-09 14:30:25 - INFO - 📝 [a1b2c3d4] 프롬프트 미리보기: 이 이미지를 설명해 주세요…(+237자)",
        "2025-01-09 14:30:25 - INFO - 🧩 [a1b2c3d4] 요청된 LoRA 어댑터: sql",
        "2025-01-09 14:30:25 - INFO - 🧩 [a1b2c3d4] 기본 어댑터 사용: 아니오",
        "2025-01-09 14:30:25 - INFO - 🧩 [a1b2c3d4] LoRA 설정 성공: sql",
        "2025-01-09 14:30:27 - INFO - 🖥️ [a1b2c3d4] GPU 메모리 (생성 후): 15.50GB / 80.00GB (19.4%)",
        "   - endpoint_total_ms: 2150ms",
    ];
    for it in more {
        assert!(lines.iter().any(|line| line == it), "{it}");
    }
    let rest: Vec<_> = lines.into_iter().filter(|it| !more.contains(&it.as_str())).collect();
    assert_eq!(rest.join("\n"), SAMPLE);
}

#[test]
fn the_sample_in_english() {
    let lines = formatted(r#"{"lines": "sample", "locale": "en"}"#, sample());
    let expected = "\
2025-01-09 14:30:25 - INFO - 🎯 [a1b2c3d4] ===== Request started: /vision =====
2025-01-09 14:30:25 - INFO - ⏰ [a1b2c3d4] Start time: 2025-01-09 14:30:25.123
2025-01-09 14:30:25 - INFO - 📝 [a1b2c3d4] Prompt length: 250 chars
2025-01-09 14:30:25 - INFO - 🖼️ [a1b2c3d4] Image included: yes
2025-01-09 14:30:25 - INFO - 📐 [a1b2c3d4] Image size: 1920x1080
2025-01-09 14:30:25 - INFO - 🎨 [a1b2c3d4] Image mode: RGB
2025-01-09 14:30:25 - INFO - ⚙️ [a1b2c3d4] Generation parameters:
   - max_tokens: 512
   - temperature: 0.7
2025-01-09 14:30:25 - INFO - 🖥️ [a1b2c3d4] GPU memory (before generation): 15.23GB / 80.00GB (19.0%)
2025-01-09 14:30:27 - INFO - 📤 [a1b2c3d4] Response length: 342 chars
2025-01-09 14:30:27 - INFO - 💡 [a1b2c3d4] Response preview: 이미지에는 사무실 환경이...
2025-01-09 14:30:27 - INFO - ⏱️ [a1b2c3d4] Performance metrics:
   - generation_ms: 1850ms
   - tokens_generated: 145
   - tokens_per_second: 78.4
2025-01-09 14:30:27 - INFO - ✅ [a1b2c3d4] ===== Request succeeded =====
2025-01-09 14:30:27 - INFO - ⏱️ [a1b2c3d4] Total time: 2.156s";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn lists_on_one_line() {
    let lines = formatted(r#"{"lines": "sample", "metrics": "line"}"#, sample());
    let has = |it: &str| assert!(lines.iter().any(|line| line == it), "{it} in {lines:#?}");
    has("2025-01-09 14:30:25 - INFO - ⚙️ [a1b2c3d4] 생성 파라미터: max_tokens=512 temperature=0.7");
    has(
        "2025-01-09 14:30:27 - INFO - ⏱️ [a1b2c3d4] 성능 지표: generation_ms=1850ms tokens_generated=145 tokens_per_second=78.4",
    );
}

#[test]
fn the_records_of_debug() {
    // DEBUG is said in full, whatever is asked for at INFO.
    let check = |batch, expected: &[&str]| check(r#"{"lines": "sample"}"#, batch, expected);
    check(
        one("request.prompt", DEBUG)
            .content("bucksaw.prompt.text", "<image>설명")
            .bool("bucksaw.prompt.vision_tag", true)
            .text("bucksaw.code.stack", "chat.rs:12 chat -> engine"),
        &[
            "DEBUG - 📝 [a1b2c3d4] 전체 프롬프트: <image>설명",
            "DEBUG - 🔖 [a1b2c3d4] 비전 태그: 예",
            "DEBUG - 📚 [a1b2c3d4] 호출 스택: chat.rs:12 chat -> engine",
        ],
    );
    check(
        one("request.image", DEBUG)
            .int("bucksaw.image.index", 1)
            .int("bucksaw.image.base64_chars", 16_800)
            .int("bucksaw.image.bytes", 12_600)
            .float("bucksaw.image.decode_ms", 3.21)
            .text("bucksaw.multimodal.status", "ok"),
        &[
            "DEBUG - 🔢 [a1b2c3d4] Base64 길이 (2): 16800자",
            "DEBUG - 💾 [a1b2c3d4] 예상 파일 크기 (2): 12.3KB",
            "DEBUG - ⏳ [a1b2c3d4] 디코드 시간 (2): 3.2ms",
            "DEBUG - 🧠 [a1b2c3d4] 멀티모달 처리 (2): 성공",
        ],
    );
    check(
        one("generation.first_token", DEBUG)
            .float("gen_ai.response.time_to_first_chunk", 0.3125)
            .float("bucksaw.queue_ms", 0.4)
            .float("bucksaw.prefill_ms", 311.0),
        &["DEBUG - ⏳ [a1b2c3d4] 첫 토큰: 312.5ms (대기 0.4ms, 프리필 311.0ms)"],
    );
    check(
        one("response.content", DEBUG).content("bucksaw.response.text", "네"),
        &["DEBUG - 💬 [a1b2c3d4] 전체 응답: 네"],
    );
    check(
        one("response.json_parse", DEBUG)
            .text("bucksaw.json.expected", "object")
            .text("bucksaw.json.status", "invalid")
            .int("bucksaw.json.error_offset", 12)
            .content("bucksaw.json.keys", "a, b"),
        &["DEBUG - 🧾 [a1b2c3d4] JSON 파싱 결과: 실패 (기대: object, 오류 위치: 12, 키: a, b)"],
    );
    check(
        one("request.performance", DEBUG)
            .float("bucksaw.queue_ms", 0.44)
            .float("bucksaw.prefill_ms", 311.0)
            .int("bucksaw.decode_ms", 1500),
        &[
            "DEBUG - ⏱️ [a1b2c3d4] 상세 타이밍:",
            "   - queue_ms: 0.4ms",
            "   - prefill_ms: 311.0ms",
            "   - decode_ms: 1500.0ms",
        ],
    );
    check(
        one("lora.resolved", DEBUG)
            .bool("bucksaw.lora.default_used", true)
            .text("bucksaw.lora.status", "none"),
        &[
            "DEBUG - 🧩 [a1b2c3d4] 요청된 LoRA 어댑터: 없음",
            "DEBUG - 🧩 [a1b2c3d4] 기본 어댑터 사용: 예",
        ],
    );
}

#[test]
fn ends_that_are_no_success() {
    let check = |batch, expected: &[&str]| check("{}", batch, expected);
    check(
        one("request.failed", ERROR)
            .text("error.type", "engine_error")
            .content("exception.message", "out of memory")
            .content("exception.stacktrace", "a.rs:1\nb.rs:2"),
        &[
            "ERROR - ❌ [a1b2c3d4] ===== 요청 실패: engine_error =====",
            "ERROR - ❌ [a1b2c3d4] 오류: out of memory",
            "ERROR - 📚 [a1b2c3d4] 스택 트레이스:",
            "   a.rs:1",
            "   b.rs:2",
        ],
    );
    check(
        one("request.rejected", WARNING)
            .int("http.response.status_code", 400)
            .text("error.type", "invalid_image")
            .content("exception.message", "not an image"),
        &[
            "WARNING - ⛔ [a1b2c3d4] ===== 요청 거부: 400 invalid_image =====",
            "WARNING - ⛔ [a1b2c3d4] 사유: not an image",
        ],
    );
    check(one("request.cancelled", WARNING), &["WARNING - ⚠️ [a1b2c3d4] ===== 요청 취소 ====="]);
    check(
        one("request.image", WARNING)
            .text("bucksaw.multimodal.status", "failed")
            .text("error.type", "too_large"),
        &["WARNING - 🧠 [a1b2c3d4] 멀티모달 처리: 실패 (too_large)"],
    );
}

#[test]
fn a_stub_says_that_content_was_withheld() {
    let stub = |batch: BatchBuilder| {
        batch.stub().text("bucksaw.plugin", "redact").text("bucksaw.plugin.error", "trap")
    };
    check(
        "{}",
        stub(one("request.prompt", INFO).int("bucksaw.prompt.chars", 250)),
        &[
            "INFO - 📝 [a1b2c3d4] 프롬프트 길이: 250자",
            "INFO - 📝 [a1b2c3d4] 프롬프트 미리보기: [내용 보류: redact (trap)]",
        ],
    );
    check(
        r#"{"locale": "en"}"#,
        stub(one("response.content", INFO).int("bucksaw.response.chars", 9)),
        &[
            "INFO - 📤 [a1b2c3d4] Response length: 9 chars",
            "INFO - 💡 [a1b2c3d4] Response preview: [content withheld: redact (trap)]",
        ],
    );
    check(
        "{}",
        stub(one("custom", INFO)),
        &[
            "INFO - 🔹 [a1b2c3d4] custom: bucksaw.plugin=redact bucksaw.plugin.error=trap [내용 보류: redact (trap)]",
        ],
    );
}

#[test]
fn lines_of_the_server_have_no_id() {
    let server =
        |event: &str, severity: u32| BatchBuilder::new().record(event, severity).time(TIME, KOREA);
    let check = |batch, expected: &str| check(r#"{"lines": "sample"}"#, batch, &[expected]);
    check(
        server("server.started", INFO).text("bucksaw.notice", "listening on 127.0.0.1:8000"),
        "INFO - ℹ️ listening on 127.0.0.1:8000",
    );
    check(server("server.stopped", INFO), "INFO - ℹ️ 서버 종료");
    check(server("engine.notice", WARNING).text("bucksaw.notice", "no GPU"), "WARNING - ⚠️ no GPU");
    check(
        server("plugin.failed", ERROR)
            .text("bucksaw.plugin", "redact")
            .text("bucksaw.plugin.error", "trap"),
        "ERROR - ❌ 플러그인 오류: redact (trap)",
    );
    check(
        server("plugin.opened", WARNING)
            .text("bucksaw.plugin", "redact")
            .text("bucksaw.notice", "again in 5 s"),
        "WARNING - ⚠️ 플러그인 차단: redact: again in 5 s",
    );
    check(
        server("log.dropped", WARNING).int("bucksaw.dropped", 12),
        "WARNING - ⚠️ 로그 유실: 12건",
    );
    check(
        server("log", INFO)
            .content("message", "a \"b\" = c")
            .text("bucksaw.target", "hyper::server")
            .int("n", -1)
            .float("x", 1.0)
            .bool("y", false)
            .content("empty", ""),
        "INFO - 🔹 log: message=\"a \\\"b\\\" = c\" bucksaw.target=hyper::server n=-1 x=1.0 y=false empty=\"\"",
    );
}

#[test]
fn content_cannot_pass_for_the_servers_words() {
    let check = |text: &str, expected: &str| {
        let line = format!("DEBUG - 💬 [a1b2c3d4] 전체 응답: {expected}");
        check(
            "{}",
            one("response.content", DEBUG).content("bucksaw.response.text", text),
            &[&line],
        );
    };
    check("❌ 오류", "\\u274c 오류");
    check("x - ERROR - y", "x \\u002d ERROR - y");
    check("- INFO - y", "\\u002d INFO - y");
    check("a - b - ERROR-", "a - b - ERROR-");
    check("“e2” – 한 - 글", "“e2” – 한 - 글");
    // The host escapes what a value holds.
    check("a\nb", "a\nb");
}

#[test]
fn bad_configuration_is_refused() {
    let check = |config: &str, key: &str| {
        let Err(diagnostics) = native::configure::<Guide>(config) else {
            panic!("{config} was accepted");
        };
        assert_eq!(diagnostics[0].key, key, "{diagnostics:?}");
    };
    check(r#"{"locale": "jp"}"#, "locale");
    check(r#"{"line": "full"}"#, "line");
    check("\"ko\"", "");
}
