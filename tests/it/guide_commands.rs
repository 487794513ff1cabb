//! The analysis commands of the guide, on what a real server wrote.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::json;

use crate::support::{Config, Server, base64, eventually, model::Model, nvml::Nvml, picture};

/// The lines that the real grep finds.
fn grep(pattern: &str, path: &Path) -> Vec<String> {
    let output = Command::new("grep").arg(pattern).arg(path).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn count(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|it| it.contains(part)).count()
}

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn each_command_finds_what_the_guide_promises() {
    let (model, nvml) = (Model::faulty(), Nvml::build());
    let config = Config::guide().engine(&model.lines()).engine(&nvml.line());
    let mut server = Server::start(&config);
    let good = server.post(
        "/vision",
        &json!({"prompt": "What is it?", "image": base64(&picture("digit-four.png"))}),
    );
    assert_eq!(good.status, 200, "{}", good.text);
    let failed = server.chat("~", &json!({}));
    assert_eq!(failed.status, 500, "{}", failed.text);
    let rejected = server.chat("hello", &json!({"model": "nobody"}));
    assert_eq!(rejected.status, 404, "{}", rejected.text);
    server.stop();
    let (app, engine) = (server.path("app.log"), server.path("engine.log"));
    let short = |id: String| id[..8].to_owned();
    let (good, failed, rejected) = (short(good.id()), short(failed.id()), short(rejected.id()));

    // 1. One request: every line of it, and no line of another one. (Lists continue without an id.)
    let lines = grep(&good, &app);
    assert!(lines.iter().all(|it| it.contains(&format!("[{good}] "))), "{lines:#?}");
    assert!(lines[0].contains("===== 요청 시작: /vision ====="), "{lines:#?}");
    assert!(lines.last().unwrap().contains("총 소요 시간: "), "{lines:#?}");
    assert_eq!(lines.len(), 13, "{lines:#?}");

    // 2. Errors only: a request that the server failed, and none that it rejected.
    let lines = grep("ERROR", &app);
    assert_eq!(lines, grep("❌", &app));
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines.iter().all(|it| it.contains(&failed) && it.contains(" - ERROR - ❌ ")));
    assert!(lines[0].ends_with("===== 요청 실패: internal ====="), "{lines:#?}");
    let lines = grep("⛔", &app);
    assert_eq!(count(&lines, &rejected), 2, "{lines:#?}");
    assert_eq!(count(&lines, " - WARNING - "), 2, "{lines:#?}");

    // 3. The title of the metrics; their numbers are on the lines behind it.
    let lines = grep("성능 지표", &app);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].ends_with("성능 지표:"), "{lines:#?}");

    // 4. GPU memory: in the engine's file, before and after each generation. The one that failed never came that far.
    let lines = grep("GPU 메모리", &engine);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert_eq!(count(&lines, "GPU 메모리 (생성 전): 15.23GB / 80.00GB (19.0%)"), 1, "{lines:#?}");
    assert_eq!(count(&lines, &good), 2, "{lines:#?}");
    assert_eq!(grep("GPU 메모리", &app), Vec::<String>::new());
}

#[test]
fn metrics_on_one_line_are_found_with_their_numbers() {
    let config = Config::guide().plugin("guide", "config = { metrics = \"line\" }");
    let mut server = Server::start(&config);
    let answer = server.chat("Hello!", &json!({"max_tokens": 3}));
    server.stop();
    let lines = grep("성능 지표", &server.path("app.log"));
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let tokens = format!(" tokens_generated={} ", answer.json()["usage"]["completion_tokens"]);
    for part in ["성능 지표: generation_ms=", &tokens, " tokens_per_second=", " endpoint_total_ms="]
    {
        assert!(lines[0].contains(part), "no {part:?} in {lines:#?}");
    }
    // So a request's own lines hold all that there is of it.
    let all = server.read("app.log");
    let own = grep(&answer.id()[..8], &server.path("app.log"));
    let others = all.lines().filter(|it| it.contains(" - ℹ️ ")).count();
    assert_eq!(own.len() + others, all.lines().count(), "{all}");
}

#[test]
fn tail_shows_a_line_as_soon_as_it_is_written() {
    let model = Model::faulty();
    let server = Server::start(&Config::guide().engine(&model.lines()));
    let seen = server.path("seen");
    let mut tail = Running(
        Command::new("tail")
            .arg("-f")
            .arg(server.path("app.log"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    // The guide's alert script, without the mail.
    let _grep = Running(
        Command::new("grep")
            .args(["--line-buffered", "-e", "ERROR", "-e", "listening"])
            .stdin(tail.0.stdout.take().unwrap())
            .stdout(File::create(&seen).unwrap())
            .spawn()
            .unwrap(),
    );
    let shows = |part: &str| {
        eventually(part, || fs::read_to_string(&seen).ok().filter(|it| it.contains(part)));
    };
    shows("listening on http://");
    let answer = server.chat("~", &json!({}));
    assert_eq!(answer.status, 500, "{}", answer.text);
    // The server is still up: nothing was written because it ended.
    shows(&format!("❌ [{}] ===== 요청 실패: internal =====", &answer.id()[..8]));
}
