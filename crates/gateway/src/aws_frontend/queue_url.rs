//! Queue URLs of SQS. The JavaScript SDK sends requests straight to the `QueueUrl` that it was given (`useQueueUrlAsEndpoint`, on
//! by default), around the gateway. So the URLs in responses are rewritten to this gateway. SQS itself reads only the account and
//! the queue name of the URLs that come back.

use super::aws_request::OperationTarget;
use crate::upstream_response::{UpstreamBody, UpstreamResponse};
use durward_masking::BodyFormat;
use serde_json::Value;

/// Rewrites the origin of `QueueUrl` and `QueueUrls` to `gateway_url` (`https://aws.gw.example`), in JSON and in the XML of the
/// query protocol, which SDKs from before the end of 2023 speak.
pub(super) fn rewrite_queue_urls(
    gateway_url: &str,
    target: &OperationTarget,
    response: &mut UpstreamResponse,
) {
    if target.service.id != "sqs" || !response.head.status.is_success() {
        return;
    }
    let rewritten = match &response.body {
        UpstreamBody::Buffered { bytes, content: BodyFormat::Json } => rewrite_json_urls(gateway_url, bytes),
        UpstreamBody::Buffered { bytes, content: BodyFormat::Xml } => rewrite_xml_urls(gateway_url, bytes),
        _ => None,
    };
    if let Some(rewritten) = rewritten {
        response.replace_body(rewritten.into());
    }
}

fn rewrite_json_urls(gateway_url: &str, body: &[u8]) -> Option<Vec<u8>> {
    let Ok(Value::Object(mut members)) = serde_json::from_slice::<Value>(body) else { return None };
    let mut is_changed = false;
    for (name, value) in &mut members {
        match (name.as_str(), value) {
            ("QueueUrl", Value::String(url)) => is_changed |= replace_url_origin(gateway_url, url),
            ("QueueUrls" | "queueUrls", Value::Array(urls)) => {
                for url in urls {
                    if let Value::String(url) = url {
                        is_changed |= replace_url_origin(gateway_url, url);
                    }
                }
            }
            _ => {}
        }
    }
    if is_changed { serde_json::to_vec(&members).ok() } else { None }
}

/// A search for the tag finds nothing but tags: `<` in text is escaped (XML 1.0 section 2.4).
fn rewrite_xml_urls(gateway_url: &str, body: &[u8]) -> Option<Vec<u8>> {
    const QUEUE_URL_TAG: &str = "<QueueUrl>";
    let mut rest = std::str::from_utf8(body).ok()?;
    let mut out = String::with_capacity(rest.len());
    let mut is_changed = false;
    while let Some((before, after)) = rest.split_once(QUEUE_URL_TAG) {
        let (url, tail) = after.split_at(after.find('<')?);
        let mut url = url.to_owned();
        is_changed |= replace_url_origin(gateway_url, &mut url);
        out.push_str(before);
        out.push_str(QUEUE_URL_TAG);
        out.push_str(&url);
        rest = tail;
    }
    out.push_str(rest);
    is_changed.then(|| out.into_bytes())
}

fn replace_url_origin(gateway_url: &str, url: &mut String) -> bool {
    let path =
        url.split_once("://").and_then(|(_scheme, rest)| rest.find('/').and_then(|slash| rest.get(slash..)));
    match path.map(|path| format!("{gateway_url}{path}")) {
        Some(rewritten) => {
            *url = rewritten;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{replace_url_origin, rewrite_json_urls, rewrite_xml_urls};
    use serde_json::{Value, json};

    #[test]
    fn keeps_account_and_name_and_changes_only_the_origin() {
        let mut url = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs.fifo".to_owned();
        assert!(replace_url_origin("http://127.0.0.1:8610", &mut url));
        assert_eq!(url, "http://127.0.0.1:8610/123456789012/jobs.fifo");
        let mut other = "not a url".to_owned();
        assert!(!replace_url_origin("http://gw", &mut other));
        assert_eq!(other, "not a url");
    }

    #[test]
    fn rewrites_the_urls_of_both_protocols_and_nothing_else() {
        let gateway = "https://aws.gw.example";
        let xml = "<ListQueuesResponse><ListQueuesResult><QueueUrl>https://sqs.us-east-1.amazonaws.com/1/a</QueueUrl>\
                   <QueueUrl>http://127.0.0.1:9324/1/b</QueueUrl></ListQueuesResult></ListQueuesResponse>";
        let expected = "<ListQueuesResponse><ListQueuesResult><QueueUrl>https://aws.gw.example/1/a</QueueUrl>\
                      <QueueUrl>https://aws.gw.example/1/b</QueueUrl></ListQueuesResult></ListQueuesResponse>";
        assert_eq!(rewrite_xml_urls(gateway, xml.as_bytes()), Some(expected.as_bytes().to_vec()));
        let response =
            br#"{"QueueUrls":["https://sqs.us-east-1.amazonaws.com/1/a"],"NextToken":"https://x/1"}"#;
        let expected = json!({"NextToken": "https://x/1", "QueueUrls": ["https://aws.gw.example/1/a"]});
        let rewritten: Value =
            serde_json::from_slice(&rewrite_json_urls(gateway, response).unwrap()).unwrap();
        assert_eq!(rewritten, expected);
        for other in
            ["<Body>&lt;QueueUrl&gt;https://x/1</Body>", "<QueueUrl>cut", "<QueueUrl>no url</QueueUrl>", ""]
        {
            assert_eq!(rewrite_xml_urls(gateway, other.as_bytes()), None, "{other}");
        }
    }
}
