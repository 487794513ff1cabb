//! The guide's sample, line by line, out of a real request; and everything that the guide lists at DEBUG.

use std::fs;

use expect_test::{Expect, expect};
use regex::Regex;
use serde_json::{Value, json};

use crate::support::{
    Config, Server, base64, http::Answer, model::Model, nvml::Nvml, picture, repository,
};

const PICTURE: &str = "two-blue-squares-1920x1080.png";
const ID: &str = "a1b2c3d4-0000-4000-8000-000000000000";

/// As long as the guide's prompt: 250 characters.
const PROMPT: &str = "Hello again. Yesterday our team made a report about the new garden and sent it to the \
                      office, but nobody read page 27 very carefully. The weather was good, the coffee was \
                      not. Please note my new address for the next letter. Now, what is in the image?";

/// The request of the guide's sample.
fn ask(server: &Server, more: &[(&str, Value)]) -> Answer {
    let mut body = json!({
        "prompt": PROMPT,
        "image": base64(&picture(PICTURE)),
        "max_tokens": 512,
        "temperature": 0.7,
    });
    for (name, value) in more {
        body[*name] = value.clone();
    }
    let answer = server.post_with("/vision", &[("x-request-id", ID)], &body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("x-request-id"), ID);
    answer
}

/// Lines of requests: those of the server itself have its mark.
fn of_requests(text: &str) -> String {
    text.split_inclusive('\n').filter(|it| !it.contains(" - ℹ️ ")).collect()
}

/// The text with each match of each pattern replaced.
fn replaced(text: &str, patterns: &[(&str, &str)]) -> String {
    patterns.iter().fold(text.to_owned(), |text, (pattern, by)| {
        Regex::new(pattern).unwrap().replace_all(&text, *by).into_owned()
    })
}

/// Times of day, of which nothing is known but their form.
const TIMES: [(&str, &str); 3] = [
    (r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - ", "TIME - "),
    (r"(?m): \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}$", ": TIME.MS"),
    (r"(?m)(총 소요 시간|Total time): \d+\.\d{3}(초|s)$", "$1: SECONDS$2"),
];

/// The sample with the numbers of this answer in place of those of the guide's.
fn sample(locale: &str, answer: &Value) -> String {
    let file = repository("tests/fixtures/guide").join(format!("sample.{locale}.log"));
    let response = answer["response"].as_str().unwrap();
    let count = response.chars().count();
    let preview: String = match count {
        ..=100 => response.to_owned(),
        _ => {
            let unit = if locale == "ko" { "자" } else { " chars" };
            let head: String = response.chars().take(100).collect();
            format!("{head}…(+{}{unit})", count - 100)
        }
    };
    let timings = &answer["timings"];
    let numbers = [
        (r"(길이|length): 342", format!("$1: {count}")),
        (r"(미리보기|preview): .*", format!("$1: {}", preview.replace('$', "$$"))),
        (r"generation_ms: 1850", format!("generation_ms: {}", timings["generation_ms"])),
        (r"generated: 145", format!("generated: {}", answer["usage"]["completion_tokens"])),
        (
            r"second: 78\.4",
            format!("second: {:.1}", timings["tokens_per_second"].as_f64().unwrap()),
        ),
    ];
    let numbers: Vec<(&str, &str)> = numbers.iter().map(|(it, by)| (*it, by.as_str())).collect();
    replaced(&replaced(&fs::read_to_string(file).unwrap(), &TIMES), &numbers)
}

fn check_sample(locale: &str) {
    assert_eq!(PROMPT.chars().count(), 250);
    let nvml = Nvml::build();
    let config = Config::guide()
        .engine(&nvml.line())
        .log(&format!("locale = {locale:?}"))
        .plugin("guide", &format!("config = {{ locale = {locale:?}, lines = \"sample\" }}"));
    let mut server = Server::start(&config);
    let answer = ask(&server, &[]).json();
    server.stop();

    let whole = sample(locale, &answer);
    let (of_engine, of_app): (Vec<&str>, Vec<&str>) =
        whole.split_inclusive('\n').partition(|it| it.contains("🖥️"));
    let written = |text: String| replaced(&of_requests(&text), &TIMES);
    assert_eq!(written(server.stdout()), whole);
    assert_eq!(written(server.read("app.log")), of_app.concat());
    assert_eq!(written(server.read("engine.log")), of_engine.concat());
    assert_eq!(of_engine.len(), 1);
}

#[test]
fn the_sample_is_written_line_by_line_in_korean() {
    check_sample("ko");
}

#[test]
fn the_sample_is_written_line_by_line_in_english() {
    check_sample("en");
}

/// What differs from run to run, or from one training of the demo model to the next.
const NUMBERS: [(&str, &str); 8] = [
    (r"\d+\.\dms", "N.Nms"),
    (r"\b\d+ms", "Nms"),
    (r"tokens_generated: \d+", "tokens_generated: N"),
    (r"tokens_per_second: \d+\.\d\b", "tokens_per_second: N.N"),
    (r"(응답 길이|Response length): \d+", "$1: N"),
    (r"(전체 응답|응답 미리보기|Full response|Response preview): .*", "$1: ANSWER"),
    (r"(Base64 길이|Base64 length|예상 파일 크기|Estimated file size): [\d.]+", "$1: N"),
    (r"host/server/src/[a-z_/]+\.rs:\d+", "host/server/src/FILE.rs:N"),
];

/// The whole console, and that each line of it is in the file of its stream.
fn check_full(config: &Config, variables: &[(&str, &str)], expect: &Expect) {
    let nvml = Nvml::build();
    let mut server = Server::start_with(&config.clone().engine(&nvml.line()), variables);
    let answer =
        ask(&server, &[("prompt", json!("What is in the image?")), ("seed", json!(7))]).json();
    server.stop();
    let console = of_requests(&server.stdout());
    expect.assert_eq(&replaced(&replaced(&console, &TIMES), &NUMBERS));

    let response = answer["response"].as_str().unwrap();
    assert!(console.contains(response), "{console}");
    let (app, engine) =
        (of_requests(&server.read("app.log")), of_requests(&server.read("engine.log")));
    let engines = [
        "GPU 메모리",
        "GPU memory",
        "LoRA",
        "기본 어댑터",
        "Default adapter",
        "첫 토큰",
        "First token",
    ];
    let (of_engine, of_app): (Vec<&str>, Vec<&str>) =
        console.split_inclusive('\n').partition(|line| engines.iter().any(|it| line.contains(it)));
    assert_eq!(app, of_app.concat());
    assert_eq!(engine, of_engine.concat());
}

#[test]
fn info_has_everything_that_the_guide_lists_for_it() {
    check_full(
        &Config::guide(),
        &[],
        &expect![[r#"
            TIME - INFO - 🎯 [a1b2c3d4] ===== 요청 시작: /vision =====
            TIME - INFO - ⏰ [a1b2c3d4] 시작 시각: TIME.MS
            TIME - INFO - 📝 [a1b2c3d4] 프롬프트 길이: 21자
            TIME - INFO - 📝 [a1b2c3d4] 프롬프트 미리보기: What is in the image?
            TIME - INFO - 🖼️ [a1b2c3d4] 이미지 포함: 예
            TIME - INFO - 📐 [a1b2c3d4] 이미지 크기: 1920x1080
            TIME - INFO - 🎨 [a1b2c3d4] 이미지 모드: RGB
            TIME - INFO - ⚙️ [a1b2c3d4] 생성 파라미터:
               - max_tokens: 512
               - temperature: 0.7
               - seed: 7
            TIME - INFO - 🖥️ [a1b2c3d4] GPU 메모리 (생성 전): 15.23GB / 80.00GB (19.0%)
            TIME - INFO - 🖥️ [a1b2c3d4] GPU 메모리 (생성 후): 15.23GB / 80.00GB (19.0%)
            TIME - INFO - 📤 [a1b2c3d4] 응답 길이: N자
            TIME - INFO - 💡 [a1b2c3d4] 응답 미리보기: ANSWER
            TIME - INFO - ⏱️ [a1b2c3d4] 성능 지표:
               - generation_ms: Nms
               - tokens_generated: N
               - tokens_per_second: N.N
               - endpoint_total_ms: Nms
            TIME - INFO - ✅ [a1b2c3d4] ===== 요청 성공 =====
            TIME - INFO - ⏱️ [a1b2c3d4] 총 소요 시간: SECONDS초
        "#]],
    );
}

#[test]
fn debug_has_everything_that_the_guide_lists_for_it() {
    check_full(
        &Config::guide(),
        &[("LOG_LEVEL", "DEBUG")],
        &expect![[r#"
            TIME - INFO - 🎯 [a1b2c3d4] ===== 요청 시작: /vision =====
            TIME - INFO - ⏰ [a1b2c3d4] 시작 시각: TIME.MS
            TIME - INFO - 📝 [a1b2c3d4] 프롬프트 길이: 21자
            TIME - INFO - 📝 [a1b2c3d4] 프롬프트 미리보기: What is in the image?
            TIME - INFO - 🖼️ [a1b2c3d4] 이미지 포함: 예
            TIME - DEBUG - 📝 [a1b2c3d4] 전체 프롬프트: What is in the image?
            TIME - DEBUG - 🔖 [a1b2c3d4] 비전 태그: 예
            TIME - DEBUG - 📚 [a1b2c3d4] 호출 스택: host/server/src/FILE.rs:N /vision -> generate -> engine
            TIME - INFO - 📐 [a1b2c3d4] 이미지 크기: 1920x1080
            TIME - INFO - 🎨 [a1b2c3d4] 이미지 모드: RGB
            TIME - DEBUG - 🔢 [a1b2c3d4] Base64 길이: N자
            TIME - DEBUG - 💾 [a1b2c3d4] 예상 파일 크기: NKB
            TIME - DEBUG - ⏳ [a1b2c3d4] 디코드 시간: N.Nms
            TIME - DEBUG - 🧠 [a1b2c3d4] 멀티모달 처리: 성공
            TIME - INFO - ⚙️ [a1b2c3d4] 생성 파라미터:
               - max_tokens: 512
               - temperature: 0.7
               - seed: 7
            TIME - DEBUG - 🧩 [a1b2c3d4] 요청된 LoRA 어댑터: 없음
            TIME - DEBUG - 🧩 [a1b2c3d4] 기본 어댑터 사용: 예
            TIME - INFO - 🖥️ [a1b2c3d4] GPU 메모리 (생성 전): 15.23GB / 80.00GB (19.0%)
            TIME - DEBUG - ⏳ [a1b2c3d4] 첫 토큰: N.Nms (대기 N.Nms, 프리필 N.Nms)
            TIME - INFO - 🖥️ [a1b2c3d4] GPU 메모리 (생성 후): 15.23GB / 80.00GB (19.0%)
            TIME - INFO - 📤 [a1b2c3d4] 응답 길이: N자
            TIME - INFO - 💡 [a1b2c3d4] 응답 미리보기: ANSWER
            TIME - DEBUG - 💬 [a1b2c3d4] 전체 응답: ANSWER
            TIME - INFO - ⏱️ [a1b2c3d4] 성능 지표:
               - generation_ms: Nms
               - tokens_generated: N
               - tokens_per_second: N.N
               - endpoint_total_ms: Nms
            TIME - DEBUG - ⏱️ [a1b2c3d4] 상세 타이밍:
               - queue_ms: N.Nms
               - prefill_ms: N.Nms
               - decode_ms: N.Nms
               - endpoint_total_ms: Nms
            TIME - INFO - ✅ [a1b2c3d4] ===== 요청 성공 =====
            TIME - INFO - ⏱️ [a1b2c3d4] 총 소요 시간: SECONDS초
        "#]],
    );
}

#[test]
fn debug_in_english_has_the_same_lines() {
    check_full(
        &Config::guide().log("locale = \"en\"").plugin("guide", "config = { locale = \"en\" }"),
        &[("LOG_LEVEL", "DEBUG")],
        &expect![[r#"
            TIME - INFO - 🎯 [a1b2c3d4] ===== Request started: /vision =====
            TIME - INFO - ⏰ [a1b2c3d4] Start time: TIME.MS
            TIME - INFO - 📝 [a1b2c3d4] Prompt length: 21 chars
            TIME - INFO - 📝 [a1b2c3d4] Prompt preview: What is in the image?
            TIME - INFO - 🖼️ [a1b2c3d4] Image included: yes
            TIME - DEBUG - 📝 [a1b2c3d4] Full prompt: What is in the image?
            TIME - DEBUG - 🔖 [a1b2c3d4] Vision tag: yes
            TIME - DEBUG - 📚 [a1b2c3d4] Call stack: host/server/src/FILE.rs:N /vision -> generate -> engine
            TIME - INFO - 📐 [a1b2c3d4] Image size: 1920x1080
            TIME - INFO - 🎨 [a1b2c3d4] Image mode: RGB
            TIME - DEBUG - 🔢 [a1b2c3d4] Base64 length: N chars
            TIME - DEBUG - 💾 [a1b2c3d4] Estimated file size: NKB
            TIME - DEBUG - ⏳ [a1b2c3d4] Decode time: N.Nms
            TIME - DEBUG - 🧠 [a1b2c3d4] Multimodal processing: success
            TIME - INFO - ⚙️ [a1b2c3d4] Generation parameters:
               - max_tokens: 512
               - temperature: 0.7
               - seed: 7
            TIME - DEBUG - 🧩 [a1b2c3d4] Requested LoRA adapter: none
            TIME - DEBUG - 🧩 [a1b2c3d4] Default adapter used: yes
            TIME - INFO - 🖥️ [a1b2c3d4] GPU memory (before generation): 15.23GB / 80.00GB (19.0%)
            TIME - DEBUG - ⏳ [a1b2c3d4] First token: N.Nms (queue N.Nms, prefill N.Nms)
            TIME - INFO - 🖥️ [a1b2c3d4] GPU memory (after generation): 15.23GB / 80.00GB (19.0%)
            TIME - INFO - 📤 [a1b2c3d4] Response length: N chars
            TIME - INFO - 💡 [a1b2c3d4] Response preview: ANSWER
            TIME - DEBUG - 💬 [a1b2c3d4] Full response: ANSWER
            TIME - INFO - ⏱️ [a1b2c3d4] Performance metrics:
               - generation_ms: Nms
               - tokens_generated: N
               - tokens_per_second: N.N
               - endpoint_total_ms: Nms
            TIME - DEBUG - ⏱️ [a1b2c3d4] Detailed timing:
               - queue_ms: N.Nms
               - prefill_ms: N.Nms
               - decode_ms: N.Nms
               - endpoint_total_ms: Nms
            TIME - INFO - ✅ [a1b2c3d4] ===== Request succeeded =====
            TIME - INFO - ⏱️ [a1b2c3d4] Total time: SECONDSs
        "#]],
    );
}

#[test]
fn the_four_scenarios_of_the_guide_find_their_fields() {
    let config = Config::guide().with_adapter().log("level = \"DEBUG\"");
    let mut server = Server::start(&config);
    let bytes = picture("three-red-circles.png");
    let image = base64(&bytes);
    let ask = |more: Value| {
        let mut body = json!({"prompt": "Describe the image as JSON.", "image": image});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        server.post("/vision", &body)
    };
    let plain = ask(json!({"response_format": {"type": "json_object"}}));
    let bad = ask(json!({"image": "!!!"}));
    let korean = ask(json!({"adapter": "demo-ko"}));
    let nobody = ask(json!({"adapter": "nobody"}));
    let long = ask(json!({"prompt": "가".repeat(700), "max_tokens": 1}));
    let cut = ask(json!({"response_format": {"type": "json_object"}, "max_tokens": 4}));
    server.stop();

    let console = server.stdout();
    let check = |answer: &Answer, status: u16, lines: &[&str]| {
        assert_eq!(answer.status, status, "{}", answer.text);
        let short = answer.id()[..8].to_owned();
        for line in lines {
            let (level, rest) = line.split_once(' ').unwrap();
            let (mark, text) = rest.split_once(' ').unwrap();
            let end = format!(" - {level} - {mark} [{short}] {text}");
            assert!(console.lines().any(|it| it.ends_with(&end)), "no {end:?} in {console}");
        }
    };
    let (length, size) = (image.len(), bytes.len() as f64 / 1024.0);
    check(
        &plain,
        200,
        &[
            "INFO 📐 이미지 크기: 320x180",
            &format!("DEBUG 🔢 Base64 길이: {length}자"),
            &format!("DEBUG 💾 예상 파일 크기: {size:.1}KB"),
            "DEBUG 🔖 비전 태그: 예",
            "DEBUG 🧠 멀티모달 처리: 성공",
            "DEBUG 🧾 JSON 파싱 결과: 성공 (기대: object, 키: object,color,count)",
        ],
    );
    check(
        &bad,
        400,
        &[
            "WARNING 🧠 멀티모달 처리: 실패 (image_not_base64)",
            "WARNING ⛔ ===== 요청 거부: 400 image_not_base64 =====",
        ],
    );
    check(
        &korean,
        200,
        &[
            "INFO 🧩 요청된 LoRA 어댑터: demo-ko",
            "INFO 🧩 기본 어댑터 사용: 아니오",
            "INFO 🧩 LoRA 설정 성공: demo-ko",
        ],
    );
    check(&nobody, 404, &["WARNING 🧩 요청된 LoRA 어댑터: nobody", "WARNING 🧩 LoRA 설정 실패"]);
    check(
        &long,
        200,
        &[
            "INFO 📝 프롬프트 길이: 700자",
            &format!("INFO 📝 프롬프트 미리보기: {}…(+600자)", "가".repeat(100)),
            &format!("DEBUG 📝 전체 프롬프트: {}…(+200자)", "가".repeat(500)),
        ],
    );
    let so_far = cut.json()["response"].as_str().unwrap().len();
    let line = format!("WARNING 🧾 JSON 파싱 결과: 잘림 (기대: object, 오류 위치: {so_far})");
    check(&cut, 200, &[&line]);
}

#[test]
fn an_error_has_a_stack_trace_at_debug_and_only_there() {
    let model = Model::faulty();
    for (level, traced) in [("INFO", false), ("DEBUG", true)] {
        let config = Config::default().engine(&model.lines()).file("app", "guide", "");
        let mut server = Server::start_with(&config, &[("LOG_LEVEL", level)]);
        assert_eq!(server.chat("~", &json!({})).status, 500);
        server.stop();
        let log = server.read("app.log");
        assert!(log.contains(" - ERROR - ❌ ["), "{log}");
        assert_eq!(log.contains("스택 트레이스:\n   "), traced, "{log}");
    }
}
