//! Images between the steps, with the fixture of Qwen3-VL.

use std::{path::Path, sync::Arc};

use ::image::{DynamicImage, Rgb, RgbImage};
use candle_core::Device;

use super::{Rig, all};
use crate::{
    EngineError, Event, Job, Message, Part, Prompt, Sampling,
    gpu::Gpu,
    load,
    scheduler::{Scheduler, pictures::Shelf},
    tests::{config, job},
};

const NAME: &str = "qwen3-vl";

fn rig() -> Rig {
    let config = config(NAME, &[]);
    let loaded = load::load(&config, &Device::Cpu).unwrap();
    let gpu = Gpu::open(Some(Path::new("/nonexistent/libnvidia-ml.so")), None);
    Rig::of(Scheduler::new(loaded, &config, None, Device::Cpu, gpu))
}

fn picture(level: u8) -> Arc<DynamicImage> {
    Arc::new(DynamicImage::from(RgbImage::from_pixel(32, 32, Rgb([level, 7, 9]))))
}

/// With 16 tokens for each picture, all of it fits into one step.
fn ask(pictures: &[Arc<DynamicImage>], max_tokens: usize) -> Job {
    let mut content = vec![Part::Text("look".into())];
    content.extend(pictures.iter().map(|it| Part::Image(Arc::clone(it))));
    let message = Message { role: "user".into(), content, ..Message::default() };
    let prompt = Prompt::Chat { messages: vec![message], tools: Vec::new() };
    let sampling =
        Sampling { max_tokens: Some(max_tokens), ignore_eos: true, ..Sampling::default() };
    Job { prompt: prompt.into(), sampling, ..job(NAME, "") }
}

#[test]
fn others_go_on_between_two_images() {
    let mut rig = rig();
    let text = rig.submit(ask(&[], 20));
    rig.step();
    let seeing = rig.submit(ask(&[1, 2, 3].map(picture), 2));
    // How many images were looked at and are not computed, and how many tokens were said.
    let state = |rig: &Rig, number: u64| {
        let job = &rig.scheduler.jobs[&number];
        (job.seen(), job.output_tokens())
    };
    for looks in 1..=2 {
        rig.step();
        assert_eq!(state(&rig, 2), (looks, 0));
        assert_eq!(state(&rig, 1), (0, 1 + looks));
    }
    // The third one, and then the whole prompt; what was seen is not kept any longer.
    rig.step();
    assert_eq!(state(&rig, 2), (0, 1));
    assert_eq!(state(&rig, 1), (0, 4));
    rig.run();
    assert_eq!(all(seeing).1.unwrap().image_tokens, 48);
    all(text).1.unwrap();
}

#[test]
fn nothing_is_looked_at_for_a_client_that_has_gone() {
    let mut rig = rig();
    let seeing = rig.submit(ask(&[1, 2, 3].map(picture), 2));
    rig.step();
    assert_eq!(rig.scheduler.jobs[&1].seen(), 1);
    drop(seeing);
    rig.step();
    assert!(rig.scheduler.jobs.is_empty());
}

#[test]
fn jobs_share_images_within_a_bound() {
    let mut rig = rig();
    // Two pictures of 32 x 32.
    rig.reader.shelf = Shelf::new(2 * 3 * 32 * 32);
    let one = picture(1);
    let mut sharing = Vec::new();
    for _ in 0..5 {
        sharing.push(rig.submit(ask(&[Arc::clone(&one), picture(2)], 3)));
    }
    let mut refused = rig.submit(ask(&[picture(3)], 3));
    assert_eq!(refused.try_recv(), Ok(Event::Failed(EngineError::CacheFull)));
    rig.run();
    let said: Vec<String> = sharing.into_iter().map(|it| all(it).0).collect();
    assert!(said.iter().all(|it| *it == said[0]));
    // Those have ended.
    let taken = rig.submit(ask(&[picture(3)], 3));
    rig.run();
    all(taken).1.unwrap();
}
