//! A small sample of what `examples/masking_accuracy` measures.

#[path = "../examples/masking_accuracy/corpus.rs"]
mod corpus;

use corpus::{Accuracy, PLACES, Random, ResponseKind, SECRET_KINDS};

#[test]
fn responses_without_a_secret_stay_as_they_are() {
    let accuracy = Accuracy::new();
    for kind in ResponseKind::ALL {
        for (count, size) in [(60, 1 << 11), (2, 1 << 17)] {
            for number in 0..count {
                let response = corpus::harmless_response(kind, size, &mut Random(number << 8 | kind as u64));
                assert!(response.values > 0);
                let masked = accuracy.mask(&response.body, response.kind);
                assert!(masked.is_none(), "{kind:?} {number} of {size}");
            }
        }
    }
}

#[test]
fn secrets_of_real_formats_are_masked_wherever_they_are() {
    let accuracy = Accuracy::new();
    for (number, kind) in SECRET_KINDS.into_iter().enumerate() {
        for place in PLACES {
            let (text, secret) = corpus::secret(kind, &mut Random(number as u64));
            let (body, response_kind) = corpus::response_with(place, &text);
            let found =
                corpus::readable_texts(&body).iter().any(|text| corpus::contains(text, secret.as_bytes()));
            assert!(found, "the reader of this test does not see a {kind} in {place}");
            let masked = accuracy.mask(&body, response_kind);
            let masked = masked.unwrap_or_else(|| panic!("{kind} in {place}: {text}"));
            for text in corpus::readable_texts(&masked) {
                assert!(!corpus::contains(&text, secret.as_bytes()), "{kind} in {place}");
            }
        }
    }
}
