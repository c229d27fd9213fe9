//! `durward journal` and `durward sessions`.
use std::io::Write;
use std::path::Path;
pub fn verify(dir: &Path, out: &mut dyn Write) -> std::io::Result<u8> {
    match durward_journal::verify(dir) {
        Ok(verified) => writeln!(out, "{verified:?}").map(|()| 0),
        Err(broken) => writeln!(out, "{broken}").map(|()| 1),
    }
}
pub fn sessions_ls(_dir: &Path, _json: bool, _out: &mut dyn Write) -> std::io::Result<u8> {
    Ok(0)
}
pub fn sessions_show(_dir: &Path, _id: &str, _json: bool, _out: &mut dyn Write) -> std::io::Result<u8> {
    Ok(0)
}
