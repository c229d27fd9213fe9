//! S3: buckets and objects.

use super::response::{FakeAwsError, FakeAwsResponse, plain_response, xml_response};
use super::state::FakeAwsState;
use bytes::Bytes;
use durward_aws::sigv4::{percent_decode, sha256_hex};
use http::{Method, StatusCode};

/// Buckets and objects; the path style only.
pub fn execute_s3(
    state: &mut FakeAwsState,
    method: &Method,
    path: &str,
    query: &str,
    body: &Bytes,
) -> Result<FakeAwsResponse, FakeAwsError> {
    let (bucket, key) = bucket_and_key(path);
    let missing = |code: &'static str| {
        FakeAwsError::new(StatusCode::NOT_FOUND, code, "The specified bucket or key does not exist")
    };
    if bucket.is_empty() {
        let names: Vec<String> = state.buckets.keys().map(|name| format!("<Bucket><Name>{name}</Name><CreationDate>2026-11-21T00:00:00.000Z</CreationDate></Bucket>")).collect();
        let names = names.concat();
        return Ok(xml_response(format!(
            "<ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>fake-aws</ID></Owner><Buckets>{names}</Buckets></ListAllMyBucketsResult>"
        )));
    }
    if *method == Method::PUT && key.is_empty() {
        state.buckets.entry(bucket).or_default();
        return Ok(plain_response(StatusCode::OK, Bytes::new()));
    }
    let objects = state.buckets.get_mut(&bucket).ok_or_else(|| missing("NoSuchBucket"))?;
    match (method.as_str(), key.is_empty()) {
        ("DELETE", true) => {
            state.buckets.remove(&bucket);
            Ok(plain_response(StatusCode::NO_CONTENT, Bytes::new()))
        }
        ("DELETE", false) => {
            objects.remove(&key);
            Ok(plain_response(StatusCode::NO_CONTENT, Bytes::new()))
        }
        ("PUT", _) => {
            let etag = format!("\"{}\"", sha256_hex(body).get(..32).unwrap_or_default());
            objects.insert(key, body.clone());
            let mut response = plain_response(StatusCode::OK, Bytes::new());
            if let Ok(value) = http::HeaderValue::from_str(&etag) {
                response.headers_mut().insert("etag", value);
            }
            Ok(response)
        }
        (_, true) => {
            let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default();
            let prefix = String::from_utf8_lossy(&percent_decode(prefix)).into_owned();
            let keys: Vec<String> = objects.iter().filter(|(name, _body)| name.starts_with(&prefix)).map(|(name, body)| format!("<Contents><Key>{name}</Key><Size>{}</Size><LastModified>2026-11-21T00:00:00.000Z</LastModified><ETag>&quot;0&quot;</ETag><StorageClass>STANDARD</StorageClass></Contents>", body.len())).collect();
            Ok(xml_response(format!(
                "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{bucket}</Name><Prefix>{prefix}</Prefix><KeyCount>{}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{}</ListBucketResult>",
                keys.len(),
                keys.concat()
            )))
        }
        (_, false) => {
            let body = objects.get(&key).ok_or_else(|| missing("NoSuchKey"))?;
            Ok(plain_response(StatusCode::OK, body.clone()))
        }
    }
}

/// The bucket and the key of a path-style path; either may be empty.
pub fn bucket_and_key(path: &str) -> (String, String) {
    let decoded = String::from_utf8_lossy(&percent_decode(path)).into_owned();
    let path = decoded.strip_prefix('/').unwrap_or(&decoded);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    (bucket.to_owned(), key.to_owned())
}
