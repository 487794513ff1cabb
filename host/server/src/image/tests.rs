use super::*;

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn base64(bytes: &[u8]) -> Encoded {
    Encoded::Base64(BASE64.encode(bytes))
}

#[test]
fn size_format_and_mode_are_the_files_own() {
    let check = |image: DynamicImage, format: ImageFormat, mode: &str| {
        let file = encode(&image, format);
        let name = format_name(format).unwrap();
        let decoded = decode(base64(&file), &Limits::default()).unwrap();
        let facts = &decoded.facts;
        assert_eq!((facts.width, facts.height), (5, 3), "{name} {mode}");
        assert_eq!((facts.format, facts.mode), (name, mode));
        assert_eq!(facts.bytes, file.len());
        assert_eq!(facts.base64_chars, Some(file.len().div_ceil(3) * 4));
        assert_eq!((decoded.image.width(), decoded.image.height()), (5, 3));
    };
    let red = || {
        let pixels = [200, 30, 40, 255].repeat(15);
        DynamicImage::ImageRgba8(::image::RgbaImage::from_raw(5, 3, pixels).unwrap())
    };
    check(DynamicImage::new_luma8(5, 3), ImageFormat::Png, "L");
    check(DynamicImage::new_luma_a8(5, 3), ImageFormat::Png, "LA");
    check(DynamicImage::new_rgb8(5, 3), ImageFormat::Png, "RGB");
    check(DynamicImage::new_rgba8(5, 3), ImageFormat::Png, "RGBA");
    check(DynamicImage::new_luma16(5, 3), ImageFormat::Png, "I;16");
    check(DynamicImage::new_rgb16(5, 3), ImageFormat::Png, "RGB");
    check(DynamicImage::new_luma8(5, 3), ImageFormat::Jpeg, "L");
    check(DynamicImage::new_rgb8(5, 3), ImageFormat::Jpeg, "RGB");
    check(red(), ImageFormat::Gif, "P");
    check(red(), ImageFormat::WebP, "RGBA");
    check(DynamicImage::new_rgb8(5, 3), ImageFormat::WebP, "RGB");
    check(DynamicImage::new_rgb8(5, 3), ImageFormat::Bmp, "RGB");
    check(DynamicImage::new_luma8(5, 3), ImageFormat::Tiff, "L");
    check(DynamicImage::new_rgb8(5, 3), ImageFormat::Tiff, "RGB");
}

#[test]
fn a_bad_image_says_what_is_wrong_with_it() {
    let png = encode(&DynamicImage::new_rgb8(64, 64), ImageFormat::Png);
    let jpeg = encode(&DynamicImage::new_rgb8(64, 64), ImageFormat::Jpeg);
    let small = Limits { image_pixels: 4095, ..Limits::default() };
    let tight = Limits { image_bytes: 10, ..Limits::default() };
    let normal = Limits::default();
    let check = |encoded: Encoded, limits: &Limits, code: &str, text: &str| {
        let error = decode(encoded, limits).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, text));
    };
    let text = |it: &str| Encoded::Base64(it.to_owned());
    check(text("aGVs bG8*"), &normal, "image_not_base64", "not base64 at byte 8");
    check(text("aGVsb"), &normal, "image_not_base64", "the base64 breaks off after 5 characters");
    check(text(""), &normal, "image_empty", "the image is empty");
    check(
        text("aGVsbG8="),
        &normal,
        "image_unknown_format",
        "unknown image format: send png, jpeg, gif, webp, bmp or tiff",
    );
    check(
        base64(&png),
        &small,
        "image_too_large",
        "the image has 64x64 pixels, over the limit of 4095: send a smaller one",
    );
    check(
        Encoded::Raw(vec![0; 11]),
        &tight,
        "image_too_large",
        "the image has 11 bytes, over the limit of 10: send a smaller one",
    );
    let half = |file: &[u8]| base64(&file[..file.len() / 2]);
    check(half(&png), &normal, "image_truncated", "the PNG file is truncated");
    let most = Encoded::Raw(jpeg[..jpeg.len() - 2].to_vec());
    check(most, &normal, "image_truncated", "the JPEG file is truncated");
}

#[test]
fn a_url_is_a_data_url_or_nothing() {
    let check = |text: &str, expected: Result<&str, &str>| {
        let got = Encoded::from_text(text.to_owned(), &Limits::default());
        let got = got.as_ref().map_err(ImageError::code).map(|it| match it {
            Encoded::Base64(text) => text.as_str(),
            Encoded::Raw(_) => "raw",
            Encoded::Remote(_) => "remote",
        });
        assert_eq!(got, expected, "{text}");
    };
    check("data:image/png;base64,aGk=", Ok("aGk="));
    check("DATA:;BASE64,aGk=", Ok("aGk="));
    check("aGk=", Ok("aGk="));
    check("data:image/png,aGk=", Err("image_not_base64"));
    check("data:image/png;base64", Err("image_not_base64"));
    check("https://example.com/cat.png", Err("image_remote"));
    check("file:///etc/passwd", Err("image_remote"));
}

#[test]
fn line_ends_in_base64_are_no_part_of_it() {
    let png = encode(&DynamicImage::new_rgb8(5, 3), ImageFormat::Png);
    let text = BASE64.encode(&png);
    let lines: Vec<_> = text.as_bytes().chunks(20).map(String::from_utf8_lossy).collect();
    let decoded = decode(Encoded::Base64(lines.join("\r\n")), &Limits::default()).unwrap();
    assert_eq!(decoded.facts.base64_chars, Some(text.len()));
    assert_eq!(decoded.facts.bytes, png.len());
}

#[tokio::test]
async fn a_permit_is_given_back_when_the_work_is_over() {
    let permits = Arc::new(Semaphore::new(1));
    for _ in 0..2 {
        let result = decode_aside(Encoded::Raw(Vec::new()), &Limits::default(), &permits).await;
        assert!(matches!(result, Err(ImageError::Empty)));
    }
}
