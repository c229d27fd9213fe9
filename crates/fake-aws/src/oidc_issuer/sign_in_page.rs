//! The sign-in page: a button for each demo user, and a form for any other subject.
//!
//! The parameters of the client go through the forms unchanged, HTML-escaped.

use super::DEMO_USERS;
use std::collections::HashMap;

const PAGE_STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:2rem auto;padding:0 1rem}:root{color-scheme:light dark}\
    .fake-issuer{border:2px dashed;border-radius:.5rem;padding:.5rem .8rem}\
    button,input{font:inherit;padding:.5rem .8rem;border-radius:.4rem;border:1px solid}\
    button{cursor:pointer}.user{display:block;width:100%;margin:.6rem 0;text-align:left}\
    input{display:block;width:100%;box-sizing:border-box;margin:.2rem 0 .8rem}summary{cursor:pointer;margin-top:1.2rem}";

/// The page for a request with these fields.
pub(super) fn render_sign_in_page(fields: &HashMap<String, String>) -> String {
    let mut kept: Vec<_> =
        fields.iter().filter(|(name, _value)| !["user", "sub", "groups"].contains(&name.as_str())).collect();
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
        .map(|user| {
            format!(
                "<button class=\"user\" name=\"user\" value=\"{}\"><strong>{}</strong>, {}</button>",
                user.subject, user.name, user.description
            )
        })
        .collect();
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Sign in - Durward's fake OIDC issuer</title><style>{PAGE_STYLE}</style></head><body><main><h1>Sign in</h1>\
         <p class=\"fake-issuer\"><strong>This is the demo's fake sign-in page</strong>, in place of your organisation's. It asks for no \
         password.</p>\
         <form action=\"/authorize\">{hidden}{}</form>\
         <details><summary>Another user</summary><form action=\"/authorize\">{hidden}\
         <label>Subject <input name=\"sub\" required autocomplete=\"off\"></label>\
         <label>Groups, with commas <input name=\"groups\" autocomplete=\"off\"></label>\
         <button>Sign in</button></form></details></main></body></html>",
        buttons.concat()
    )
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
