//! Posts one message to a webhook, once, and reads what the response means.

use crate::rate_limit::WEBHOOK_TIMEOUT;
use crate::send_failure::{SendFailure, sanitize_error_text};
use crate::webhook_url::WebhookUrl;
use bytes::Bytes;
use durward_core::{HttpClient, HttpClientError, HttpLimits};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// Some receivers respond with a page; only a short word of it is used.
const WEBHOOK_LIMITS: HttpLimits = HttpLimits { timeout: WEBHOOK_TIMEOUT, max_response_bytes: 1 << 20 };
/// Bytes of a response that can be an error word, as `invalid_blocks` of Slack. A longer body may contain anything.
const MAX_ERROR_WORD_BYTES: usize = 60;

/// Posts JSON with these headers beside the usual ones.
pub(crate) async fn post_json(
    http_client: &dyn HttpClient,
    url: &WebhookUrl,
    headers: HeaderMap,
    body: Bytes,
    now: OffsetDateTime,
) -> Result<(), SendFailure> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.uri.clone();
    *request.headers_mut() = headers;
    let mut set = |name: HeaderName, value: &'static str| {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    set(header::CONTENT_TYPE, "application/json");
    set(header::USER_AGENT, concat!("durward/", env!("CARGO_PKG_VERSION")));
    match http_client.send(request, WEBHOOK_LIMITS).await {
        Ok(response) => check_response(&response, now),
        Err(HttpClientError::TimedOut { .. }) => Err(SendFailure::WebhookTimedOut),
        Err(error) => Err(SendFailure::Unreachable(error_without_path(&error, url))),
    }
}

/// The text of an error of the HTTP client. It may name the host; the path of a webhook is its secret.
fn error_without_path(error: &HttpClientError, url: &WebhookUrl) -> String {
    let text = error.to_string();
    let path = url.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    sanitize_error_text(&if path.len() > 1 { text.replace(path, "/...") } else { text })
}

fn check_response(response: &Response<Bytes>, now: OffsetDateTime) -> Result<(), SendFailure> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() {
        return Err(SendFailure::Redirected { status: status.as_u16() });
    }
    let word = std::str::from_utf8(response.body()).unwrap_or_default().trim();
    // The text goes to logs and to the console: a receiver must not be able to write a page or a line there.
    let is_word = (1..=MAX_ERROR_WORD_BYTES).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_- ".contains(&byte));
    Err(SendFailure::Refused {
        status: status.as_u16(),
        word: is_word.then(|| word.to_owned()),
        retry_after_millis: parse_retry_after(response.headers(), now),
    })
}

/// `Retry-After` in milliseconds. Its value is a number of seconds or a date (RFC 9110 section 10.2.3).
fn parse_retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<i64> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse::<u32>() {
        Ok(seconds) => i64::from(seconds),
        Err(_not_a_number) => (OffsetDateTime::parse(text, &Rfc2822).ok()? - now).whole_seconds().max(0),
    };
    Some(seconds.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_core::Secret;
    use time::macros::datetime;

    fn test_response(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: &'static str,
    ) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        *response.status_mut() = status.try_into().unwrap();
        for (name, value) in headers {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        response
    }

    #[test]
    fn a_permanent_refusal_is_not_retried() {
        let now = datetime!(1994-11-06 08:49:00 UTC);
        assert_eq!(check_response(&test_response(204, &[], ""), now), Ok(()));
        for (status, is_permanent) in [
            (301, true),
            (400, true),
            (404, true),
            (410, true),
            (408, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            let failure = check_response(&test_response(status, &[], ""), now).unwrap_err();
            assert_eq!(failure.is_permanent(), is_permanent, "{status}");
        }
        let failure = check_response(&test_response(400, &[], "invalid_blocks\n"), now).unwrap_err();
        assert_eq!(failure.to_string(), "HTTP status 400 (invalid_blocks)");
        let failure =
            check_response(&test_response(403, &[], "https://hooks.test/T0/secret"), now).unwrap_err();
        assert_eq!(failure.to_string(), "HTTP status 403", "a body may repeat the URL");
        let failure = check_response(&test_response(308, &[], ""), now).unwrap_err().to_string();
        assert!(failure.starts_with("HTTP status 308, a redirect"), "{failure}");
    }

    #[test]
    fn the_receiver_says_when_to_retry() {
        let now = datetime!(1994-11-06 08:49:00 UTC);
        for (text, expected) in [
            ("7", Some(7_000)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37_000)),
            ("Sun, 06 Nov 1994 08:48:00 GMT", Some(0)),
            ("soon", None),
        ] {
            let failure = check_response(&test_response(429, &[("retry-after", text)], ""), now).unwrap_err();
            assert_eq!(failure.retry_after_millis(), expected, "{text}");
        }
    }

    #[test]
    fn an_error_does_not_contain_the_secret_path() {
        let url = WebhookUrl::parse(&Secret::new("https://hooks.test/T0/token?key=value")).unwrap();
        let error = HttpClientError::Failed("`https://hooks.test/T0/token?key=value` is down".to_owned());
        assert_eq!(error_without_path(&error, &url), "`https://hooks.test/...` is down");
    }
}
