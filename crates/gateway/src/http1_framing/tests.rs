use super::*;
use proptest::prelude::*;

fn parse_head_with(lines: &str) -> Result<BodyLength, FramingViolation> {
    let text = format!("PUT /a HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    assert_eq!(HeadEndFinder::default().find(text.as_bytes()), Ok(Some(text.len())));
    parse_head(text.as_bytes())
}

#[test]
fn accepts_heads_that_clients_send() {
    assert_eq!(parse_head_with(""), Ok(BodyLength::Bytes(0)));
    assert_eq!(parse_head_with("Content-Length: 5\r\nconnection: Keep-Alive\r\n"), Ok(BodyLength::Bytes(5)));
    assert_eq!(parse_head_with("transfer-encoding:\tChunked \r\n"), Ok(BodyLength::Chunked));
    assert_eq!(parse_head_with("X-Amz-Meta-Name: gr\u{fc}n, a\tb\r\nX-Empty:\r\n"), Ok(BodyLength::Bytes(0)));
}

#[test]
fn refuses_ambiguous_heads() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Host: y\r\n",
        " folded: a\r\n",
        "X: a\r\n b\r\n",
        "X: a\0b\r\n",
        "X: a\rb\r\n",
        "no colon\r\n",
        ": no name\r\n",
        "Connection: close, X-Amz-Acl\r\n",
        "Upgrade: h2c\r\n",
    ] {
        assert!(parse_head_with(lines).is_err(), "{lines:?}");
    }
    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.0",
        "GET\t/\tHTTP/1.1",
        "GET / HTTP/1.1 ",
        "get / HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /a`b HTTP/1.1",
        "GET /<a> HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET /\u{fc} HTTP/1.1",
        " GET / HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        assert!(parse_head(format!("{line}\r\nHost: x\r\n\r\n").as_bytes()).is_err(), "{line:?}");
    }
    assert!(parse_head(b"GET / HTTP/1.1\r\n\r\n").is_err(), "no host");
}

/// hyper would refuse them too, without a reason.
#[test]
fn refuses_more_header_fields_than_the_parser_takes() {
    let fields = |count| "x: y\r\n".repeat(count);
    assert_eq!(parse_head_with(&fields(limits::MAX_HEADER_FIELDS - 1)), Ok(BodyLength::Bytes(0)));
    assert_eq!(
        parse_head_with(&fields(limits::MAX_HEADER_FIELDS)).map_err(|violation| violation.status),
        Err(431)
    );
}

#[test]
fn refuses_bare_line_feeds_and_empty_lines_before_a_request() {
    for text in [
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n",
        "\r\nGET / HTTP/1.1",
    ] {
        assert!(HeadEndFinder::default().find(text.as_bytes()).is_err(), "{text:?}");
    }
}

fn consume_chunked(body: &[u8]) -> Result<(usize, BodyFramingState), FramingViolation> {
    let mut state = BodyFramingState::from_length(BodyLength::Chunked);
    let taken = state.consume(body)?;
    Ok((taken, state))
}

#[test]
fn follows_a_chunked_body_to_its_end_and_not_beyond() {
    assert_eq!(
        consume_chunked(b"5\r\nhello\r\n0A\r\n0123456789\r\n0\r\n\r\nGET /"),
        Ok((31, BodyFramingState::Done))
    );
    let mut state = BodyFramingState::from_length(BodyLength::Bytes(3));
    assert_eq!((state.consume(b"abcdef"), state), (Ok(3), BodyFramingState::Done));
}

#[test]
fn refuses_ambiguous_chunks() {
    for body in [
        "+5\r\nhello\r\n",
        "0_5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "10000000000000005\r\nhello\r\n",
        "5\nhello\n",
        "5;a=b\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "5\r\nhelloXX",
        "\r\n",
        "5\r\rhello",
        "0\r\nContent-Length: 5\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
    ] {
        assert!(consume_chunked(body.as_bytes()).is_err(), "{body:?}");
    }
}

proptest! {
    /// The result does not depend on how the network splits the stream.
    #[test]
    fn segmentation_does_not_change_the_result(
        body in prop::collection::vec(prop::sample::select(b"05aF;\r\nx ".to_vec()), 0..40),
        piece_length in 1_usize..8,
    ) {
        let mut state = BodyFramingState::from_length(BodyLength::Chunked);
        let mut taken = Ok(0);
        for part in body.chunks(piece_length) {
            taken = match (taken, state.consume(part)) {
                (Ok(sum), Ok(count)) => Ok(sum + count),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
            if taken.is_err() {
                break;
            }
        }
        let whole = consume_chunked(&body);
        prop_assert_eq!(taken.is_err(), whole.is_err());
        if let (Ok(count), Ok((all, end))) = (taken, whole) {
            prop_assert_eq!((count, state), (all, end));
        }

        let mut finder = HeadEndFinder::default();
        let mut head_end = Ok(None);
        for end in 0..=body.len() {
            head_end = finder.find(&body[..end]);
            if head_end != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(head_end, HeadEndFinder::default().find(&body));
    }

    #[test]
    fn no_input_causes_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _result = parse_head(&bytes);
        let _result = consume_chunked(&bytes);
    }
}
