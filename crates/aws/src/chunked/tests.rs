use super::*;

fn documented_chain() -> SignatureChain {
    // S3 API Reference, "Signature calculations for the Authorization header: Transferring payload in multiple chunks".
    SignatureChain::new(
        SigningKey::derive("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1", "s3"),
        "20130524T000000Z",
        "20130524/us-east-1/s3/aws4_request".to_owned(),
        Signature::parse("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9").unwrap(),
        false,
    )
}

fn documented_body() -> Vec<u8> {
    let mut body =
        b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
            .to_vec();
    body.extend(vec![b'a'; 65536]);
    body.extend(
        b"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n",
    );
    body.extend(vec![b'a'; 1024]);
    body.extend(
        b"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n",
    );
    body
}

fn decode_in_steps(
    decoder: &mut ChunkedDecoder,
    body: &[u8],
    step: usize,
) -> Result<usize, ChunkedBodyError> {
    let mut data = 0;
    for part in body.chunks(step) {
        for piece in decoder.push(Bytes::copy_from_slice(part))? {
            if let ChunkEvent::Data(bytes) = piece {
                data += bytes.len();
            }
        }
    }
    Ok(data)
}

#[test]
fn accepts_the_documented_example_however_it_is_split() {
    for step in [1, 7, 100, 65_536, 100_000] {
        let mut decoder = ChunkedDecoder::new(66_560, Vec::new(), Some(documented_chain()));
        assert_eq!(decode_in_steps(&mut decoder, &documented_body(), step), Ok(66_560));
        assert!(decoder.is_done());
    }
}

#[test]
fn refuses_a_changed_byte_in_a_signed_chunk() {
    let mut body = documented_body();
    body[40_000] ^= 1;
    assert_eq!(
        decode_in_steps(&mut ChunkedDecoder::new(66_560, Vec::new(), Some(documented_chain())), &body, 4096),
        Err(ChunkedBodyError::ChunkSignature)
    );
}

#[test]
fn a_body_cut_before_its_final_chunk_is_not_done() {
    let body = documented_body();
    let mut decoder = ChunkedDecoder::new(66_560, Vec::new(), Some(documented_chain()));
    decode_in_steps(&mut decoder, &body[..body.len() - 2], 4096).unwrap();
    assert!(!decoder.is_done());
}

#[test]
fn an_unsigned_body_needs_its_declared_trailers_and_length() {
    let body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let declared = vec!["x-amz-checksum-crc32".to_owned()];
    assert_eq!(decode_in_steps(&mut ChunkedDecoder::new(5, declared.clone(), None), body, 3), Ok(5));
    assert_eq!(
        decode_in_steps(&mut ChunkedDecoder::new(5, Vec::new(), None), body, 3),
        Err(ChunkedBodyError::Trailers)
    );
    let length = ChunkedBodyError::Length { declared: 4, actual: 5 };
    assert_eq!(decode_in_steps(&mut ChunkedDecoder::new(4, declared.clone(), None), body, 3), Err(length));
    let length = ChunkedBodyError::Length { declared: 6, actual: 5 };
    assert_eq!(decode_in_steps(&mut ChunkedDecoder::new(6, declared, None), body, 3), Err(length));
}

/// A body with a trailer, in chunks of two sizes.
fn body_with_trailer(data: &[u8], name: &str, value: &str) -> Vec<u8> {
    let (one, two) = data.split_at(data.len() / 3);
    let mut body = Vec::new();
    for chunk in [one, two].into_iter().filter(|chunk| !chunk.is_empty()) {
        body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        body.extend(chunk);
        body.extend(b"\r\n");
    }
    body.extend(format!("0\r\n{name}:{value}\r\n\r\n").into_bytes());
    body
}

#[test]
fn verifies_the_checksum_in_a_trailer() {
    // The checksums of `hello`, as the AWS CLI and the SDKs for Python, JavaScript and Rust send them.
    for (algorithm, value) in [
        ("crc32", "NhCmhg=="),
        ("crc32c", "mnG7TA=="),
        ("crc64nvme", "M3eFcAZSQlc="),
        ("sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00="),
        ("sha256", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="),
    ] {
        let name = format!("x-amz-checksum-{algorithm}");
        let declared = vec![name.clone()];
        for step in [1, 4, 100] {
            let body = body_with_trailer(b"hello", &name, value);
            let mut decoder = ChunkedDecoder::new(5, declared.clone(), None);
            assert_eq!(decode_in_steps(&mut decoder, &body, step), Ok(5), "{algorithm}");
            assert!(decoder.is_done());
            let changed = body_with_trailer(b"hellO", &name, value);
            let refused =
                decode_in_steps(&mut ChunkedDecoder::new(5, declared.clone(), None), &changed, step);
            assert!(
                matches!(refused, Err(ChunkedBodyError::Checksum(trailer)) if trailer == name),
                "{algorithm}"
            );
        }
        let other = body_with_trailer(b"hello", &name, "AAAAAA==");
        assert!(
            decode_in_steps(&mut ChunkedDecoder::new(5, declared, None), &other, 100).is_err(),
            "{algorithm}"
        );
    }
}

#[test]
fn verifies_the_checksum_of_an_empty_body_and_leaves_unknown_ones_to_s3() {
    let run = |name: &str, value: &str| {
        let mut decoder = ChunkedDecoder::new(0, vec![name.to_owned()], None);
        decode_in_steps(&mut decoder, &body_with_trailer(b"", name, value), 100)
    };
    assert_eq!(run("x-amz-checksum-crc32", "AAAAAA=="), Ok(0));
    assert_eq!(
        run("x-amz-checksum-crc32", "AAAAAQ=="),
        Err(ChunkedBodyError::Checksum("x-amz-checksum-crc32"))
    );
    assert_eq!(run("x-amz-checksum-xxhash64", "AAAAAQ=="), Ok(0));
}

/// S3 API Reference, "Signature calculations for the Authorization header: Including trailing headers (chunked upload)".
#[test]
fn accepts_the_documented_example_with_a_signed_trailer() {
    let body = |crc: &str, signature: &str| {
        let mut body = Vec::new();
        for (size, signature) in [
            (65_536, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
            (1_024, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
            (0, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"),
        ] {
            body.extend(format!("{size:x};chunk-signature={signature}\r\n").into_bytes());
            if size > 0 {
                body.extend(vec![b'a'; size]);
                body.extend(b"\r\n");
            }
        }
        let trailers = format!("x-amz-checksum-crc32c:{crc}\r\nx-amz-trailer-signature:{signature}\r\n\r\n");
        body.extend(trailers.into_bytes());
        body
    };
    let decoder = || {
        let seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
        let chain = SignatureChain {
            previous_signature: Signature::parse(seed).unwrap(),
            has_signed_trailer: true,
            ..documented_chain()
        };
        ChunkedDecoder::new(66_560, vec!["x-amz-checksum-crc32c".to_owned()], Some(chain))
    };
    let signature = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
    assert_eq!(decode_in_steps(&mut decoder(), &body("sOO8/Q==", signature), 4096), Ok(66_560));
    let changed = decode_in_steps(&mut decoder(), &body("sOO8/A==", signature), 4096);
    assert_eq!(changed, Err(ChunkedBodyError::Checksum("x-amz-checksum-crc32c")));
    let unsigned = decode_in_steps(&mut decoder(), &body("sOO8/Q==", &signature.replace('d', "e")), 4096);
    assert_eq!(unsigned, Err(ChunkedBodyError::TrailerSignature));
}

#[test]
fn refuses_broken_framing() {
    for body in [
        &b"5\nhello\r\n0\r\n\r\n"[..],
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"5;x=y\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n",
        b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
    ] {
        assert!(
            decode_in_steps(&mut ChunkedDecoder::new(5, Vec::new(), None), body, 2).is_err(),
            "{:?}",
            String::from_utf8_lossy(body)
        );
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..300), step in 1_usize..50) {
        let _either = decode_in_steps(&mut ChunkedDecoder::new(1000, Vec::new(), None), &body, step);
    }
}
