//! What is asked beside others, in pieces, or in little room is answered as it would be alone.

use std::sync::Arc;

use ::image::DynamicImage;

use super::{config, content, finish, job};
use crate::{Config, Event, Job, Part, Stats, start};

fn chat(model: &str, text: &str, images: &[&Arc<DynamicImage>], tokens: usize) -> Job {
    let mut job = job(model, text);
    job.sampling.max_tokens = Some(tokens);
    let content = content(&mut job);
    content.extend(images.iter().map(|image| Part::Image(Arc::clone(image))));
    job
}

/// Each job's text by itself and with all of them at once; and how that went.
fn alone_and_together(jobs: &[Job], alone: Config, together: Config) -> ([Vec<String>; 2], Stats) {
    let alone = start(Config { max_num_seqs: Some(1), prefix_caching: false, ..alone }).unwrap();
    let one = |job: &Job| finish(alone.submit(job.clone()).unwrap()).0;
    let expected = jobs.iter().map(one).collect();
    let together = start(Config { queue: jobs.len(), ..together }).unwrap();
    let running: Vec<_> = jobs.iter().map(|job| together.submit(job.clone()).unwrap()).collect();
    let found = running.into_iter().map(|events| finish(events).0).collect();
    ([expected, found], together.handle().stats())
}

#[test]
fn company_changes_no_text() {
    let texts = ["hello", "a longer question, which is read in pieces", "a longer answer", "why?"];
    let served = ["llama", "llama-lora", "llama-lora-b"];
    let jobs: Vec<Job> =
        (0..24).map(|at| chat(served[at % 3], texts[at / 3 % 4], &[], 6 + at / 3)).collect();
    let config = || config("llama", &served[1..]);
    let small_steps = Config { max_num_batched_tokens: Some(24), ..config() };
    let ([expected, found], stats) = alone_and_together(&jobs, config(), small_steps);
    assert_eq!(found, expected);
    assert!(stats.steps < stats.output_tokens, "nobody moved on together");
    assert!(stats.prefix_hits > 0);
    // The same question to each.
    let answers = [&found[12], &found[13], &found[14]];
    assert!(answers[0] != answers[1] && answers[1] != answers[2] && answers[0] != answers[2]);
}

#[test]
fn company_changes_no_picture() {
    let picture = |level: u8| {
        let pixels = ::image::RgbImage::from_fn(40, 30, |x, y| {
            ::image::Rgb([level, (x * 6) as u8, (y * 8) as u8])
        });
        Arc::new(DynamicImage::ImageRgb8(pixels))
    };
    let (red, dark) = (picture(250), picture(10));
    let jobs = [
        chat("llava", "what is it?", &[&red], 12),
        chat("llava", "what is it?", &[&dark], 12),
        chat("llava", "what is it?", &[&red], 12),
        chat("llava", "which is darker?", &[&red, &dark], 12),
        chat("llava", "no picture", &[], 12),
    ];
    // Pieces end within pictures.
    let small_steps = Config { max_num_batched_tokens: Some(10), ..config("llava", &[]) };
    let ([expected, found], _) = alone_and_together(&jobs, config("llava", &[]), small_steps);
    assert_eq!(found, expected);
    assert_ne!(found[0], found[1]);
}

/// A picture of this size whose colours depend on `level`.
fn sized(level: u32, width: u32, height: u32) -> Arc<DynamicImage> {
    let pixel = |x: u32, y: u32| ::image::Rgb([level, x * 6 + level, y * 8].map(|it| it as u8));
    Arc::new(DynamicImage::ImageRgb8(::image::RgbImage::from_fn(width, height, pixel)))
}

#[test]
fn images_of_any_size_become_as_many_tokens_as_they_need() {
    let engine = start(config("qwen3-vl", &[])).unwrap();
    for (sizes, tokens) in [
        (vec![], 0),
        (vec![(32, 32)], 16),
        (vec![(56, 24)], 21),
        (vec![(16, 40), (32, 24)], 22),
        (vec![(9, 9)], 4),
        (vec![(200, 150)], 54),
    ] {
        let pictures: Vec<_> =
            sizes.iter().map(|(width, height)| sized(7, *width, *height)).collect();
        let job = chat("qwen3-vl", "what is it?", &pictures.iter().collect::<Vec<_>>(), 4);
        let (_, finished) = finish(engine.submit(job).unwrap());
        assert_eq!(finished.image_tokens, tokens, "{sizes:?}");
        assert!(finished.input_tokens > tokens, "{sizes:?}");
    }
    let (thin, large) = (sized(7, 1, 500), sized(7, 64, 64));
    for (pictures, expected) in [(vec![&thin], "bad_image"), (vec![&large; 9], "prompt_too_long")] {
        let mut events = engine.submit(chat("qwen3-vl", "look", &pictures, 4)).unwrap();
        let Some(Event::Failed(error)) = events.blocking_recv() else { panic!("it was taken") };
        assert_eq!((error.error_type(), error.is_client_error()), (expected, true));
    }
}

#[test]
fn images_are_shrunk_to_the_tokens_that_they_may_have() {
    let engine = start(Config { image_tokens: Some(16), ..config("qwen3-vl", &[]) }).unwrap();
    for (width, height, tokens) in [(32, 32, 16), (64, 64, 16), (200, 150, 12), (9, 9, 4)] {
        let picture = sized(7, width, height);
        let job = chat("qwen3-vl", "what is it?", &[&picture], 4);
        let (_, finished) = finish(engine.submit(job).unwrap());
        assert_eq!(finished.image_tokens, tokens, "{width} x {height}");
    }
}

#[test]
fn company_changes_no_picture_of_any_size() {
    let (square, wide, high) = (sized(250, 40, 40), sized(10, 56, 24), sized(90, 30, 77));
    let ask = |text: &str, pictures: &[&Arc<DynamicImage>]| {
        let mut job = chat("qwen3-vl", text, pictures, 70);
        job.sampling.ignore_eos = true;
        job
    };
    let jobs = [
        ask("what is it?", &[&square]),
        ask("what is it?", &[&wide]),
        ask("what is it?", &[&square]),
        ask("which is larger?", &[&high, &square]),
        ask("no picture", &[]),
        ask("no picture, and a longer question", &[]),
    ];
    let plain = || config("qwen3-vl", &[]);
    // Pieces end within pictures.
    let small_steps = Config { max_num_batched_tokens: Some(10), ..plain() };
    let ([expected, found], _) = alone_and_together(&jobs, plain(), small_steps);
    assert_eq!(found, expected);
    // Who comes back after a while has its pictures looked at again.
    let small_cache = Config { kv_cache_bytes: Some(1), ..plain() };
    let ([expected, found], stats) = alone_and_together(&jobs, plain(), small_cache);
    assert_eq!(found, expected);
    assert!(stats.preemptions > 0, "nobody was preempted: the test tests nothing");
}

#[test]
fn a_picture_seen_before_is_not_read_again() {
    let (one, other) = (sized(250, 72, 56), sized(10, 72, 56));
    let ask = |picture: &Arc<DynamicImage>, question: &str| {
        let mut job = chat("qwen3-vl", "here is a picture:", &[picture], 12);
        let text =
            format!("now, with this picture before you, answer as well as you can: {question}");
        content(&mut job).push(Part::Text(text));
        job
    };
    let caching = start(config("qwen3-vl", &[])).unwrap();
    let plain = Config { prefix_caching: false, ..config("qwen3-vl", &[]) };
    let plain = start(plain).unwrap();
    let say = |job: Job| {
        let (text, finished) = finish(caching.submit(job.clone()).unwrap());
        assert_eq!(text, finish(plain.submit(job).unwrap()).0);
        assert_eq!(finished.image_tokens, 63);
        finished.cached_tokens
    };
    assert_eq!(say(ask(&one, "what is to be seen?")), 0);
    // What comes after the picture is there as well.
    assert!(say(ask(&one, "what is to be seen?")) >= 80);
    assert!(say(ask(&one, "how many are there?")) >= 80);
    // Another picture of the same size is another one.
    assert!(say(ask(&other, "what is to be seen?")) < 32);
}

#[test]
fn a_small_cache_changes_no_text() {
    let jobs: Vec<Job> =
        (0..6).map(|at| chat("llama", &format!("question {at}"), &[], 90)).collect();
    let small = Config { kv_cache_bytes: Some(128 << 10), ..config("llama", &[]) };
    let ([expected, found], stats) = alone_and_together(&jobs, config("llama", &[]), small);
    assert_eq!(found, expected);
    assert!(stats.preemptions > 0, "nobody was preempted: the test tests nothing");
}

#[test]
fn a_model_that_reads_one_text_at_a_time_serves_everybody() {
    let jobs: Vec<Job> =
        (0..6).map(|at| chat("gemma", &format!("the same question {}", at % 2), &[], 20)).collect();
    let small_steps = Config { max_num_batched_tokens: Some(8), ..config("gemma", &[]) };
    let ([expected, found], stats) = alone_and_together(&jobs, config("gemma", &[]), small_steps);
    assert_eq!(found, expected);
    assert_ne!(found[0], found[1]);
    assert_eq!((stats.prefix_hits, stats.preemptions), (0, 0));
}
