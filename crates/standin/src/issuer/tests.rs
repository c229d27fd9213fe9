use super::*;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn start() -> Issuer {
    Issuer::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("started")
}

async fn ask_as(issuer: &Issuer, host: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(issuer.address()).await.expect("connected");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

async fn ask(issuer: &Issuer, method: &str, path: &str, body: &str) -> (u16, String) {
    ask_as(issuer, &format!("Host: {}\r\n", issuer.address()), method, path, body).await
}

/// The claims, if the token verifies with the published keys by an implementation that is not ours.
async fn verified(issuer: &Issuer, token: &str) -> Option<Value> {
    let discovery: Value =
        serde_json::from_str(&ask(issuer, "GET", "/.well-known/openid-configuration", "").await.1)
            .expect("a document");
    assert_eq!(discovery["issuer"], issuer.url());
    let path = discovery["jwks_uri"]
        .as_str()
        .and_then(|uri| uri.strip_prefix(issuer.url()))
        .expect("below the issuer");
    let keys: JwkSet = serde_json::from_str(&ask(issuer, "GET", path, "").await.1).expect("a key set");
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
    let issuer = start().await;
    let token = issuer.issue("agent-7", &["agents", "sre"], "durward", Duration::from_mins(5));
    let claims = verified(&issuer, &token).await.expect("published");
    assert_eq!(
        (&claims["sub"], &claims["groups"], &claims["aud"]),
        (&json!("agent-7"), &json!(["agents", "sre"]), &json!("durward"))
    );
    assert_eq!(claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat"), 300);
}

#[tokio::test]
async fn publishes_the_previous_key_until_the_next_rotation() {
    let issuer = start().await;
    let issue = || issuer.issue("agent", &[], "durward", LIFETIME);
    let first = issue();
    issuer.rotate().expect("rotated");
    let second = issue();
    assert!(verified(&issuer, &first).await.is_some());
    assert!(verified(&issuer, &second).await.is_some());
    issuer.rotate().expect("rotated");
    assert!(verified(&issuer, &first).await.is_none());
    assert!(verified(&issuer, &second).await.is_some());
}

#[tokio::test]
async fn answers_scripts_by_query_and_by_form() {
    let issuer = start().await;
    let query = "/token?sub=jane%20doe&groups=a,b&groups=c&aud=x&aud=y&lifetime=60";
    let form = "sub=jane+doe&groups=a%2Cb%2Cc&aud=x&aud=y&lifetime=60\n";
    for (method, path, body) in [("GET", query, ""), ("POST", "/token", form)] {
        let (status, token) = ask(&issuer, method, path, body).await;
        assert_eq!(status, 200, "{token}");
        let claims = verified(&issuer, token.trim()).await.expect("published");
        assert_eq!(
            (&claims["sub"], &claims["groups"], &claims["aud"]),
            (&json!("jane doe"), &json!(["a", "b", "c"]), &json!(["x", "y"]))
        );
    }
    let (_, token) = ask(&issuer, "GET", "/token?sub=agent&groups=&aud=", "").await;
    let claims = verified(&issuer, token.trim()).await.expect("published");
    assert_eq!((&claims["groups"], &claims["aud"]), (&json!([]), &json!("durward")));
}

#[tokio::test]
async fn refuses_what_it_does_not_understand() {
    let issuer = start().await;
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
        assert_eq!(ask(&issuer, method, path, "").await.0, status, "{method} {path}");
    }
    assert_eq!(ask(&issuer, "POST", "/token", &"a".repeat(FORM + 1)).await.0, 400);
}

#[tokio::test]
async fn serves_loopback_only_whatever_name_leads_there() {
    let outside = Issuer::start(SocketAddr::from(([0, 0, 0, 0], 0))).await;
    assert_eq!(outside.err().map(|error| error.kind()), Some(io::ErrorKind::InvalidInput));
    let issuer = start().await;
    for host in ["localhost", "localhost:1", "127.0.0.1", "[::1]:80"] {
        assert_eq!(ask_as(&issuer, &format!("Host: {host}\r\n"), "GET", "/keys", "").await.0, 200, "{host}");
    }
    for hosts in [
        "Host: evil.example\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
        "Host: localhost@evil.example\r\n",
        "Host: \r\n",
        "",
        "Host: localhost\r\nHost: evil.example\r\n",
    ] {
        assert_eq!(ask_as(&issuer, hosts, "GET", "/token?sub=a", "").await.0, 421, "{hosts}");
    }
}

#[tokio::test]
async fn stops_when_dropped() {
    let issuer = start().await;
    let address = issuer.address();
    assert_eq!(ask(&issuer, "GET", "/keys", "").await.0, 200);
    drop(issuer);
    tokio::task::yield_now().await;
    TcpListener::bind(address).await.expect("the port is free again");
}

#[tokio::test]
async fn trades_a_code_once_for_who_proves_that_they_asked() {
    let issuer = start().await;
    let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, b"secret"));
    let begin = |redirect: &str, more: &str| {
        format!(
            "/authorize?response_type=code&client_id=c&redirect_uri={redirect}&state=s&nonce=n&code_challenge={challenge}\
             &code_challenge_method=S256{more}"
        )
    };
    let ours = "http%3A%2F%2F127.0.0.1%3A1%2Fback";
    let (status, page) = ask(&issuer, "GET", &begin(ours, ""), "").await;
    assert!(status == 200 && page.contains("name=\"sub\""), "{page}");
    for (redirect, more) in [("https%3A%2F%2Fevil.example%2F", "&sub=a"), (ours, "&sub=a&nonce=m")] {
        assert_eq!(ask(&issuer, "GET", &begin(redirect, more), "").await.0, 400, "{redirect} {more}");
    }
    for (verifier, client, wanted) in [("secret", "c", 200), ("guess", "c", 400), ("secret", "d", 400)] {
        let mut stream = TcpStream::connect(issuer.address()).await.expect("connected");
        let path = begin(ours, "&sub=alice&groups=a,b");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", issuer.address());
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        let code = answer.split_once("code=").expect("a code").1.split('&').next().expect("a code");
        let form = format!(
            "grant_type=authorization_code&code={code}&redirect_uri={ours}&client_id={client}&code_verifier={verifier}"
        );
        let (status, body) = ask(&issuer, "POST", "/token", &form).await;
        assert_eq!(status, wanted, "{verifier} {client}: {body}");
        if wanted == 200 {
            let tokens: Value = serde_json::from_str(&body).expect("JSON");
            let claims =
                verified(&issuer, tokens["id_token"].as_str().expect("a token")).await.expect("verified");
            assert_eq!(
                (&claims["sub"], &claims["aud"], &claims["nonce"], &claims["groups"]),
                (&json!("alice"), &json!("c"), &json!("n"), &json!(["a", "b"]))
            );
        }
        assert_eq!(ask(&issuer, "POST", "/token", &form).await.0, 400, "a code is good once");
    }
}
