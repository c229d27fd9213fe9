//! The style sheet, the script and the icon, served from the binary under names that hold their hash.

use crate::Inner;
use aws_lc_rs::digest;
use axum::{
    body::Body,
    extract::{Path, State},
};
use http::{HeaderValue, Response, StatusCode, header};
use std::{fmt::Write as _, sync::Arc};

const STYLE: &str = include_str!("../assets/console.css");
const SCRIPT: &str = include_str!("../assets/console.js");
const ICON: &str = include_str!("../assets/icon.svg");

struct Asset {
    name: String,
    kind: &'static str,
    text: &'static str,
}

/// What every page loads.
pub struct Assets {
    pub style: String,
    pub script: String,
    pub icon: String,
    all: Vec<Asset>,
}

impl Assets {
    pub fn embedded() -> Self {
        let style = named("console", "css", STYLE);
        let script = named("console", "js", SCRIPT);
        let icon = named("icon", "svg", ICON);
        let asset = |name: &str, kind, text| Asset { name: name.to_owned(), kind, text };
        Self {
            all: vec![
                asset(&style, "text/css; charset=utf-8", STYLE),
                asset(&script, "text/javascript; charset=utf-8", SCRIPT),
                asset(&icon, "image/svg+xml", ICON),
            ],
            style: format!("/assets/{style}"),
            script: format!("/assets/{script}"),
            icon: format!("/assets/{icon}"),
        }
    }
}

fn named(stem: &str, extension: &str, text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let hex = hash.as_ref().iter().take(8).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
        hex
    });
    format!("{stem}-{hex}.{extension}")
}

/// `GET /assets/{name}`: the name changes with the content, so browsers may keep it.
pub async fn serve(State(inner): State<Arc<Inner>>, Path(name): Path<String>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    match inner.assets.all.iter().find(|asset| asset.name == name) {
        Some(asset) => {
            *response.body_mut() = Body::from(asset.text);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
            headers.insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("public, max-age=31536000, immutable"),
            );
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}
