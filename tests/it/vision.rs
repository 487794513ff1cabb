//! `/vision`: the demo model's answers are right, and images are limited before they are decoded.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Config, Server, base64, picture, records, repository};

#[test]
fn every_picture_gets_the_answer_of_the_reference() {
    let golden = fs::read(repository("examples/demo-model/golden.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let mut server = Server::start(&Config::json());
    let (mut asked, mut pictures) = (0, 0);
    for described in golden["pictures"].as_array().unwrap() {
        let file = described["file"].as_str().unwrap();
        let image = base64(&fs::read(repository("examples/demo-model").join(file)).unwrap());
        pictures += 1;
        let cases = golden["cases"].as_array().unwrap().iter();
        // A case with a system message is a chat's.
        let of_prompt = |it: &&Value| it["messages"].as_array().is_some_and(|it| it.len() == 1);
        for case in cases.filter(|it| it["picture"] == file).filter(of_prompt) {
            let parts = case["messages"][0]["content"].as_array().unwrap();
            let question = parts.iter().find_map(|it| it["text"].as_str()).unwrap();
            let body =
                json!({"prompt": question, "image": image, "temperature": 0, "max_tokens": 64});
            let answer = server.post("/vision", &body);
            assert_eq!(answer.status, 200, "{file} {question}: {}", answer.text);
            let answer = answer.json();
            assert_eq!(answer["response"], case["base"]["answer"], "{file}: {question}");
            assert_eq!(answer["image"]["width"], described["width"], "{file}");
            assert_eq!(answer["image"]["height"], described["height"], "{file}");
            asked += 1;
        }
    }
    server.stop();
    assert!(pictures >= 5 && asked >= 5 * pictures, "{pictures} pictures, {asked} questions");
}

#[test]
fn an_image_is_a_body_or_base64_or_a_data_url() {
    let mut server = Server::start(&Config::json().log("level = \"DEBUG\""));
    let bytes = picture("three-red-circles.png");
    let question = "What color is it?";
    let raw = |path: &str, kind: &str| server.send("POST", path, &[("content-type", kind)], &bytes);
    let by_body = raw("/vision?prompt=What%20color%20is%20it%3F&max_tokens=64", "image/png");
    assert_eq!(by_body.status, 200, "{}", by_body.text);
    let by_json = |image: String| {
        let answer = server.post("/vision", &json!({"prompt": question, "image": image}));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let plain = by_json(base64(&bytes));
    let url = by_json(format!("data:image/png;base64,{}", base64(&bytes)));
    let wrapped = by_json(
        base64(&bytes)
            .as_bytes()
            .chunks(76)
            .fold(String::new(), |text, line| text + std::str::from_utf8(line).unwrap() + "\n"),
    );
    let expected = by_body.json();
    assert_eq!(expected["response"], "The circles are red.");
    assert_eq!(expected["image"], json!({"width": 320, "height": 180, "mode": "RGB"}));
    for other in [plain, url, wrapped] {
        assert_eq!(other["response"], expected["response"]);
        assert_eq!(other["image"], expected["image"]);
    }
    // Without a picture it is a chat; with several they are counted.
    let none = server.post("/vision", &json!({"prompt": "Hello!"}));
    assert_eq!(none.status, 200, "{}", none.text);
    assert_eq!(none.json().get("image"), None);
    let two = json!({"prompt": question, "images": [base64(&bytes), base64(&bytes)]});
    assert_eq!(server.post("/vision", &two).json()["images"].as_array().map(Vec::len), Some(2));
    assert_eq!(raw("/vision", "image/png").json()["error"]["param"], "prompt");
    server.stop();

    // A file that came as it is has no base64 to count; the others are as long as what was sent.
    let records = records(&server.read("json.log"));
    let sizes: Vec<(Option<u64>, Option<u64>)> = records
        .iter()
        .filter(|it| it["event_name"] == "request.image" && it["severity_text"] == "DEBUG")
        .map(|it| &it["attributes"])
        .map(|it| (it["bucksaw.image.base64_chars"].as_u64(), it["bucksaw.image.bytes"].as_u64()))
        .take(2)
        .collect();
    let size = bytes.len() as u64;
    assert_eq!(sizes, [(None, Some(size)), (Some(size.div_ceil(3) * 4), Some(size))]);
}

/// A PNG of which nothing is there but a header that claims a size.
fn claim(width: u32, height: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend(width.to_be_bytes());
    png.extend(height.to_be_bytes());
    png.extend([8, 2, 0, 0, 0]);
    let crc = crc32(&png[12..]);
    png.extend(crc.to_be_bytes());
    // An empty IDAT and the end, so that it is the size and nothing else that is wrong.
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
    png
}

/// As PNG has it (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xedb8_8320 }
        })
    })
}

#[test]
fn a_bad_image_is_refused_with_its_reason() {
    let mut server = Server::start(&Config::json().server("image_megapixels = 3\nimages = 2"));
    let check = |image: Value, code: &str, param: &str| {
        let answer = server.post("/vision", &json!({"prompt": "x", "image": image}));
        assert_eq!(answer.status, 400, "{}", answer.text);
        let error = &answer.json()["error"];
        assert_eq!(error["code"], code, "{error}");
        assert_eq!(error["param"], param, "{error}");
        error["message"].as_str().unwrap().to_owned()
    };
    let good = picture("three-red-circles.png");
    // 400 million pixels in 57 bytes: refused by the header, since nothing else is there.
    let message = check(json!(base64(&claim(20_000, 20_000))), "image_too_large", "image");
    assert!(message.contains("20000x20000") && message.contains("3000000"), "{message}");
    check(json!(base64(&claim(u32::MAX, u32::MAX))), "image_too_large", "image");
    // Within the limit, so it is decoded, and found to hold no pixels.
    let message = check(json!(base64(&claim(16, 16))), "image_undecodable", "image");
    assert!(message.contains("PNG"), "{message}");
    check(json!(base64(&good[..good.len() / 2])), "image_truncated", "image");
    check(json!(base64(b"no image at all")), "image_unknown_format", "image");
    check(json!(""), "image_empty", "image");
    check(json!("@@@@"), "image_not_base64", "image");
    check(json!("http://127.0.0.1/cat.png"), "image_remote", "image");
    check(json!("file:///etc/passwd"), "image_remote", "image");
    check(json!(["a"]), "invalid_value", "image");
    let three = json!({"prompt": "x", "images": ["a", "b", "c"]});
    assert_eq!(server.post("/vision", &three).json()["error"]["param"], "images");
    server.stop();
    let records = records(&server.read("json.log"));
    let failed: Vec<&Value> = records
        .iter()
        .filter(|it| it["event_name"] == "request.image")
        .map(|it| &it["attributes"])
        .collect();
    // The size that was claimed is in the log, and so is the reason.
    assert_eq!(failed[0]["bucksaw.multimodal.status"], "failed");
    assert_eq!(failed[0]["bucksaw.image.width"], 20_000);
    assert_eq!(failed[0]["error.type"], "image_too_large");
    assert!(failed.iter().all(|it| it["bucksaw.multimodal.status"] == "failed"), "{failed:?}");
}
