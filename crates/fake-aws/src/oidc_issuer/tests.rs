use super::*;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn start_issuer() -> FakeOidcIssuer {
    FakeOidcIssuer::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("started")
}

async fn send_with_host(
    issuer: &FakeOidcIssuer,
    host: &str,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(issuer.address()).await.expect("connected");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("responded");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

async fn send_request(issuer: &FakeOidcIssuer, method: &str, path: &str, body: &str) -> (u16, String) {
    send_with_host(issuer, &format!("Host: {}\r\n", issuer.address()), method, path, body).await
}

/// The claims, if another implementation verifies the token with the published keys.
async fn verify_token(issuer: &FakeOidcIssuer, token: &str) -> Option<Value> {
    let discovery: Value =
        serde_json::from_str(&send_request(issuer, "GET", "/.well-known/openid-configuration", "").await.1)
            .expect("a document");
    assert_eq!(discovery["issuer"], issuer.url());
    let path = discovery["jwks_uri"]
        .as_str()
        .and_then(|uri| uri.strip_prefix(issuer.url()))
        .expect("below the issuer");
    let keys: JwkSet =
        serde_json::from_str(&send_request(issuer, "GET", path, "").await.1).expect("a key set");
    let kid = jsonwebtoken::decode_header(token).expect("a header").kid.expect("a key id");
    let key = DecodingKey::from_jwk(keys.find(&kid)?).expect("a key");
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&[issuer.url()]);
    validation.validate_aud = false;
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    Some(jsonwebtoken::decode::<Value>(token, &key, &validation).expect("verified").claims)
}

#[tokio::test]
async fn issues_tokens_that_verify_with_its_published_keys() {
    let issuer = start_issuer().await;
    let token = issuer.issue_token("agent-7", &["agents", "sre"], "durward", Duration::from_mins(5));
    let claims = verify_token(&issuer, &token).await.expect("published");
    assert_eq!(
        (&claims["sub"], &claims["groups"], &claims["aud"]),
        (&json!("agent-7"), &json!(["agents", "sre"]), &json!("durward"))
    );
    assert_eq!(claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat"), 300);
}

#[tokio::test]
async fn publishes_the_previous_key_until_the_next_rotation() {
    let issuer = start_issuer().await;
    let issue = || issuer.issue_token("agent", &[], "durward", DEFAULT_TOKEN_LIFETIME);
    let first = issue();
    issuer.rotate_key().expect("rotated");
    let second = issue();
    assert!(verify_token(&issuer, &first).await.is_some());
    assert!(verify_token(&issuer, &second).await.is_some());
    issuer.rotate_key().expect("rotated");
    assert!(verify_token(&issuer, &first).await.is_none());
    assert!(verify_token(&issuer, &second).await.is_some());
}

#[tokio::test]
async fn issues_tokens_by_query_and_by_form() {
    let issuer = start_issuer().await;
    let query = "/token?sub=jane%20doe&groups=a,b&groups=c&aud=x&aud=y&lifetime=60";
    let form = "sub=jane+doe&groups=a%2Cb%2Cc&aud=x&aud=y&lifetime=60\n";
    for (method, path, body) in [("GET", query, ""), ("POST", "/token", form)] {
        let (status, token) = send_request(&issuer, method, path, body).await;
        assert_eq!(status, 200, "{token}");
        let claims = verify_token(&issuer, token.trim()).await.expect("published");
        assert_eq!(
            (&claims["sub"], &claims["groups"], &claims["aud"]),
            (&json!("jane doe"), &json!(["a", "b", "c"]), &json!(["x", "y"]))
        );
    }
    let (_, token) = send_request(&issuer, "GET", "/token?sub=agent&groups=&aud=", "").await;
    let claims = verify_token(&issuer, token.trim()).await.expect("published");
    assert_eq!((&claims["groups"], &claims["aud"]), (&json!([]), &json!("durward")));
}

#[tokio::test]
async fn refuses_unknown_parameters_methods_and_paths() {
    let issuer = start_issuer().await;
    for (status, method, path) in [
        (400, "GET", "/token"),
        (400, "GET", "/token?sub="),
        (400, "GET", "/token?sub=a&group=b"),
        (400, "GET", "/token?sub=a&lifetime=0"),
        (400, "GET", "/token?sub=a&lifetime=86401"),
        (400, "GET", "/token?sub=a&lifetime=1h"),
        (400, "GET", "/token?sub=%ff"),
        (405, "DELETE", "/token"),
        (405, "POST", "/keys"),
        (404, "GET", "/"),
    ] {
        assert_eq!(send_request(&issuer, method, path, "").await.0, status, "{method} {path}");
    }
    assert_eq!(send_request(&issuer, "POST", "/token", &"a".repeat(MAX_FORM_BYTES + 1)).await.0, 400);
}

#[tokio::test]
async fn refuses_every_host_that_is_not_loopback() {
    let outside = FakeOidcIssuer::start(SocketAddr::from(([0, 0, 0, 0], 0))).await;
    assert_eq!(outside.err().map(|error| error.kind()), Some(io::ErrorKind::InvalidInput));
    let issuer = start_issuer().await;
    for host in ["localhost", "localhost:1", "127.0.0.1", "[::1]:80"] {
        assert_eq!(
            send_with_host(&issuer, &format!("Host: {host}\r\n"), "GET", "/keys", "").await.0,
            200,
            "{host}"
        );
    }
    for hosts in [
        "Host: evil.example\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
        "Host: localhost@evil.example\r\n",
        "Host: \r\n",
        "",
        "Host: localhost\r\nHost: evil.example\r\n",
    ] {
        assert_eq!(send_with_host(&issuer, hosts, "GET", "/token?sub=a", "").await.0, 421, "{hosts}");
    }
}

#[tokio::test]
async fn stops_when_dropped() {
    let issuer = start_issuer().await;
    let address = issuer.address();
    assert_eq!(send_request(&issuer, "GET", "/keys", "").await.0, 200);
    drop(issuer);
    tokio::task::yield_now().await;
    TcpListener::bind(address).await.expect("the port is free again");
}

/// The path of a sign-in of client `c` with the verifier `secret`.
fn authorization_path(redirect: &str, more: &str) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, b"secret"));
    format!(
        "/authorize?response_type=code&client_id=c&redirect_uri={redirect}&state=s%26s&nonce=n&code_challenge={challenge}\
         &code_challenge_method=S256{more}"
    )
}

const REDIRECT_URI: &str = "http%3A%2F%2F127.0.0.1%3A1%2Fback";

/// The URL to which a sign-in redirects the browser.
async fn fetch_redirect(issuer: &FakeOidcIssuer, path: &str) -> String {
    let mut stream = TcpStream::connect(issuer.address()).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", issuer.address());
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("responded");
    assert!(response.starts_with("HTTP/1.1 303 "), "{response}");
    let line = response.lines().find_map(|line| line.strip_prefix("location: "));
    line.expect("a location").trim().to_owned()
}

async fn fetch_code(issuer: &FakeOidcIssuer, path: &str) -> String {
    let to = fetch_redirect(issuer, path).await;
    assert!(to.starts_with("http://127.0.0.1:1/back?code=") && to.contains("&state=s%26s&iss=http"), "{to}");
    to.split_once("code=").expect("a code").1.split('&').next().expect("a code").to_owned()
}

fn token_request_form(code: &str, redirect: &str, client: &str, verifier: &str) -> String {
    format!(
        "grant_type=authorization_code&code={code}&redirect_uri={redirect}&client_id={client}&code_verifier={verifier}"
    )
}

#[tokio::test]
async fn exchanges_a_code_once_and_only_for_its_pkce_verifier() {
    let issuer = start_issuer().await;
    let elsewhere = "http%3A%2F%2F127.0.0.1%3A1%2Fback%2F";
    for (verifier, client, redirect, wanted) in [
        ("secret", "c", REDIRECT_URI, 200),
        ("guess", "c", REDIRECT_URI, 400),
        ("", "c", REDIRECT_URI, 400),
        ("secret", "d", REDIRECT_URI, 400),
        ("secret", "c", elsewhere, 400),
    ] {
        let code = fetch_code(&issuer, &authorization_path(REDIRECT_URI, "&sub=alice&groups=a,b")).await;
        let (status, body) =
            send_request(&issuer, "POST", "/token", &token_request_form(&code, redirect, client, verifier))
                .await;
        assert_eq!(status, wanted, "{verifier} {client} {redirect}: {body}");
        if wanted == 200 {
            let tokens: Value = serde_json::from_str(&body).expect("JSON");
            let claims =
                verify_token(&issuer, tokens["id_token"].as_str().expect("a token")).await.expect("verified");
            assert_eq!(
                (&claims["sub"], &claims["aud"], &claims["nonce"], &claims["groups"], &claims["name"]),
                (&json!("alice"), &json!("c"), &json!("n"), &json!(["a", "b"]), &json!("alice"))
            );
            let lifetime = claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat");
            assert_eq!(tokens["expires_in"], lifetime);
        }
        let again = token_request_form(&code, REDIRECT_URI, "c", "secret");
        assert_eq!(send_request(&issuer, "POST", "/token", &again).await.0, 400, "a code is valid once");
    }
}

#[tokio::test]
async fn refuses_an_expired_code() {
    let issuer = start_issuer().await;
    let code = fetch_code(&issuer, &authorization_path(REDIRECT_URI, "&user=ann")).await;
    issuer.state.pending_codes.age_codes(Duration::from_mins(1));
    assert_eq!(
        send_request(&issuer, "POST", "/token", &token_request_form(&code, REDIRECT_URI, "c", "secret"))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn refuses_a_sign_in_without_pkce_or_to_another_machine() {
    let issuer = start_issuer().await;
    assert_eq!(send_request(&issuer, "GET", &authorization_path(REDIRECT_URI, ""), "").await.0, 200);
    for redirect in [
        "https%3A%2F%2Fevil.example%2F",
        "http%3A%2F%2F127.0.0.1%40evil.example%2F",
        "javascript%3Aalert(1)",
        "ftp%3A%2F%2F127.0.0.1%2F",
        "http%3A%2F%2F127.0.0.1%2F%23a",
        "%2Fback",
        "",
    ] {
        assert_eq!(
            send_request(&issuer, "GET", &authorization_path(redirect, "&user=ann"), "").await.0,
            400,
            "{redirect}"
        );
    }
    for (original, replacement) in [
        ("code_challenge_method=S256", "code_challenge_method=plain"),
        ("code_challenge_method=S256", ""),
        ("response_type=code", "response_type=token"),
        ("client_id=c&", ""),
    ] {
        let path = authorization_path(REDIRECT_URI, "&user=ann").replace(original, replacement);
        assert_eq!(send_request(&issuer, "GET", &path, "").await.0, 400, "{replacement}");
    }
    for more in ["&user=ann&nonce=m", "&user=dave", "&user=ann&groups=sre", "&user=ann&sub=bob"] {
        assert_eq!(
            send_request(&issuer, "GET", &authorization_path(REDIRECT_URI, more), "").await.0,
            400,
            "{more}"
        );
    }
}

#[tokio::test]
async fn offers_and_signs_in_each_demo_user() {
    let issuer = start_issuer().await;
    let (status, page) =
        send_request(&issuer, "GET", &authorization_path(REDIRECT_URI, "&scope=%22%3E%3Cscript%3E"), "")
            .await;
    assert_eq!(status, 200);
    assert!(page.contains("demo's fake sign-in page") && !page.contains("<script>"), "{page}");
    assert!(page.contains("name=\"state\" value=\"s&amp;s\""), "{page}");
    for user in DEMO_USERS {
        assert!(page.contains(&format!("name=\"user\" value=\"{}\"", user.subject)), "{page}");
        let code =
            fetch_code(&issuer, &authorization_path(REDIRECT_URI, &format!("&user={}", user.subject))).await;
        let (_status, body) =
            send_request(&issuer, "POST", "/token", &token_request_form(&code, REDIRECT_URI, "c", "secret"))
                .await;
        let tokens: Value = serde_json::from_str(&body).expect("JSON");
        let claims =
            verify_token(&issuer, tokens["id_token"].as_str().expect("a token")).await.expect("verified");
        assert_eq!(
            (&claims["sub"], &claims["name"], &claims["groups"]),
            (&json!(user.subject), &json!(user.name), &json!(user.groups))
        );
    }
}
