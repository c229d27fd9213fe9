//! Masking of parsed JSON: parameters of requests for recordings, arguments of MCP tools.

use serde_json::Value;

use crate::class::DataClass;
use crate::detect::Masker;
use crate::names::{Hint, names_a_sibling};
use crate::scan::{Context, Scan};
use crate::{Hit, Reveal};

impl Masker {
    /// Masks in place what stands at the JSON Pointers, whole, and what the detectors find in the rest. A pointer that
    /// leads nowhere is passed over: optional parameters are often absent.
    pub fn mask_value(&self, value: &mut Value, pointers: &[String], reveal: Reveal<'_>) -> Vec<Hit> {
        let mut scan = Scan::new(self, reveal);
        if !pointers.is_empty() && scan.masks(DataClass::AWS_SENSITIVE) {
            for pointer in pointers {
                if let Some(marked) = value.pointer_mut(pointer) {
                    mask_whole(marked, &mut scan);
                }
            }
        }
        look(value, Hint::None, &mut scan);
        scan.into_hits()
    }
}

fn mask_whole(value: &mut Value, scan: &mut Scan<'_>) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => {
            *flag = false;
            scan.count(&DataClass::AWS_SENSITIVE);
        }
        Value::Number(number) => {
            *number = 0.into();
            scan.count(&DataClass::AWS_SENSITIVE);
        }
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => *text = scan.word(&DataClass::AWS_SENSITIVE),
        Value::Array(items) => items.iter_mut().for_each(|item| mask_whole(item, scan)),
        Value::Object(members) => members.values_mut().for_each(|member| mask_whole(member, scan)),
    }
}

fn look(value: &mut Value, hint: Hint, scan: &mut Scan<'_>) {
    match value {
        Value::String(text) => {
            if let Some(masked) = scan.text(text.as_bytes(), Context { key_id: false, hint }) {
                *text = String::from_utf8_lossy(&masked).into_owned();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| look(item, hint, scan)),
        Value::Object(members) => {
            let sibling = members
                .iter()
                .filter(|(key, _)| names_a_sibling(key.as_bytes()))
                .find_map(|(_, value)| value.as_str().map(|name| Hint::of_name(name.as_bytes())))
                .unwrap_or_default();
            let mut renamed = Vec::new();
            for (key, member) in members.iter_mut() {
                look(member, Hint::of_name(key.as_bytes()).or(sibling).or(hint), scan);
                if let Some(masked) = scan.text(key.as_bytes(), Context::default()) {
                    renamed.push((key.clone(), String::from_utf8_lossy(&masked).into_owned()));
                }
            }
            for (key, masked) in renamed {
                if let Some(member) = members.remove(&key) {
                    let key = scan.distinct_key(masked);
                    members.insert(key, member);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
