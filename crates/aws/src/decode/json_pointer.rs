//! JSON Pointers (RFC 6901) to parameters.

/// The JSON Pointer to a top-level name.
pub(super) fn json_pointer(name: &str) -> String {
    let mut pointer = String::with_capacity(name.len() + 1);
    push_pointer_token(&mut pointer, name);
    pointer
}

/// Appends one reference token, escaped.
pub(super) fn push_pointer_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    if !token.contains(['~', '/']) {
        pointer.push_str(token);
        return;
    }
    for c in token.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}
