//! Text from outside, made safe for logs and error messages.

/// Characters of one text.
const MAX_ERROR_TEXT_CHARS: usize = 300;
/// A shorter secret is not searched for: it would occur in harmless text by chance.
const MIN_SEARCHED_SECRET_BYTES: usize = 8;

/// One printable line of limited length. A text that repeats one of `secrets` is withheld: a server may echo a request.
pub(crate) fn sanitize_error_text(text: &str, secrets: &[&str]) -> String {
    if secrets.iter().any(|secret| secret.len() >= MIN_SEARCHED_SECRET_BYTES && text.contains(secret)) {
        return "(withheld: the text repeats a secret)".to_owned();
    }
    text.chars()
        .take(MAX_ERROR_TEXT_CHARS)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}
