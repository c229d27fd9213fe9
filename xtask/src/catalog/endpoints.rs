//! The endpoint table: the rulesets run for every known region, and the results folded into one rule per partition.
//!
//! FIPS and dual-stack endpoints are left out; the gateway sends to the plain ones.

use super::catalog_error::CatalogError;
use super::endpoint_ruleset;
use super::overlay::Overlay;
use super::source_packages::SourcePackages;
use durward_catalog::index_format::{EndpointTable, EndpointTarget, Partition, PartitionEndpoint};
use serde_json::Value;
use std::collections::BTreeMap;

/// A region name no partition lists, to see the rule behind the exceptions.
const UNLISTED_REGION: &str = "nowhere-7";

struct KnownPartition {
    partition: Partition,
    outputs: Value,
}

pub fn build_endpoint_table(
    sources: &SourcePackages,
    endpoint_prefixes: &BTreeMap<String, String>,
    overlay: &Overlay,
) -> Result<EndpointTable, CatalogError> {
    let known = read_partitions(&sources.load_partitions()?)?;
    let mut services = Vec::new();
    for (id, endpoint_prefix) in endpoint_prefixes {
        let ruleset = sources.load_ruleset(id)?;
        let reviewed = overlay.endpoints.get(id);
        let mut rules = Vec::new();
        for (at, one) in known.iter().enumerate() {
            rules.extend(partition_endpoint(at, one, &ruleset, endpoint_prefix, reviewed));
        }
        services.push((id.clone(), rules));
    }
    Ok(EndpointTable { partitions: known.into_iter().map(|one| one.partition).collect(), services })
}

/// The partitions of partitions.json, those with the longest prefixes first, as `us-gov-` must be seen before `us-`.
fn read_partitions(source: &Value) -> Result<Vec<KnownPartition>, CatalogError> {
    let mut known = Vec::new();
    for one in source["partitions"].as_array().into_iter().flatten() {
        let id = one["id"].as_str().unwrap_or_default().to_owned();
        let regex = one["regionRegex"].as_str().unwrap_or_default();
        let prefixes = region_prefixes(regex)
            .ok_or_else(|| CatalogError::unknown_form(&id, format!("region pattern {regex}")))?;
        let regions = one["regions"].as_object().into_iter().flatten().map(|(name, _)| name.clone());
        let regions = regions.filter(|name| !name.ends_with("-global")).collect();
        known.push(KnownPartition {
            partition: Partition { id, region_prefixes: prefixes, regions },
            outputs: one["outputs"].clone(),
        });
    }
    known.sort_by_key(|one| {
        let longest = one.partition.region_prefixes.iter().map(String::len).max().unwrap_or(0);
        (std::cmp::Reverse(longest), one.partition.id.clone())
    });
    Ok(known)
}

/// `^(us|eu)\-\w+\-\d+$` is `us-`, `eu-`; `^eusc\-(de)\-\w+\-\d+$` is `eusc-de-`.
fn region_prefixes(regex: &str) -> Option<Vec<String>> {
    let start = regex.strip_prefix('^')?.strip_suffix(r"\w+\-\d+$")?.replace(r"\-", "-");
    let Some((before, rest)) = start.split_once('(') else { return Some(vec![start]) };
    let (choices, after) = rest.split_once(')')?;
    Some(choices.split('|').map(|choice| format!("{before}{choice}{after}")).collect())
}

fn partition_endpoint(
    at: usize,
    one: &KnownPartition,
    ruleset: &Value,
    endpoint_prefix: &str,
    reviewed: Option<&String>,
) -> Option<PartitionEndpoint> {
    let suffix = one.outputs["dnsSuffix"].as_str().unwrap_or_default();
    if let Some(host) = reviewed {
        let host = host.replace("{suffix}", suffix);
        let target = EndpointTarget { host, signing_region: None, signing_name: None };
        return Some(PartitionEndpoint { partition_index: at as u32, target, region_overrides: Vec::new() });
    }
    let unlisted = format!("{}{UNLISTED_REGION}", one.partition.region_prefixes.first()?);
    let resolved = |region: &str| resolve_target(ruleset, one, region);
    let regular = resolved(&unlisted).unwrap_or_else(|| EndpointTarget {
        host: format!("{endpoint_prefix}.{{region}}.{suffix}"),
        signing_region: None,
        signing_name: None,
    });
    let mut exceptions = Vec::new();
    for region in &one.partition.regions {
        if let Some(target) = resolved(region).filter(|target| *target != regular) {
            exceptions.push((region.clone(), target));
        }
    }
    Some(PartitionEndpoint { partition_index: at as u32, target: regular, region_overrides: exceptions })
}

fn resolve_target(ruleset: &Value, one: &KnownPartition, region: &str) -> Option<EndpointTarget> {
    let parameters = BTreeMap::from([("Region".to_owned(), Value::String(region.to_owned()))]);
    let partition = |asked: &str| if asked.is_empty() { Value::Null } else { one.outputs.clone() };
    let endpoint = endpoint_ruleset::resolve_endpoint(ruleset, &parameters, &partition)?;
    let host = endpoint["url"].as_str()?.strip_prefix("https://")?;
    if host.contains('/') || host.is_empty() {
        return None;
    }
    let schemes = endpoint["properties"]["authSchemes"].as_array();
    let scheme = schemes.into_iter().flatten().find(|scheme| scheme["name"] == "sigv4");
    let text = |key: &str| scheme.and_then(|scheme| scheme[key].as_str()).map(str::to_owned);
    Some(EndpointTarget {
        host: host.replace(region, "{region}"),
        signing_region: text("signingRegion").filter(|signing| signing != region),
        signing_name: text("signingName"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_prefixes_from_region_patterns() {
        assert_eq!(region_prefixes(r"^(us|eu)\-\w+\-\d+$"), Some(vec!["us-".to_owned(), "eu-".to_owned()]));
        assert_eq!(region_prefixes(r"^us\-gov\-\w+\-\d+$"), Some(vec!["us-gov-".to_owned()]));
        assert_eq!(region_prefixes(r"^eusc\-(de)\-\w+\-\d+$"), Some(vec!["eusc-de-".to_owned()]));
        assert_eq!(region_prefixes(r"^.*$"), None);
    }
}
