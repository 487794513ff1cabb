use candle_core::{Device, Tensor};

use super::{Rule, Sampler, rule};
use crate::job::Sampling;

fn sampling(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> Sampling {
    Sampling { temperature, top_k, top_p, seed: 7, ..Sampling::default() }
}

#[test]
fn settings_choose_the_rule() {
    for (settings, expected) in [
        (sampling(0.0, Some(5), Some(0.5)), Rule::ArgMax),
        (sampling(f64::NAN, None, None), Rule::ArgMax),
        (sampling(1e-9, None, None), Rule::ArgMax),
        (sampling(0.7, None, None), Rule::All { temperature: 0.7 }),
        (sampling(0.7, Some(0), Some(1.0)), Rule::All { temperature: 0.7 }),
        (sampling(0.7, Some(5), None), Rule::TopK { k: 5, temperature: 0.7 }),
        (sampling(0.7, None, Some(0.9)), Rule::TopP { p: 0.9, temperature: 0.7 }),
        (sampling(0.7, Some(5), Some(0.9)), Rule::TopKThenTopP { k: 5, p: 0.9, temperature: 0.7 }),
    ] {
        assert_eq!(rule(&settings), expected, "{settings:?}");
    }
}

#[test]
fn one_seed_gives_one_sequence() {
    let logits = Tensor::new(&[0.1f32, 2.0, 0.3, 1.9, -4.0], &Device::Cpu).unwrap();
    let draw = |settings: &Sampling| {
        let mut sampler = Sampler::new(settings);
        (0..32).map(|_| sampler.next(&logits).unwrap()).collect::<Vec<_>>()
    };
    let warm = sampling(1.0, None, None);
    assert_eq!(draw(&warm), draw(&warm));
    assert_ne!(draw(&warm), draw(&Sampling { seed: 8, ..warm.clone() }));
    assert_eq!(draw(&sampling(0.0, None, None)), vec![1; 32]);
    assert_eq!(draw(&sampling(1.0, Some(1), None)), vec![1; 32]);
    assert!(draw(&sampling(1.0, Some(2), None)).iter().all(|token| [1, 3].contains(token)));
}
