//! The endpoints of services by region, from a table that the generator creates by running botocore's endpoint rules.
//!
//! A region becomes part of a host name. So only text that has the form of a region of a known partition is accepted: a caller who
//! could name a host would receive a request that is signed with the role's credential (server-side request forgery).

use crate::index_format::{EndpointTable, EndpointTarget, Partition};

/// The host to send a request to, and how to sign it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEndpoint {
    pub host: String,
    /// Differs from the requested region if the service is global (`us-east-1` for iam).
    pub signing_region: String,
    pub signing_name: String,
}

pub(crate) fn resolve_endpoint(
    table: &EndpointTable,
    id: &str,
    signing_name: &str,
    region: &str,
) -> Option<ServiceEndpoint> {
    let partition = find_partition(table, region)?;
    let at = table.services.binary_search_by(|(known, _)| known.as_str().cmp(id)).ok()?;
    let (_, rules) = table.services.get(at)?;
    let rule = rules.iter().find(|rule| {
        table.partitions.get(rule.partition_index as usize).is_some_and(|known| known.id == partition.id)
    })?;
    // The rule of the partition also covers regions that are newer than the table; only exceptions are listed one by one.
    let region_override = rule.region_overrides.iter().find(|(known, _)| known == region);
    let target: &EndpointTarget = region_override.map_or(&rule.target, |(_, target)| target);
    Some(ServiceEndpoint {
        host: target.host.replace("{region}", region),
        signing_region: target.signing_region.clone().unwrap_or_else(|| region.to_owned()),
        signing_name: target.signing_name.clone().unwrap_or_else(|| signing_name.to_owned()),
    })
}

/// The partition that lists `region`, or whose regions have its form: a prefix of the partition, a word, a hyphen, digits.
pub(crate) fn find_partition<'a>(table: &'a EndpointTable, region: &str) -> Option<&'a Partition> {
    table.partitions.iter().find(|partition| {
        partition.regions.iter().any(|known| known == region)
            || partition
                .region_prefixes
                .iter()
                .any(|prefix| region.strip_prefix(prefix.as_str()).is_some_and(is_region_suffix))
    })
}

/// Returns true if the text is like `central-1`: `\w+-\d+` of botocore's partitions.json, without the upper case and the
/// underscore that `\w` would let into a host name.
fn is_region_suffix(text: &str) -> bool {
    let Some((word, number)) = text.split_once('-') else { return false };
    !word.is_empty()
        && word.len() <= 32
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        && (1..=3).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}
