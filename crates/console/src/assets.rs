//! The style sheet, the script and the icon, embedded in the binary. Each name contains a hash of the content.

use aws_lc_rs::digest;
use durward_core::encode_hex;

const STYLE_SHEET: &str = include_str!("../assets/console.css");
const SCRIPT: &str = include_str!("../assets/console.js");
const ICON: &str = include_str!("../assets/icon.svg");

pub struct StaticAsset {
    name: String,
    pub content_type: &'static str,
    pub content: &'static str,
}

/// The files that every page loads.
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
            |name: &str, content_type, content| StaticAsset { name: name.to_owned(), content_type, content };
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

    pub fn find(&self, name: &str) -> Option<&StaticAsset> {
        self.files.iter().find(|asset| asset.name == name)
    }
}

fn hashed_name(stem: &str, extension: &str, content: &str) -> String {
    let hash = digest::digest(&digest::SHA256, content.as_bytes());
    // Eight bytes are enough to tell versions apart; nothing relies on the hash for security.
    let prefix: Vec<u8> = hash.as_ref().iter().copied().take(8).collect();
    format!("{stem}-{}.{extension}", encode_hex(&prefix))
}
