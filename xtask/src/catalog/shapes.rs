//! botocore's model of one service as the catalog's: protocols, routes and shapes, without documentation.

use super::overlay::Overlay;
use durward_catalog::{Location, Member, Operation, Protocol, Service, Shape, ShapeId, ShapeKind};
use serde_json::Value;
use std::collections::BTreeMap;

pub fn service(id: &str, model: &Value, overlay: &Overlay) -> Result<Service, String> {
    let metadata = &model["metadata"];
    let text = |key: &str| metadata[key].as_str().map(str::to_owned);
    let mut interner = Interner { id, model, overlay, ids: BTreeMap::new(), shapes: Vec::new() };
    let mut operations = Vec::new();
    // An object of serde_json is sorted by key, and so are the operations.
    for (name, source) in model["operations"].as_object().into_iter().flatten() {
        operations.push(operation(name, source, &mut interner)?);
    }
    let shapes = interner.finish()?;
    Ok(Service {
        id: id.to_owned(),
        iam_prefix: String::new(),
        signing_name: text("signingName").or_else(|| text("endpointPrefix")).unwrap_or_else(|| id.to_owned()),
        api_version: text("apiVersion").unwrap_or_default(),
        target_prefix: text("targetPrefix"),
        protocols: protocols(id, metadata, overlay)?,
        query_compatible: !metadata["awsQueryCompatible"].is_null(),
        xml_namespace: text("xmlNamespace")
            .or_else(|| metadata["xmlNamespace"]["uri"].as_str().map(str::to_owned)),
        operations,
        shapes,
    })
}

/// In the order botocore prefers them.
fn protocols(id: &str, metadata: &Value, overlay: &Overlay) -> Result<Vec<Protocol>, String> {
    const PREFERENCE: [&str; 6] = ["json", "rest-json", "rest-xml", "smithy-rpc-v2-cbor", "query", "ec2"];
    let mut named: Vec<&str> = match metadata["protocols"].as_array() {
        Some(list) => list.iter().filter_map(Value::as_str).collect(),
        None => metadata["protocol"].as_str().into_iter().collect(),
    };
    named.extend(overlay.protocols(id));
    let mut protocols = Vec::new();
    for protocol in PREFERENCE.into_iter().filter(|protocol| named.contains(protocol)) {
        protocols.push(match protocol {
            "json" if metadata["jsonVersion"].as_str() == Some("1.1") => Protocol::Json11,
            "json" => Protocol::Json10,
            "rest-json" => Protocol::RestJson,
            "rest-xml" => Protocol::RestXml,
            "smithy-rpc-v2-cbor" => Protocol::RpcV2Cbor,
            "query" => Protocol::Query,
            _ => Protocol::Ec2,
        });
    }
    if named.len() != protocols.len() || protocols.is_empty() {
        return Err(format!(
            "{id} speaks {named:?}, of which the catalog does not know all; extend Protocol"
        ));
    }
    Ok(protocols)
}

fn operation(name: &str, source: &Value, interner: &mut Interner) -> Result<Operation, String> {
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
    let mut shape_of = |part: &Value| part["shape"].as_str().map(|_| interner.reference(part)).transpose();
    Ok(Operation {
        name: name.to_owned(),
        method: http["method"].as_str().unwrap_or("POST").to_owned(),
        path: path.to_owned(),
        query,
        input: shape_of(&source["input"])?,
        output: shape_of(&source["output"])?,
        host_prefix: source["endpoint"]["hostPrefix"].as_str().map(str::to_owned),
        actions: Vec::new(),
        traits: durward_core::Traits::default(),
        unsigned,
    })
}

/// A shape as one reference sees it: a reference may add streaming or a timestamp format.
type Key = (String, bool, Option<String>);

/// Numbers shapes in the order they are first reached from the sorted operations, so unreachable ones are left out.
struct Interner<'a> {
    id: &'a str,
    model: &'a Value,
    overlay: &'a Overlay,
    ids: BTreeMap<Key, ShapeId>,
    shapes: Vec<Option<Shape>>,
}

impl Interner<'_> {
    fn reference(&mut self, reference: &Value) -> Result<ShapeId, String> {
        let name =
            reference["shape"].as_str().ok_or_else(|| format!("{}: a reference without shape", self.id))?;
        let key = (
            name.to_owned(),
            reference["streaming"] == true,
            reference["timestampFormat"].as_str().map(str::to_owned),
        );
        if let Some(known) = self.ids.get(&key) {
            return Ok(*known);
        }
        let id = self.shapes.len();
        self.shapes.push(None);
        self.ids.insert(key.clone(), id as ShapeId);
        let kind = self.kind(&key)?;
        let source = &self.model["shapes"][name];
        let shape = Shape { kind, sensitive: source["sensitive"] == true };
        if let Some(slot) = self.shapes.get_mut(id) {
            *slot = Some(shape);
        }
        Ok(id as ShapeId)
    }

    fn kind(&mut self, (name, streaming, format): &Key) -> Result<ShapeKind, String> {
        let source = &self.model["shapes"][name.as_str()];
        let located = |part: &Value| part["locationName"].as_str().map(str::to_owned);
        let flattened = source["flattened"] == true;
        Ok(match source["type"].as_str().unwrap_or_default() {
            "structure" if source["eventstream"] == true => ShapeKind::EventStream,
            "structure" if source["document"] == true => ShapeKind::Document,
            "structure" => ShapeKind::Structure {
                members: self.members(name)?,
                payload: source["payload"].as_str().map(str::to_owned),
                union: source["union"] == true,
            },
            "list" => ShapeKind::List {
                member: self.reference(&source["member"])?,
                item_name: located(&source["member"]),
                flattened,
            },
            "map" => ShapeKind::Map {
                key: self.reference(&source["key"])?,
                value: self.reference(&source["value"])?,
                key_name: located(&source["key"]),
                value_name: located(&source["value"]),
                flattened,
            },
            "string" | "character" => ShapeKind::String,
            "blob" => ShapeKind::Blob { streaming: *streaming || source["streaming"] == true },
            "boolean" => ShapeKind::Boolean,
            "integer" => ShapeKind::Integer,
            "long" => ShapeKind::Long,
            "float" => ShapeKind::Float,
            "double" => ShapeKind::Double,
            "timestamp" => ShapeKind::Timestamp {
                format: format.clone().or_else(|| source["timestampFormat"].as_str().map(str::to_owned)),
            },
            other => return Err(format!("{}: shape {name} has the unknown type {other:?}", self.id)),
        })
    }

    fn members(&mut self, structure: &str) -> Result<Vec<Member>, String> {
        let model = self.model;
        let source = &model["shapes"][structure];
        let required =
            |name: &str| source["required"].as_array().is_some_and(|list| list.iter().any(|one| one == name));
        let mut members = Vec::new();
        for (name, reference) in source["members"].as_object().into_iter().flatten() {
            let wire = reference["locationName"].as_str();
            members.push(Member {
                name: name.clone(),
                wire_name: wire.filter(|wire| wire != name).map(str::to_owned),
                ec2_name: reference["queryName"].as_str().map(str::to_owned),
                shape: self.reference(reference)?,
                location: location(reference)
                    .ok_or_else(|| format!("{}: {structure}.{name}: unknown location", self.id))?,
                required: required(name),
                sensitive: reference["sensitive"] == true
                    || self.overlay.is_sensitive(self.id, structure, name),
                flattened: reference["flattened"] == true,
                xml_attribute: reference["xmlAttribute"] == true,
            });
        }
        Ok(members)
    }

    fn finish(self) -> Result<Vec<Shape>, String> {
        let count = self.shapes.len();
        let shapes: Vec<Shape> = self.shapes.into_iter().flatten().collect();
        if shapes.len() == count {
            Ok(shapes)
        } else {
            Err(format!("{}: a shape was numbered, not read", self.id))
        }
    }
}

fn location(reference: &Value) -> Option<Location> {
    Some(match reference["location"].as_str() {
        None => Location::Body,
        Some("uri") => Location::Uri,
        Some("querystring") => Location::Query,
        Some("header") => Location::Header,
        Some("headers") => Location::Headers,
        Some("statusCode") => Location::StatusCode,
        Some(_) => return None,
    })
}
