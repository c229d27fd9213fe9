//! botocore's model of one service as the catalog's: protocols, routes and shapes, without documentation.

use super::catalog_error::CatalogError;
use super::overlay::Overlay;
use durward_catalog::{
    AwsProtocol, MemberLocation, ModelShape, OperationModel, ReturnedMember, ServiceModel, ShapeId,
    ShapeKind, ShapeMember,
};
use serde_json::Value;
use std::collections::BTreeMap;

pub fn build_service(id: &str, model: &Value, overlay: &Overlay) -> Result<ServiceModel, CatalogError> {
    let metadata = &model["metadata"];
    let text = |key: &str| metadata[key].as_str().map(str::to_owned);
    let mut interner =
        ShapeInterner { service_id: id, model, overlay, shape_ids: BTreeMap::new(), shapes: Vec::new() };
    let mut operations = Vec::new();
    // An object of serde_json is sorted by key, and so are the operations.
    for (name, source) in model["operations"].as_object().into_iter().flatten() {
        operations.push(read_operation(name, source, &mut interner)?);
    }
    let shapes = interner.finish()?;
    Ok(ServiceModel {
        id: id.to_owned(),
        iam_prefix: String::new(),
        signing_name: text("signingName").or_else(|| text("endpointPrefix")).unwrap_or_else(|| id.to_owned()),
        api_version: text("apiVersion").unwrap_or_default(),
        target_prefix: text("targetPrefix"),
        protocols: read_protocols(id, metadata, overlay)?,
        is_query_compatible: !metadata["awsQueryCompatible"].is_null(),
        xml_namespace: text("xmlNamespace")
            .or_else(|| metadata["xmlNamespace"]["uri"].as_str().map(str::to_owned)),
        operations,
        shapes,
    })
}

/// In the order botocore prefers them.
fn read_protocols(id: &str, metadata: &Value, overlay: &Overlay) -> Result<Vec<AwsProtocol>, CatalogError> {
    const PROTOCOL_PREFERENCE: [&str; 6] =
        ["json", "rest-json", "rest-xml", "smithy-rpc-v2-cbor", "query", "ec2"];
    let mut named: Vec<&str> = match metadata["protocols"].as_array() {
        Some(list) => list.iter().filter_map(Value::as_str).collect(),
        None => metadata["protocol"].as_str().into_iter().collect(),
    };
    named.extend(overlay.extra_protocols(id));
    let mut protocols = Vec::new();
    for protocol in PROTOCOL_PREFERENCE.into_iter().filter(|protocol| named.contains(protocol)) {
        protocols.push(match protocol {
            "json" if metadata["jsonVersion"].as_str() == Some("1.1") => AwsProtocol::Json11,
            "json" => AwsProtocol::Json10,
            "rest-json" => AwsProtocol::RestJson,
            "rest-xml" => AwsProtocol::RestXml,
            "smithy-rpc-v2-cbor" => AwsProtocol::RpcV2Cbor,
            "query" => AwsProtocol::Query,
            _ => AwsProtocol::Ec2,
        });
    }
    if named.len() != protocols.len() || protocols.is_empty() {
        return Err(CatalogError::unknown_form(
            id,
            format!("one of the protocols {named:?}; extend AwsProtocol"),
        ));
    }
    Ok(protocols)
}

fn read_operation(
    name: &str,
    source: &Value,
    interner: &mut ShapeInterner,
) -> Result<OperationModel, CatalogError> {
    let http = &source["http"];
    let uri = http["requestUri"].as_str().unwrap_or("/");
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !value.is_empty() => (key.to_owned(), Some(value.to_owned())),
            Some((key, _)) => (key.to_owned(), None),
            None => (pair.to_owned(), None),
        })
        .collect();
    let no_auth =
        source["auth"].as_array().is_some_and(|list| list.iter().any(|one| one == "smithy.api#noAuth"));
    let unsigned = no_auth || source["authtype"] == "none";
    let mut shape_of =
        |part: &Value| part["shape"].as_str().map(|_| interner.intern_reference(part)).transpose();
    Ok(OperationModel {
        name: name.to_owned(),
        http_method: http["method"].as_str().unwrap_or("POST").to_owned(),
        path_template: path.to_owned(),
        query_literals: query,
        input_shape: shape_of(&source["input"])?,
        output_shape: shape_of(&source["output"])?,
        host_prefix: source["endpoint"]["hostPrefix"].as_str().map(str::to_owned),
        required_actions: Vec::new(),
        traits: durward_core::OperationTraits::default(),
        is_unsigned: unsigned,
    })
}

/// A shape as one reference sees it: a reference may add streaming or a timestamp format.
type ShapeKey = (String, bool, Option<String>);

/// Numbers shapes in the order they are first reached from the sorted operations, so unreachable ones are left out.
struct ShapeInterner<'a> {
    service_id: &'a str,
    model: &'a Value,
    overlay: &'a Overlay,
    shape_ids: BTreeMap<ShapeKey, ShapeId>,
    shapes: Vec<Option<ModelShape>>,
}

impl ShapeInterner<'_> {
    fn intern_reference(&mut self, reference: &Value) -> Result<ShapeId, CatalogError> {
        let name = reference["shape"]
            .as_str()
            .ok_or_else(|| CatalogError::unknown_form(self.service_id, "a reference without shape"))?;
        let key = (
            name.to_owned(),
            reference["streaming"] == true,
            reference["timestampFormat"].as_str().map(str::to_owned),
        );
        if let Some(known) = self.shape_ids.get(&key) {
            return Ok(*known);
        }
        let id = self.shapes.len();
        self.shapes.push(None);
        self.shape_ids.insert(key.clone(), id as ShapeId);
        let kind = self.read_shape_kind(&key)?;
        let source = &self.model["shapes"][name];
        let shape = ModelShape { kind, is_sensitive: source["sensitive"] == true, has_marked_values: false };
        if let Some(slot) = self.shapes.get_mut(id) {
            *slot = Some(shape);
        }
        Ok(id as ShapeId)
    }

    fn read_shape_kind(&mut self, (name, streaming, format): &ShapeKey) -> Result<ShapeKind, CatalogError> {
        let source = &self.model["shapes"][name.as_str()];
        let located = |part: &Value| part["locationName"].as_str().map(str::to_owned);
        let flattened = source["flattened"] == true;
        Ok(match source["type"].as_str().unwrap_or_default() {
            "structure" if source["eventstream"] == true => ShapeKind::EventStream,
            "structure" if source["document"] == true => ShapeKind::Document,
            "structure" => ShapeKind::Structure {
                members: self.read_members(name)?,
                payload: source["payload"].as_str().map(str::to_owned),
                is_union: source["union"] == true,
            },
            "list" => ShapeKind::List {
                member: self.intern_reference(&source["member"])?,
                item_name: located(&source["member"]),
                is_flattened: flattened,
            },
            "map" => ShapeKind::Map {
                key: self.intern_reference(&source["key"])?,
                value: self.intern_reference(&source["value"])?,
                key_name: located(&source["key"]),
                value_name: located(&source["value"]),
                is_flattened: flattened,
            },
            "string" | "character" => ShapeKind::String,
            "blob" => ShapeKind::Blob { is_streaming: *streaming || source["streaming"] == true },
            "boolean" => ShapeKind::Boolean,
            "integer" => ShapeKind::Integer,
            "long" => ShapeKind::Long,
            "float" => ShapeKind::Float,
            "double" => ShapeKind::Double,
            "timestamp" => ShapeKind::Timestamp {
                format: format.clone().or_else(|| source["timestampFormat"].as_str().map(str::to_owned)),
            },
            other => {
                let problem = format!("shape {name} has the type {other:?}");
                return Err(CatalogError::unknown_form(self.service_id, problem));
            }
        })
    }

    fn read_members(&mut self, structure: &str) -> Result<Vec<ShapeMember>, CatalogError> {
        let model = self.model;
        let source = &model["shapes"][structure];
        let required =
            |name: &str| source["required"].as_array().is_some_and(|list| list.iter().any(|one| one == name));
        let mut members = Vec::new();
        for (name, reference) in source["members"].as_object().into_iter().flatten() {
            let wire = reference["locationName"].as_str();
            members.push(ShapeMember {
                name: name.clone(),
                wire_name: wire.filter(|wire| wire != name).map(str::to_owned),
                ec2_name: reference["queryName"].as_str().map(str::to_owned),
                shape: self.intern_reference(reference)?,
                location: read_location(reference).ok_or_else(|| {
                    CatalogError::unknown_form(self.service_id, format!("the location of {structure}.{name}"))
                })?,
                is_required: required(name),
                is_sensitive: reference["sensitive"] == true
                    || self.overlay.is_sensitive(self.service_id, structure, name),
                is_flattened: reference["flattened"] == true,
                is_xml_attribute: reference["xmlAttribute"] == true,
                returned: ReturnedMember::No,
            });
        }
        Ok(members)
    }

    fn finish(self) -> Result<Vec<ModelShape>, CatalogError> {
        let count = self.shapes.len();
        let shapes: Vec<ModelShape> = self.shapes.into_iter().flatten().collect();
        if shapes.len() == count {
            Ok(shapes)
        } else {
            Err(CatalogError::unknown_form(self.service_id, "a shape was numbered and not read"))
        }
    }
}

fn read_location(reference: &Value) -> Option<MemberLocation> {
    Some(match reference["location"].as_str() {
        None => MemberLocation::Body,
        Some("uri") => MemberLocation::Uri,
        Some("querystring") => MemberLocation::Query,
        Some("header") => MemberLocation::Header,
        Some("headers") => MemberLocation::PrefixHeaders,
        Some("statusCode") => MemberLocation::StatusCode,
        Some(_) => return None,
    })
}
