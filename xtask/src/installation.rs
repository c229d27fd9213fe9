//! Installing pinned programs and packages once.

use crate::repository::Repository;
use crate::xtask_error::XtaskError;
use std::path::Path;

/// Runs `install` unless it has run with the same pins. Their text is kept beside what was installed.
pub fn install_once(
    repository: &Repository,
    name: &str,
    pins: &[&Path],
    install: impl FnOnce() -> Result<(), XtaskError>,
) -> Result<(), XtaskError> {
    let mut wanted = String::new();
    for pin in pins {
        wanted += &std::fs::read_to_string(pin).map_err(XtaskError::on_file("read", *pin))?;
    }
    let stamp = repository.suites_directory.join(format!("{name}.installed"));
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    install()?;
    std::fs::create_dir_all(&repository.suites_directory)
        .map_err(XtaskError::on_file("create", &repository.suites_directory))?;
    std::fs::write(&stamp, wanted).map_err(XtaskError::on_file("write", &stamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_again_when_a_pin_changes_or_the_installation_failed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_path_buf();
        let repository = Repository {
            target_directory: root.join("target"),
            suites_directory: root.join("suites"),
            root: root.clone(),
        };
        let pin = root.join("pin.txt");
        std::fs::write(&pin, "1").unwrap();
        let installs = |succeeds: bool| {
            let mut ran = false;
            let outcome = install_once(&repository, "it", &[&pin], || {
                ran = true;
                if succeeds { Ok(()) } else { Err(XtaskError::NoTestRan) }
            });
            assert_eq!(outcome.is_ok(), succeeds || !ran);
            ran
        };
        assert!(installs(false), "nothing is installed");
        assert!(installs(true), "the first attempt failed");
        assert!(!installs(true), "nothing changed");
        std::fs::write(&pin, "2").unwrap();
        assert!(installs(true), "the pin changed");
    }
}
