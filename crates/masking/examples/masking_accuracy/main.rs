//! Prints how exact masking is: how many responses without a secret are damaged, and how many secrets of real formats are found.
//! Run with `cargo run --release -p durward-masking --example masking_accuracy`. All values are made up, from a fixed seed.
#![expect(clippy::print_stdout, reason = "an example that reports")]

mod corpus;

use corpus::{Accuracy, PLACES, Random, ResponseKind, SECRET_KINDS};

const SMALL_RESPONSES: usize = 20_000;
const LARGE_RESPONSES: usize = 200;
const SECRETS_FOR_EACH: usize = 50;

fn main() {
    let accuracy = Accuracy::new();
    let damaged = print_false_positives(&accuracy);
    let missed = print_recall(&accuracy);
    if damaged + missed > 0 {
        std::process::exit(1);
    }
}

fn print_false_positives(accuracy: &Accuracy) -> usize {
    println!("Responses without a secret (each second value has the beginning of one planted in it):");
    let (mut all_responses, mut all_values, mut all_damaged) = (0, 0, 0);
    for kind in ResponseKind::ALL {
        let (mut responses, mut values, mut bytes, mut damaged) = (0usize, 0, 0, 0);
        for (count, size) in [(SMALL_RESPONSES, 1 << 11), (LARGE_RESPONSES, 1 << 20)] {
            for number in 0..count {
                let seed = (kind as u64) << 48 | (size as u64) << 24 | number as u64;
                let response = corpus::harmless_response(kind, size, &mut Random(seed));
                responses += 1;
                values += response.values;
                bytes += response.body.len();
                damaged += usize::from(accuracy.mask(&response.body, response.kind).is_some());
            }
        }
        println!(
            "  {kind:?}: {damaged} of {responses} responses damaged ({values} values, {:.2} GB)",
            bytes as f64 / 1e9
        );
        all_responses += responses;
        all_values += values;
        all_damaged += damaged;
    }
    println!("  all: {all_damaged} of {all_responses} responses with {all_values} values");
    if all_damaged == 0 {
        // The rule of three: no event in n trials bounds its rate by 3/n at 95 %.
        println!(
            "  at 95 %: fewer than {:.1e} of such responses, {:.1e} of such values",
            3.0 / all_responses as f64,
            3.0 / all_values as f64
        );
    }
    all_damaged
}

fn print_recall(accuracy: &Accuracy) -> usize {
    println!("Secrets of real formats, each kind in {} places:", PLACES.len());
    let (mut all, mut all_missed) = (0, 0);
    for (number, kind) in SECRET_KINDS.into_iter().enumerate() {
        let (mut count, mut missed) = (0, 0);
        for place in PLACES {
            for round in 0..SECRETS_FOR_EACH {
                let mut random = Random((number as u64) << 32 | round as u64);
                count += 1;
                if !corpus_finds(accuracy, kind, place, &mut random) {
                    missed += 1;
                    println!("  missed: {kind} in {place}");
                }
            }
        }
        println!("  {kind}: {} of {count} masked", count - missed);
        all += count;
        all_missed += missed;
    }
    println!(
        "  recall: {} of {all} = {:.2} %",
        all - all_missed,
        100.0 * (all - all_missed) as f64 / all as f64
    );
    all_missed
}

fn corpus_finds(accuracy: &Accuracy, kind: &str, place: &str, random: &mut Random) -> bool {
    let (text, secret) = corpus::secret(kind, random);
    let (body, response_kind) = corpus::response_with(place, &text);
    let Some(masked) = accuracy.mask(&body, response_kind) else { return false };
    corpus::readable_texts(&masked).iter().all(|text| !corpus::contains(text, secret.as_bytes()))
}
