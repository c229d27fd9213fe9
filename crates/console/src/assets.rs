//! The style sheet, the script and the icon, served from the binary under names that hold their hash.

use crate::ConsoleState;
use aws_lc_rs::digest;
use axum::{
    body::Body,
    extract::{Path, State},
};
use http::{HeaderValue, Response, StatusCode, header};
use std::{fmt::Write as _, sync::Arc};

const STYLE_SHEET: &str = include_str!("../assets/console.css");
const SCRIPT: &str = include_str!("../assets/console.js");
const ICON: &str = include_str!("../assets/icon.svg");

struct StaticAsset {
    name: String,
    content_type: &'static str,
    content: &'static str,
}

/// What every page loads.
pub struct StaticAssets {
    pub style_path: String,
    pub script_path: String,
    pub icon_path: String,
    files: Vec<StaticAsset>,
}

impl StaticAssets {
    pub fn embedded() -> Self {
        let style = hashed_name("console", "css", STYLE_SHEET);
        let script = hashed_name("console", "js", SCRIPT);
        let icon = hashed_name("icon", "svg", ICON);
        let asset =
            |name: &str, kind, text| StaticAsset { name: name.to_owned(), content_type: kind, content: text };
        Self {
            files: vec![
                asset(&style, "text/css; charset=utf-8", STYLE_SHEET),
                asset(&script, "text/javascript; charset=utf-8", SCRIPT),
                asset(&icon, "image/svg+xml", ICON),
            ],
            style_path: format!("/assets/{style}"),
            script_path: format!("/assets/{script}"),
            icon_path: format!("/assets/{icon}"),
        }
    }
}

fn hashed_name(stem: &str, extension: &str, text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let hex = hash.as_ref().iter().take(8).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
        hex
    });
    format!("{stem}-{hex}.{extension}")
}

/// `GET /assets/{name}`: the name changes with the content, so browsers may keep it.
pub async fn serve_asset(State(inner): State<Arc<ConsoleState>>, Path(name): Path<String>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    match inner.assets.files.iter().find(|asset| asset.name == name) {
        Some(asset) => {
            *response.body_mut() = Body::from(asset.content);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
            headers.insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("public, max-age=31536000, immutable"),
            );
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}
