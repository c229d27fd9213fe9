//! The origin: responds to AssumeRole, GetItem, PutObject and the two S3 objects at once, and checks nothing.
//!
//! It remembers the orders of GetItem whose name begins with [`COUNTED_ORDER`], and lists them at [`EXECUTED_PATH`].

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use memchr::memmem;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::net::TcpListener;

/// Bytes of the GetItem response.
pub const ITEM: usize = 1 << 10;
/// Bytes of the small object.
pub const SMALL: usize = 1 << 10;
/// Bytes of the large object.
pub const LARGE: usize = 10 << 20;

/// The names of the orders that are remembered begin with this.
pub const COUNTED_ORDER: &str = "flood-";
/// Where the remembered orders are listed, one on each line.
pub const EXECUTED_PATH: &str = "/.bench/executed";

/// The counted order that a GetItem request, or the record of one, is about.
pub fn counted_order(text: &[u8]) -> Option<&str> {
    let text = text.get(memmem::find(text, COUNTED_ORDER.as_bytes())?..)?;
    let end = text.iter().position(|&byte| byte == b'"')?;
    std::str::from_utf8(text.get(..end)?).ok()
}

struct Responses {
    executed: Mutex<Vec<String>>,
    item: Bytes,
    small: Bytes,
    large: Bytes,
}

pub async fn serve(port: u16) -> Result<(), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| format!("the origin cannot listen on {port}: {error}"))?;
    let responses = Arc::new(Responses {
        executed: Mutex::default(),
        item: item(),
        small: Bytes::from(vec![b's'; SMALL]),
        large: Bytes::from(vec![b'l'; LARGE]),
    });
    loop {
        let (stream, _source) =
            listener.accept().await.map_err(|error| format!("the origin cannot accept: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("the origin cannot set TCP_NODELAY: {error}"))?;
        let responses = responses.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let responses = responses.clone();
                async move { responses.respond(request).await }
            });
            // A connection that its client closes is no news here.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

impl Responses {
    async fn respond(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        if head.uri.path() == EXECUTED_PATH {
            let executed = self.executed.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
            return Ok(respond(Bytes::from(executed), "text/plain"));
        }
        if head.method == Method::PUT {
            return Ok(respond(Bytes::new(), "application/xml"));
        }
        if head.method == Method::GET {
            let object = if head.uri.path().ends_with("/large") { &self.large } else { &self.small };
            let mut response = respond(object.clone(), "binary/octet-stream");
            let headers = response.headers_mut();
            headers.insert(header::ETAG, HeaderValue::from_static("\"00000000000000000000000000000000\""));
            headers.insert("x-amz-request-id", HeaderValue::from_static("BENCH00000000000"));
            return Ok(response);
        }
        if head.headers.contains_key("x-amz-target") {
            if let Some(order) = counted_order(&body) {
                self.executed.lock().unwrap_or_else(PoisonError::into_inner).push(order.to_owned());
            }
            return Ok(respond(self.item.clone(), "application/x-amz-json-1.0"));
        }
        Ok(respond(assume_role(), "text/xml"))
    }
}

fn respond(body: Bytes, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        "x-amzn-requestid",
        HeaderValue::from_static("BENCH00000000000000000000000000000000000000000000000"),
    );
    response
}

/// A GetItem response of exactly [`ITEM`] bytes, in fields like an application's.
fn item() -> Bytes {
    let mut text =
        String::from(r#"{"Item":{"order":{"S":"2026-000017"},"total":{"N":"118.40"},"paid":{"BOOL":true}"#);
    for line in 0.. {
        let field = format!(r#","line{line:02}":{{"S":"{line:04} pieces of part {}"}}"#, line * 7919 % 1000);
        if text.len() + field.len() + 20 > ITEM {
            break;
        }
        text += &field;
    }
    text += r#","end":{"S":""#;
    text.extend(std::iter::repeat_n('.', ITEM.saturating_sub(text.len() + 4)));
    text += r#""}}}"#;
    Bytes::from(text)
}

fn assume_role() -> Bytes {
    let expires = (OffsetDateTime::now_utc() + Duration::minutes(15)).format(&Rfc3339).unwrap_or_default();
    Bytes::from(format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser>\
         <Arn>arn:aws:sts::123456789012:assumed-role/bench/bench</Arn><AssumedRoleId>AROABENCH:bench</AssumedRoleId>\
         </AssumedRoleUser><Credentials><AccessKeyId>ASIABENCHBENCHBENCH0</AccessKeyId>\
         <SecretAccessKey>benchbenchbenchbenchbenchbenchbenchbench</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>{expires}</Expiration></Credentials></AssumeRoleResult><ResponseMetadata><RequestId>bench</RequestId>\
         </ResponseMetadata></AssumeRoleResponse>",
        "IQoJbench".repeat(80)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_order_of_a_request() {
        assert_eq!(counted_order(br#"{"S":"flood-3-17"},"x":1"#), Some("flood-3-17"));
        assert_eq!(counted_order(br#"{"S":"2026-000017"}"#), None);
    }

    #[test]
    fn the_item_is_json_of_exactly_its_size() {
        let item = item();
        assert_eq!(item.len(), ITEM);
        serde_json::from_slice::<serde_json::Value>(&item).unwrap();
    }
}
