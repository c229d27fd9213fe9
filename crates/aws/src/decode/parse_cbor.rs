//! CBOR bodies (RFC 8949, as far as Smithy RPC v2 uses it). Blobs become base64 text and timestamps their seconds. A key given
//! twice, other tags, undefined values and bytes after the end are refused.

use crate::refusals::{malformed_request, too_many_values};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use durward_core::{Refusal, limits, whole_number_of_float};
use minicbor::data::{Tag, Type};
use minicbor::decode::{Decoder, Error};
use serde_json::{Map, Number, Value};

/// Reads a body that is one CBOR map.
pub(super) fn parse_cbor_object(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let mut decoder = Decoder::new(bytes);
    let mut remaining = limits::MAX_BODY_VALUES;
    let value = decode_item(&mut decoder, 0, &mut remaining).map_err(|error| match remaining {
        0 => too_many_values("values", limits::MAX_BODY_VALUES),
        _ => malformed_request("the body is not valid cbor of rpc-v2").with_detail(error),
    })?;
    if decoder.position() != bytes.len() {
        return Err(malformed_request("bytes follow the end of the cbor body"));
    }
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(malformed_request("the body is not a cbor map")),
    }
}

/// `remaining`: the number of values that may still follow.
fn decode_item(decoder: &mut Decoder<'_>, depth: usize, remaining: &mut usize) -> Result<Value, Error> {
    *remaining = remaining.saturating_sub(1);
    if *remaining == 0 {
        return Err(Error::message("too many values"));
    }
    if depth > limits::MAX_NESTING_DEPTH {
        return Err(Error::message("nested too deeply"));
    }
    Ok(match decoder.datatype()? {
        Type::Bool => Value::Bool(decoder.bool()?),
        Type::Null => {
            decoder.null()?;
            Value::Null
        }
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => Value::Number(decoder.u64()?.into()),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => Value::Number(decoder.i64()?.into()),
        Type::F16 => float_to_json(decode_half_float(decoder)?),
        Type::F32 => float_to_json(f64::from(decoder.f32()?)),
        Type::F64 => float_to_json(decoder.f64()?),
        Type::String | Type::StringIndef => Value::String(decode_text(decoder)?),
        // Blobs as base64, as in the JSON protocols, so that policies see one form.
        Type::Bytes => Value::String(STANDARD.encode(decoder.bytes()?)),
        Type::BytesIndef => {
            let mut out = Vec::new();
            for chunk in decoder.bytes_iter()? {
                out.extend_from_slice(chunk?);
            }
            Value::String(STANDARD.encode(out))
        }
        Type::Array | Type::ArrayIndef => {
            let mut out = Vec::new();
            let mut items = decoder.array()?;
            while has_next_item(decoder, &mut items)? {
                out.push(decode_item(decoder, depth + 1, remaining)?);
            }
            Value::Array(out)
        }
        Type::Map | Type::MapIndef => {
            let mut out = Map::new();
            let mut members = decoder.map()?;
            while has_next_item(decoder, &mut members)? {
                let key = decode_text(decoder)?;
                let value = decode_item(decoder, depth + 1, remaining)?;
                if out.insert(key, value).is_some() {
                    return Err(Error::message("a key is given twice"));
                }
            }
            Value::Object(out)
        }
        Type::Tag => {
            // Tag 1 is epoch seconds, the only tag of Smithy RPC v2.
            if decoder.tag()? != Tag::new(1) {
                return Err(Error::message("a tag other than 1"));
            }
            match decode_item(decoder, depth + 1, remaining)? {
                number @ Value::Number(_) => number,
                _ => return Err(Error::message("a timestamp that is not a number")),
            }
        }
        other => return Err(Error::type_mismatch(other)),
    })
}

/// Returns true if another item follows. Consumes the break that ends an indefinite length.
fn has_next_item(decoder: &mut Decoder<'_>, remaining: &mut Option<u64>) -> Result<bool, Error> {
    match remaining {
        Some(0) => Ok(false),
        Some(count) => {
            *count -= 1;
            Ok(true)
        }
        None if decoder.datatype()? == Type::Break => {
            decoder.set_position(decoder.position() + 1);
            Ok(false)
        }
        None => Ok(true),
    }
}

fn decode_text(decoder: &mut Decoder<'_>) -> Result<String, Error> {
    if decoder.datatype()? == Type::StringIndef {
        let mut out = String::new();
        for chunk in decoder.str_iter()? {
            out.push_str(chunk?);
        }
        return Ok(out);
    }
    decoder.str().map(str::to_owned)
}

/// A half-precision number (RFC 8949 appendix D), which minicbor reads only with a feature that pulls in another crate.
fn decode_half_float(decoder: &mut Decoder<'_>) -> Result<f64, Error> {
    let at = decoder.position();
    let Some([_, high, low]) = decoder.input().get(at..).and_then(<[u8]>::first_chunk::<3>) else {
        return Err(Error::end_of_input());
    };
    decoder.set_position(at + 3);
    let bits = u16::from_be_bytes([*high, *low]);
    let mantissa = f64::from(bits & 0x3ff);
    let value = match i32::from(bits >> 10 & 0x1f) {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (mantissa + 1024.0) * 2f64.powi(exponent - 25),
    };
    Ok(if bits & 0x8000 == 0 { value } else { -value })
}

/// A whole number is an integer, as in the JSON protocols, so that policies see one form. JSON has no infinities and no NaN (RFC 8259
/// section 6): they become text.
fn float_to_json(value: f64) -> Value {
    let number = whole_number_of_float(value).or_else(|| Number::from_f64(value));
    number.map_or_else(|| Value::String(value.to_string()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn reads_definite_and_indefinite_items() {
        // {_ "a": [_ 1, -2], "b": h'0102', "t": 1(1.5), "s": (_ "x" "y")}
        let bytes =
            b"\xbf\x61a\x9f\x01\x21\xff\x61b\x42\x01\x02\x61t\xc1\xf9\x3e\x00\x61s\x7f\x61x\x61y\xff\xff";
        let read = Value::Object(parse_cbor_object(bytes).unwrap());
        assert_eq!(read, json!({"a": [1, -2], "b": "AQI=", "t": 1.5, "s": "xy"}));
    }

    #[test]
    fn a_whole_number_is_an_integer_in_every_encoding() {
        // {"a": [500, 500.0 as float32, 500.0 as float64, 2.0 as float16, 0.5 as float16]}
        let bytes = b"\xa1\x61a\x85\x19\x01\xf4\xfa\x43\xfa\x00\x00\xfb\x40\x7f\x40\x00\x00\x00\x00\x00\xf9\x40\x00\xf9\x38\x00";
        let read = Value::Object(parse_cbor_object(bytes).unwrap());
        assert_eq!(read, json!({"a": [500, 500, 500, 2, 0.5]}));
    }

    #[test]
    fn refuses_ambiguous_cbor() {
        for bad in [
            &b"\xa2\x61a\x01\x61a\x02"[..], // a key twice
            b"\xa1\x61a\xf7",               // undefined
            b"\xa1\x61a\xc2\x41\x01",       // big number
            b"\xa1\x61a\x61\xff",           // not utf-8
            b"\xa1\x01\x01",                // a key that is no text
            b"\xa0\x00",                    // bytes after the end
            b"\x80",                        // no map
            b"\xbf",                        // no end
            b"\xa1\x61a\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert!(parse_cbor_object(bad).is_err(), "{bad:x?}");
        }
        let mut deep = vec![0xa1, 0x61, b'a'];
        deep.extend([0x81; 100]);
        deep.push(1);
        assert!(parse_cbor_object(&deep).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _outcome = parse_cbor_object(&bytes);
        }
    }
}
