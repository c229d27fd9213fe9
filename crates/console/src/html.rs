//! The common parts of all pages: frame, error pages and redirects.

use crate::{
    display_text::DisplayText, logins::SignedInUser, state::ConsoleState, template_filters as filters,
};
use askama::Template;
use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};

/// The frame around a page: assets, menu and the signed-in user.
pub struct PageFrame {
    pub style_path: String,
    pub script_path: String,
    pub icon_path: String,
    /// The menu item to which the page belongs.
    pub active_menu_item: &'static str,
    pub person: Option<PersonView>,
}

pub struct PersonView {
    pub name: DisplayText,
    pub id: DisplayText,
    pub csrf_token: String,
}

impl PageFrame {
    pub fn new(state: &ConsoleState, user: Option<&SignedInUser>, active_menu_item: &'static str) -> Self {
        Self {
            style_path: state.assets.style_path.clone(),
            script_path: state.assets.script_path.clone(),
            icon_path: state.assets.icon_path.clone(),
            active_menu_item,
            person: user.map(|user| PersonView {
                name: DisplayText::new(&user.person.name),
                id: DisplayText::new(&user.person.id),
                csrf_token: user.csrf_token.clone(),
            }),
        }
    }
}

pub fn render_page(status: StatusCode, template: &impl Template) -> Response<Body> {
    let mut response = match template.render() {
        Ok(text) => Response::new(Body::from(text)),
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            let mut response = Response::new(Body::from("the page cannot be rendered\n"));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return response;
        }
    };
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: PageFrame,
    title: &'a str,
    message: DisplayText,
    link: PageLink,
}

/// Where the button of an error page leads.
pub struct PageLink {
    pub path: &'static str,
    pub text: &'static str,
}

/// A page that says what is wrong and what to do about it. Its button leads to the approvals or, without a user, to the
/// sign-in.
pub fn error_page(
    state: &ConsoleState,
    user: Option<&SignedInUser>,
    status: StatusCode,
    title: &str,
    message: &str,
) -> Response<Body> {
    let link = match user {
        Some(_user) => PageLink { path: "/", text: "Go to approvals" },
        None => PageLink { path: "/signin", text: "Sign in" },
    };
    error_page_with_link(state, user, status, title, message, link)
}

/// An [`error_page`] whose button leads elsewhere.
pub fn error_page_with_link(
    state: &ConsoleState,
    user: Option<&SignedInUser>,
    status: StatusCode,
    title: &str,
    message: &str,
    link: PageLink,
) -> Response<Body> {
    let frame = PageFrame::new(state, user, "");
    render_page(status, &ErrorPage { frame, title, message: DisplayText::new(message), link })
}

/// The page for a failure of the gateway. The error goes to the log; the page does not show it.
pub fn internal_error_page(
    state: &ConsoleState,
    user: Option<&SignedInUser>,
    error: &dyn std::fmt::Display,
) -> Response<Body> {
    tracing::error!(%error, "the console failed");
    error_page(
        state,
        user,
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal error",
        "The gateway could not handle this request, and its log says why. Nothing was changed. Try again.",
    )
}

pub fn redirect_see_other(location: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    // 303 makes the browser load the page by GET (RFC 9110 section 15.4.4), so that a reload does not send the form again.
    *response.status_mut() = StatusCode::SEE_OTHER;
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, location);
    response
}
