//! The sign-in page: a button for each person of the demo, and a form for anybody else.
//!
//! What the client sent is carried through the forms as it came, escaped.

use super::DEMO_USERS;
use std::collections::HashMap;

const PAGE_STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:2rem auto;padding:0 1rem}:root{color-scheme:light dark}\
    .stand-in{border:2px dashed;border-radius:.5rem;padding:.5rem .8rem}\
    button,input{font:inherit;padding:.5rem .8rem;border-radius:.4rem;border:1px solid}\
    button{cursor:pointer}.person{display:block;width:100%;margin:.6rem 0;text-align:left}\
    input{display:block;width:100%;box-sizing:border-box;margin:.2rem 0 .8rem}summary{cursor:pointer;margin-top:1.2rem}";

/// The page for a request with these fields.
pub(super) fn render_sign_in_page(fields: &HashMap<String, String>) -> String {
    let mut kept: Vec<_> = fields
        .iter()
        .filter(|(name, _value)| !["person", "sub", "groups"].contains(&name.as_str()))
        .collect();
    kept.sort();
    let hidden: Vec<String> = kept
        .into_iter()
        .map(|(name, value)| {
            format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">", escape_html(name), escape_html(value))
        })
        .collect();
    let hidden = hidden.concat();
    let buttons: Vec<String> = DEMO_USERS
        .iter()
        .map(|person| {
            format!(
                "<button class=\"person\" name=\"person\" value=\"{}\"><strong>{}</strong>, {}</button>",
                person.subject, person.name, person.description
            )
        })
        .collect();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Who are you? Durward's stand-in issuer</title><style>{PAGE_STYLE}</style></head><body><main><h1>Who are you?</h1>\
         <p class=\"stand-in\"><strong>This is the demo's stand-in</strong> for your organisation's sign-in page. It asks for no \
         password and believes everybody.</p>\
         <form action=\"/authorize\">{hidden}{}</form>\
         <details><summary>Somebody else</summary><form action=\"/authorize\">{hidden}\
         <label>Subject <input name=\"sub\" required autocomplete=\"off\"></label>\
         <label>Groups, with commas <input name=\"groups\" autocomplete=\"off\"></label>\
         <button>Sign in</button></form></details></main></body></html>",
        buttons.concat()
    )
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
