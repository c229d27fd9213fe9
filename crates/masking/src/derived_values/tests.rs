use super::*;

fn attribute(name: &str, data_type: &str, value: &str) -> MessageAttribute {
    let (string_value, binary_value) = if data_type.starts_with("Binary") {
        (String::new(), value.to_owned())
    } else {
        (value.to_owned(), String::new())
    };
    MessageAttribute { name: name.to_owned(), data_type: data_type.to_owned(), string_value, binary_value }
}

#[test]
fn computes_the_digest_that_sdks_compare() {
    let number = attribute("Count", "Number", "1");
    let text = attribute("Text", "String", "Hello");
    let bytes = attribute("Data", "Binary.x", "AQID");
    assert_eq!(
        digest_of_attributes(vec![text, number, bytes]),
        // Python: hashlib.md5 over struct.pack(">I", len) + part, in order of the names.
        "c8f4ac05be8f45c3045be307f325646b"
    );
}

#[test]
fn recognises_digests_of_what_was_masked_only() {
    let digests =
        DigestReplacements::new(&[MaskedSource { original: b"abc".to_vec(), masked: b"".to_vec() }]);
    assert_eq!(digests.get("900150983cd24fb0d6963f7d28e17f72"), Some("d41d8cd98f00b204e9800998ecf8427e"));
    assert_eq!(digests.get("900150983CD24FB0D6963F7D28E17F72"), Some("D41D8CD98F00B204E9800998ECF8427E"));
    assert_eq!(digests.get("qZk+NkcGgWq6PiVxeFDCbJzQ2J0="), Some("2jmj7l5rSw0yVb/vlWAYkK/YBwk="));
    assert_eq!(digests.get("d41d8cd98f00b204e9800998ecf8427e"), None);
    assert_eq!(
        replaced_size("3", &[MaskedSource { original: b"abc".to_vec(), masked: b"abcdef".to_vec() }]),
        Some(6)
    );
}
